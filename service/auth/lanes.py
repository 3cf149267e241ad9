"""The queues in front of the store: who stands in them, and how many of those may be served at the same time.

What is measured here is time on the injected clock, so that a test can say how slow everything is.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from service.auth.entry import CacheEntry

__all__ = ["Lane", "Load"]


class Load:
    """One look-up, from its place in the queue to its end."""

    __slots__ = ("api_key", "given_up", "has_begun", "lane", "limit", "task", "waiters", "wanted")

    task: asyncio.Task[None]
    limit: asyncio.TimerHandle

    def __init__(self, api_key: str, lane: Lane) -> None:
        self.api_key = api_key
        self.lane = lane
        self.waiters: set[asyncio.Future[CacheEntry | Exception | None]] = set()
        self.wanted = False
        """Also where nobody waits: it is for those who come later."""
        self.has_begun = False
        """Its turn has come, and with it what has no value here: the store may be reading the key already."""
        self.given_up = False
        """What it may still bring counts for nothing."""


class Lane:
    """A queue whose first ``turns`` may be served at the same time.

    Where ``rate`` is given, so many may come a second in the long run, and at most ``burst`` at once after a quiet while.
    """

    __slots__ = ("_ahead", "_full_at", "_interval", "queue", "running", "turns", "waiting")

    def __init__(self, turns: int, *, rate: float = math.inf, burst: int = 0) -> None:
        self._interval = 1 / rate
        self._ahead = burst * self._interval
        self._full_at = -math.inf
        self.turns = turns
        self.queue: OrderedDict[str, Load] = OrderedDict()
        self.running = 0
        self.waiting = 0

    def admits(self, now: float) -> bool:
        """Whether one more may join the queue, which is counted then."""
        full_at = max(self._full_at, now) + self._interval
        if full_at - now > self._ahead:
            return False
        self._full_at = full_at
        return True
