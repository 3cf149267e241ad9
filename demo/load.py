"""A small load through the proxy: known keys mostly, and what else comes along (no key, a wrong secret, unknown, expired).

One request after the other on one connection a site, so that it never asks for more than it is told to.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Site", "guess", "read_keys"]

_SPEED: Final = 8.0  # requests a second to each site
_TIMEOUT: Final = 5.0  # seconds that an answer may take
_MANAGED: Final = 5.0  # seconds between two changes of a key
_TOLD: Final = 60.0  # seconds between two lines about what was answered
_FRESH: Final = 10.0  # seconds without an answer after which it is not healthy
_MIX: Final = {"known": 85, "none": 4, "unknown": 4, "wrong secret": 4, "refused": 3}  # in a hundred
_REFUSED: Final = ("globex-expired", "initech-stopped")


class Site:
    """One address behind the proxy; ``host`` is what clients call it, which need not be where it is."""

    def __init__(self, host: str, address: str) -> None:
        self.host = host
        name, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(name, int(port), timeout=_TIMEOUT)

    def ask(self, path: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes | None = None) -> int:
        """The status of the answer, 0 where there is none."""
        try:
            self._connection.request(method, path, body, {"Host": self.host, **headers})
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next one connects anew
            return 0
        return answer.status

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


def read_keys(path: Path) -> dict[str, str]:
    """Names and secrets of an import file."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["api_key"]: line["secret_token"] for line in lines}


def key_headers(api_key: str, secret: str) -> dict[str, str]:
    """A credential as clients send it."""
    return {"X-Api-Key": api_key, "X-Secret-Token": secret}


def guess() -> dict[str, str]:
    """A credential that nobody has."""
    return key_headers(f"guess-{secrets.token_hex(8)}", secrets.token_hex(16))


def _next(keys: Mapping[str, str], known: Sequence[str]) -> dict[str, str]:
    """Most requests carry a key that passes."""
    (kind,) = random.choices(tuple(_MIX), weights=tuple(_MIX.values()))  # noqa: S311 - what comes next is no secret
    name = random.choice(_REFUSED if kind == "refused" else known)  # noqa: S311 - likewise
    if kind == "none":
        return {}
    if kind == "unknown":
        return guess()
    return key_headers(name, "somebody-else's" if kind == "wrong secret" else keys[name])


def _rename(manager: Site, keys: Mapping[str, str], name: str) -> None:
    """A change that every process hears of."""
    operator = key_headers("operator", keys["operator"])
    body = json.dumps({"name": f"seen {time.strftime('%H:%M:%S', time.gmtime())}"}).encode()
    manager.ask(f"/v1/keys/{name}", {**operator, "Content-Type": "application/json"}, method="PATCH", body=body)


def run(keys: Mapping[str, str], sites: Sequence[Site], managers: Sequence[Site], heartbeat: Path | None) -> None:
    """Until a signal ends it."""
    stopped = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopped.set())
    known = [name for name in keys if name.rpartition("-")[2].isdigit()]
    answers: Counter[int] = Counter()
    due = managed = told = time.monotonic()
    while not stopped.wait(max(0.0, due - time.monotonic())):
        now = time.monotonic()
        due = max(due + 1 / _SPEED, now - 1)  # what could not be sent in time is not made up for
        statuses = [site.ask("/orders", _next(keys, known)) for site in sites]
        answers.update(statuses)
        if heartbeat is not None and any(statuses):
            heartbeat.touch()
        if now - managed > _MANAGED:
            managed = now
            for manager in managers:
                _rename(manager, keys, random.choice(known))  # noqa: S311 - likewise
        if now - told > _TOLD:
            told = now
            print("load:", ", ".join(f"{count} x {status}" for status, count in sorted(answers.items())), flush=True)
            answers.clear()


def _site(text: str) -> Site:
    host, _, address = text.partition("=")
    return Site(host, address or host)


def main(arguments: Sequence[str]) -> int:
    """What the container ``load`` and ``make demo`` run."""
    parser = argparse.ArgumentParser(description="Ask the demo's sites until a signal comes.")
    parser.add_argument("--keys", type=Path, required=True, help="an import file with secrets")
    parser.add_argument(
        "--site", type=_site, action="append", default=[], metavar="HOST[=ADDRESS]", help="behind the proxy"
    )
    parser.add_argument("--manage", type=_site, action="append", default=[], metavar="ADDRESS", help="Gatekey itself")
    parser.add_argument("--heartbeat", type=Path, help="a file that is touched with each answer")
    parser.add_argument("--healthy", action="store_true", help="only tell whether the heartbeat is fresh")
    chosen = parser.parse_args(arguments)
    if chosen.healthy:
        beat: Path = chosen.heartbeat
        return 0 if beat.exists() and time.time() - beat.stat().st_mtime < _FRESH else 1
    run(read_keys(chosen.keys), chosen.site, chosen.manage, chosen.heartbeat)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
