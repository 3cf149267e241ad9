"""The queues in front of the store: who stands in them, and how many of those may be served at the same time.

What is measured here is time on the injected clock, so that a test can say how slow everything is.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from service.auth.entry import CacheEntry

__all__ = ["Lane", "Load"]

_LAG: Final = 0.002  # seconds that a cached decision may wait for the loop because of look-ups
_WEIGHT: Final = 8  # of what was before, in the pace


class Load:
    """One look-up, from its place in the queue to its end."""

    __slots__ = ("api_key", "begun_at", "given_up", "has_begun", "lane", "limit", "task", "waiters", "wanted")

    task: asyncio.Task[None]
    limit: asyncio.TimerHandle
    begun_at: float

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
    """A queue whose first ``turns`` may be served at the same time: ``most``, and fewer while the loop is late."""

    __slots__ = ("_ended_at", "_most", "_pace", "_was_full", "queue", "running", "turns", "waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._pace = 0.0
        self._ended_at = 0.0
        self._was_full = False
        self.turns = most
        self.queue: OrderedDict[str, Load] = OrderedDict()
        self.running = 0
        self.waiting = 0

    def began_late(self, lag: float) -> None:
        """A look-up began ``lag`` seconds after its turn had come: so late is everything on this loop, hits too."""
        if lag > _LAG:
            self.turns = max(1, self.turns // 2)
        elif self.turns < self._most:
            self.turns += 1

    def ended(self, now: float) -> None:
        """One of its look-ups is over; how fast they follow one another while others wait is the pace."""
        if self._was_full:
            self._pace += (now - self._ended_at - self._pace) / _WEIGHT
        self._ended_at = now
        self._was_full = bool(self.queue)

    def is_hopeless(self, budget: float) -> bool:
        """Whether a newcomer's turn would come too late at the present pace: better told now than then."""
        return len(self.queue) * self._pace > budget
