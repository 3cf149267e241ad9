"""A real ``gatekey serve`` with given keys and policies, and everything it logged up to now."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import raw_http
from tests.support.servers import GatekeyServer, gatekey, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Front:
    """The running service, asked over raw sockets."""

    def __init__(self, server: GatekeyServer) -> None:
        self.server = server
        self._read = 0
        self._marks = 0
        self._asked = False

    @property
    def port(self) -> int:
        """Where it listens; whoever takes it is about to ask something."""
        self._asked = True
        return self.server.port

    def forget(self) -> None:
        """Let ``events`` begin here; costs nothing where everything was read already."""
        if self._asked:
            self.events()

    def events(self) -> list[dict[str, Any]]:
        """The lines logged since this was last called; complete, because lines are written in order."""
        self._marks += 1
        mark = f"the-last-request-{self._marks}"
        raw_http.request(self.port, "GET", "/auth/forward/default", [("Host", "h"), ("X-Request-Id", mark)])
        wait_until(lambda: any(mark in line for line in self.server.lines[self._read :]), "the last line is logged")
        found = self.server.events[self._seen() :]
        self._read = len(self.server.lines)
        self._asked = False
        return [event for event in found if event.get("request_id") != mark]

    def _seen(self) -> int:
        return sum(line.startswith("{") for line in self.server.lines[: self._read])


@contextmanager
def running_front(
    lines: Iterable[bytes] = (), *, policies: str = "", env: dict[str, str] | None = None
) -> Iterator[Front]:
    """The service on its RSGI front; floods are not summarized unless ``env`` says so."""
    with tempfile.TemporaryDirectory() as folder:
        keys, config = Path(folder) / "keys.jsonl", Path(folder) / "gatekey.toml"
        keys.write_bytes(b"".join(lines))
        config.write_text(policies)
        settings = {"GATEKEY_CONFIG": str(config), "GATEKEY_LOG_SUMMARIZE": "off", **(env or {})}
        with gatekey("--import", str(keys), env=settings) as server:
            yield Front(server)
