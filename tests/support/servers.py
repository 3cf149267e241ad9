"""A real ``gatekey serve`` process on a free loopback port, with its output at hand; stopped by its own process id."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tests.support import leaks, raw_http
from tests.support.keys import DOMAIN, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
PAGES = ("/metrics", "/openapi.json", "/readyz", "/livez")
"""What anybody near the service may read without a key."""
DEADLINE = 30.0  # seconds that anything may take before a test gives up on it


def free_port() -> int:
    """A port on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], what: str, *, deadline: float = DEADLINE) -> None:
    """Return when ``condition`` holds; fails the test, naming ``what``, when it does not within ``deadline`` seconds."""
    until = time.monotonic() + deadline
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, f"gave up waiting until {what}"
        pause.wait(0.02)


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def search_pages(port: int) -> None:
    """Fail when a secret of the tests stands in a public page; a process that does not answer here is left alone."""
    for page in PAGES:
        try:
            answer = raw_http.request(port, "GET", page, [("Host", "localhost"), ("Connection", "close")])
        except (OSError, ValueError):  # it listens elsewhere, or speaks TLS
            return
        leaks.check(answer.body.decode("utf-8", "backslashreplace"), f"the page {page} of a served process")


class Process:
    """A child process whose output (both streams, in the order written) is read by a thread and kept as lines."""

    printed_secrets: tuple[str, ...] = ()
    """Secrets that it prints on purpose (``serve --demo`` shows the published one)."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal of the tests ends the tests, which then end this
        )
        self.pid = self._process.pid
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))

    @property
    def lines(self) -> list[str]:
        """What was printed so far."""
        return list(self._lines)

    @property
    def returncode(self) -> int | None:
        """The exit status, ``None`` while it runs."""
        return self._process.poll()

    def send_signal(self, signum: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(signum)

    def wait(self, deadline: float = DEADLINE) -> int:
        """The exit status, once it has ended and all its output is read."""
        code = self._process.wait(deadline)
        self._reader.join(deadline)
        return code

    def stop(self, signum: signal.Signals = signal.SIGTERM, *, deadline: float = DEADLINE) -> int:
        """End it (with its whole group if it does not end in time) and return its exit status."""
        if self._process.poll() is None:
            self.send_signal(signum)
        try:
            code = self.wait(deadline)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()
            raise
        finally:
            leaks.check(
                "\n".join(self._lines), f"the output of process {self._process.args!r}", allowed=self.printed_secrets
            )
        return code


class GatekeyServer(Process):
    """``gatekey serve``; ``base`` is its address, ``events`` what it logged."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        settings = {"GATEKEY_DRAIN": "0", **(env or {})}
        self.port = int(settings.setdefault("GATEKEY_PORT", str(free_port())))
        self.base = f"http://127.0.0.1:{self.port}"
        if "--demo" in arguments:
            self.printed_secrets = ("demo-secret",)
        command = [sys.executable, "-m", "service", "serve", *arguments]
        super().__init__(command, env={**clean_environment(), **settings}, cwd=cwd or ROOT)

    def wait_ready(self) -> None:
        """Return once the first worker accepts connections (the start's last line says so)."""
        wait_until(
            lambda: any(line.startswith("Gatekey listens on") for line in self._lines) or self.returncode is not None,
            "the service listens",
        )
        assert self.returncode is None, f"the service has ended:\n{self._output()}"

    def _output(self) -> str:
        return "\n".join(self._lines)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines logged so far."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def decisions(self, count: int, **fields: Any) -> list[dict[str, Any]]:
        """The ``auth.decision`` lines with these fields, once there are at least ``count`` of them."""

        def found() -> list[dict[str, Any]]:
            return [
                event
                for event in self.events
                if event["event"] == "auth.decision" and all(event[name] == value for name, value in fields.items())
            ]

        wait_until(lambda: len(found()) >= count, f"{count} decisions with {fields} are logged")
        return found()


def clean_environment() -> dict[str, str]:
    """This process's environment without any of Gatekey's settings, importing from this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEKEY_", "COV_CORE_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@contextmanager
def gatekey(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Iterator[GatekeyServer]:
    """A running service; its exit status must be 0 at the end, and its public pages without a secret."""
    server = GatekeyServer(*arguments, env=env, cwd=cwd)
    try:
        server.wait_ready()
        yield server
        if server.returncode is None:
            search_pages(server.port)
    finally:
        code = server.stop()
    assert code == 0, server.lines[-20:]


def key_line(api_key: str, *, secret: str = SECRET, **fields: Any) -> bytes:
    """One line of an import file; the defaults are those of ``tests.support.keys.make_key``."""
    leaks.register(secret)
    line = {"organization_id": "acme", "api_key": api_key, "secret_token": secret, "domains": [DOMAIN], **fields}
    return orjson.dumps(line) + b"\n"
