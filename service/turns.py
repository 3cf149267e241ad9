"""Whether the threads of a busy worker take turns, or interrupt one another as Linux usually lets them.

Each answer wakes Granian's I/O thread, and being woken it takes the core from the thread that decides, for the sake of
one answer. Under ``SCHED_BATCH`` nobody is interrupted by being woken: on a core of its own a worker then answers nearly
twice as much. Beside busy neighbours it would wait for them too, for milliseconds; so the policy is for a worker that
has a core nearly to itself and needs it, and for as long as it does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

__all__ = ["Turns"]

_INTERVAL: Final = 0.25  # seconds between two looks
_BUSY: Final = 0.75
"""The share of a core from which turns are worth it. Beside a neighbour with equal rights a worker cannot get that much."""
_CALM: Final = 0.3
"""And below which they are not any more: less than half of ``_BUSY``, because turns nearly halve what the same load takes."""


def _threads() -> Iterable[int]:
    return [int(path.name) for path in Path("/proc/self/task").iterdir()]


class Turns:
    """The policy of this process' threads. ``cpu_seconds``, of all threads so far, and ``now`` are for tests."""

    def __init__(
        self,
        *,
        cpu_seconds: Callable[[], float] = time.process_time,
        now: Callable[[], float] = time.monotonic,
        threads: Callable[[], Iterable[int]] = _threads,
    ) -> None:
        self._cpu_seconds = cpu_seconds
        self._now = now
        self._threads = threads
        self._taken = False
        self._before = (cpu_seconds(), now())

    def start(self) -> None:
        """Look after it for as long as the process lives; nothing where a policy was chosen for it, or not on Linux."""
        if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
            threading.Thread(target=self._run, name="gatekey-turns", daemon=True).start()

    def look(self) -> None:
        """Set the policy by what the process used since the last look."""
        used, at = self._cpu_seconds(), self._now()
        share = (used - self._before[0]) / (at - self._before[1])
        self._before = used, at
        taken = share >= (_CALM if self._taken else _BUSY)
        if taken is not self._taken:
            self._taken = taken
            self._set(os.SCHED_BATCH if taken else os.SCHED_OTHER)

    def _set(self, policy: int) -> None:
        """Threads that begin later have it from the one that began them."""
        for thread in self._threads():
            with suppress(OSError):  # it has ended, or a sandbox forbids it: only the speed is lost
                os.sched_setscheduler(thread, policy, os.sched_param(0))

    def _run(self) -> NoReturn:
        while True:
            time.sleep(_INTERVAL)
            self.look()
