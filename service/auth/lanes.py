"""The queues in front of the store: who stands in them, and how many of those may be served at the same time.

Times are seconds on the injected clock.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from service.auth.entry import CacheEntry

__all__ = ["Lane", "Load"]

_RECENT: Final = 32
"""Look-ups after which what was found before them hardly counts."""
_FLOOD: Final = 0.5
"""The share of look-ups that found nothing from which on it is a flood."""
_TURNS_IN_FLOOD: Final = 4
"""So many at a time then: known keys would wait behind more of them for a connection (10 to Postgres, 20 to Redis)."""


class Load:
    """One look-up, from its place in the queue to its end."""

    __slots__ = ("api_key", "context", "given_up", "has_begun", "lane", "limit", "task", "waiters", "wanted")

    task: asyncio.Task[None]
    limit: asyncio.TimerHandle

    def __init__(self, api_key: str, lane: Lane) -> None:
        self.api_key = api_key
        self.lane = lane
        self.context = copy_context()
        """Of whoever asked first: the turn may be given in somebody else's."""
        self.waiters: set[asyncio.Future[CacheEntry | Exception | None]] = set()
        self.wanted = False
        """Also where nobody waits: it is for those who come later."""
        self.has_begun = False
        """Its turn has come, and with it what has no value here: the store may be reading the key already."""
        self.given_up = False
        """What it may still bring counts for nothing."""


class Lane:
    """A queue whose first ``turns`` may be served at the same time.

    At most ``burst`` look-ups may find nothing after a quiet while, and in the long run ``rate`` a second. With such a
    bound it is paced while most find nothing.
    """

    __slots__ = (
        "_burst",
        "_counted_at",
        "_left",
        "_nothing",
        "_rate",
        "_turns",
        "_turns_in_flood",
        "paused",
        "queue",
        "running",
        "waiting",
    )

    def __init__(self, turns: int, *, rate: float = 0.0, burst: float = math.inf) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._counted_at = 0.0
        self._nothing = 0.0
        """The share of the latest look-ups that found nothing."""
        self._turns = turns
        self._turns_in_flood = min(turns, _TURNS_IN_FLOOD)
        self.paused = False
        """Whoever stands first waits, though turns are free."""
        self.queue: OrderedDict[str, Load] = OrderedDict()
        self.running = 0
        self.waiting = 0

    def admits(self, now: float) -> bool:
        """Whether one more may join the queue. It counts by what it finds: many new keys at once may all be honest.

        Those who stand in it already are taken to find what the latest ones found. Any thread: it only looks.
        """
        expected = self._nothing * (len(self.queue) + self.running)
        return self._left + (now - self._counted_at) * self._rate - expected >= 1

    def has_turn(self) -> bool:
        """Whether the first in the queue may be served."""
        return not self.paused and self.running < (self._turns_in_flood if self.is_paced() else self._turns)

    def is_paced(self) -> bool:
        """Whether there is a pause after each turn, so that a flood's look-ups leave the loop to whoever the cache knows."""
        return self._nothing >= _FLOOD and self._burst < math.inf

    def found(self, *, nothing: bool, now: float) -> None:
        """What one of its look-ups found: a key, or that nobody has it."""
        self._nothing += (nothing - self._nothing) / _RECENT
        if nothing:
            self._spend(1.0, now)

    def left(self, now: float) -> None:
        """Somebody had no turn in time, who is taken to have found what the latest ones did: there is no room for more."""
        self._spend(self._nothing, now)

    def _spend(self, part: float, now: float) -> None:
        left = min(self._burst, self._left + (now - self._counted_at) * self._rate) - part
        self._counted_at, self._left = now, left  # in this order: who looks in between must not see too much
