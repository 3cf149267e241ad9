"""Time as a dependency: a wall clock that never runs backwards within a process, and a clock for ages."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the decision, the cache and the logs read time from."""

    def wall(self) -> float:
        """Seconds since the Unix epoch; never less than an earlier answer of the same process."""

    def age(self) -> float:
        """Seconds on a clock for ages that goes on while the machine sleeps and ignores changes of the wall clock."""

    def now(self) -> datetime:
        """``wall`` as an aware UTC time."""


class SystemClock:
    """The machine's clocks. ``CLOCK_BOOTTIME`` (Linux) counts a suspended machine's sleep, where ``monotonic`` stops."""

    def __init__(self) -> None:
        self._latest = 0.0
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        if boottime is None:
            self.age = time.monotonic
        else:
            self.age = partial(time.clock_gettime, boottime)  # half the price of a function around it

    def wall(self) -> float:
        """See ``Clock.wall``: a wall clock set back must not bring an expired key to life (unlocked: a race loses nothing)."""
        now = time.time()
        if now < self._latest:
            return self._latest
        self._latest = now
        return now

    def now(self) -> datetime:
        """See ``Clock.now``."""
        return datetime.fromtimestamp(self.wall(), UTC)
