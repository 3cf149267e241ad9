"""What can be broken in a running demo, and how it is mended; each lasts for some seconds and ends with Ctrl-C too."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from demo.load import Site, guess
from demo.parts import Failure, children, run, signal_family
from demo.state import runs

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from demo.state import State

__all__ = ["FAULTS", "Broken"]

_GUESSES: Final = 100  # a second


class Broken:
    """One demo, and what a fault needs of it."""

    def __init__(self, state: State, environ: Mapping[str, str], ended: threading.Event) -> None:
        self.state = state
        self.environ = environ
        self.ended = ended
        """Set when the fault is to end early."""

    def pid(self, name: str) -> int:
        """Of a part that still runs: its number may be a stranger's by now."""
        pid, started = self.state.processes[name]
        if not runs(pid, started):
            raise Failure(f"{name} does not run any more")
        return pid

    def site(self) -> Site:
        """A client's connection to the proxy."""
        address = urlsplit(self.state.addresses["site"]).netloc
        return Site(address, address)


def store_down(broken: Broken, seconds: float) -> None:
    """Postgres stands still: whoever asks it gets no answer."""
    with _paused(broken, "postgres"):
        broken.ended.wait(seconds)


def valkey_down(broken: Broken, seconds: float) -> None:
    """Valkey stands still, and with it the other Gatekey's store."""
    with _paused(broken, "valkey"):
        broken.ended.wait(seconds)


def worker_killed(broken: Broken, seconds: float) -> None:
    """A worker of Gatekey dies as soon as it is there, again and again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not broken.ended.wait(1):
        for worker in children(broken.pid("gatekey"))[-1:]:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(worker, signal.SIGKILL)


def keys_guessed(broken: Broken, seconds: float) -> None:
    """Somebody tries keys, a hundred a second."""
    until, site, started = time.monotonic() + seconds, broken.site(), time.monotonic()
    try:
        for number in count(1):
            if time.monotonic() > until or broken.ended.wait(max(0.0, started + number / _GUESSES - time.monotonic())):
                return
            site.ask("/orders", guess())
    finally:
        site.close()


def keys_refused(broken: Broken, seconds: float) -> None:
    """The organization acme is switched off, so that its keys are refused."""
    _gatekey(broken, "orgs", "disable", "acme")
    try:
        broken.ended.wait(seconds)
    finally:
        _gatekey(broken, "orgs", "enable", "acme")


FAULTS: Final[Mapping[str, Callable[[Broken, float], None]]] = {
    "store-down": store_down,
    "valkey-down": valkey_down,
    "worker-killed": worker_killed,
    "keys-guessed": keys_guessed,
    "keys-refused": keys_refused,
}


@contextmanager
def _paused(broken: Broken, name: str) -> Iterator[None]:
    """The part's process and its children stand still."""
    signal_family(broken.pid(name), signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(Failure):  # whoever ended the demo has woken it up
            signal_family(broken.pid(name), signal.SIGCONT)


def _gatekey(broken: Broken, *words: str) -> None:
    run(f"gatekey {words[0]}", [sys.executable, "-m", "service", *words], broken.environ, cwd=Path.cwd())
