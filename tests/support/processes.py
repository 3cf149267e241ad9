"""What the tests of serving ask about processes and over the wire."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import raw_http
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import GatekeyServer, gatekey, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.raw_http import RawResponse
    from tests.support.servers import Process

DEMO = [("X-Api-Key", "demo-key"), ("X-Secret-Token", "demo-secret")]
"""What ``serve --demo`` prints."""
KEY = [("X-Api-Key", "key-one"), ("X-Secret-Token", SECRET)]
"""What ``key_line("key-one")`` imports."""
CONTEXT = [
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", DOMAIN),
    ("X-Forwarded-Uri", "/orders"),
    ("X-Forwarded-For", "192.0.2.7"),
]
HOST = [("Host", "gatekey.test")]


@contextmanager
def serving(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[GatekeyServer]:
    """``gatekey serve`` as long as the block lasts; its exit status must be 0."""
    with gatekey(*arguments, env=env) as server:
        yield server


def refused(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    """Exit status and output of a ``gatekey serve`` that cannot start."""
    server = GatekeyServer(*arguments, env=env)
    try:
        code = server.wait()
    finally:
        server.stop()
    return code, server.lines


def children(pid: int) -> list[int]:
    """The living child processes of ``pid``, oldest first."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    if listing.exists():
        return [int(child) for child in listing.read_text().split()]
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S607 - where it is differs
    pairs = (line.split() for line in done.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def replaced(server: Process, victim: int, signum: signal.Signals = signal.SIGKILL) -> int:
    """End a worker; returns the process id of the one in its place."""
    before = set(children(server.pid))
    assert victim in before
    os.kill(victim, signum)
    wait_until(lambda: set(children(server.pid)) - before and victim not in children(server.pid), "it is replaced")
    return (set(children(server.pid)) - before).pop()


def get(port: int, path: str, lines: list[tuple[str, str]] | None = None) -> RawResponse:
    """GET with a ``Host`` that says nothing."""
    return raw_http.request(port, "GET", path, [*HOST, *(lines or [])])


def at_door(port: int, lines: list[tuple[str, str]], *, policy: str = "default") -> RawResponse:
    """Ask the forward door with the whole context."""
    return raw_http.request(port, "GET", f"/auth/forward/{policy}", [*HOST, *CONTEXT, *lines])


def status(port: int, path: str = "/livez", lines: list[tuple[str, str]] | None = None) -> int:
    """The status of the answer, 0 where there is none."""
    try:
        return get(port, path, lines).status
    except OSError:
        return 0
