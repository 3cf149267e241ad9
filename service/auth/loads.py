"""Look-ups of what the cache does not know: one at a time for each key, a few at a time in all, the rest in a queue.

Nobody waits longer than their budget, whatever the store does, and a turn whose callers have all left is not taken. Known
keys have a queue of their own, which is served first, and turns that strangers never get. Belongs to one event loop, but
for ``turns_away``.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from backends.errors import StoreError, StoreUnavailable
from service.auth.lanes import Lane, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from service.auth.clock import Clock
    from service.auth.entry import CacheEntry
    from service.observe.metrics import Metrics

__all__ = ["LOAD_LIMIT", "Loads", "Overloaded"]

LOAD_LIMIT: Final = 5.0
"""Seconds after which a look-up is given up, whoever waits."""

_NOTHING_RATE: Final = 200.0
"""Look-ups a second that may find no key, in the long run: a flood of made-up ones must leave the loop to those who have one."""

_NOTHING_BURST: Final = 150
"""And so many after a quiet while: what ``_PACE`` gets through within the default budget of a request, on an idle loop."""

_PACE: Final = 0.001
"""Seconds between two turns of strangers while most of them find nothing; one costs the loop a quarter of it."""

_CLOSE_LIMIT: Final = 1.0  # seconds

_log = structlog.get_logger(__name__)


class Overloaded(Exception):
    """So many look-ups wait that this one was refused at once, or had no turn in time. The store was not asked."""


class Loads:
    """``read`` asks the store. ``max_loads`` are under way at a time, a quarter of them for known keys alone.

    ``max_waiting`` callers may wait for strangers' look-ups, and as many for those of known keys.
    """

    def __init__(
        self,
        read: Callable[[Load], Coroutine[Any, Any, CacheEntry]],
        *,
        clock: Clock,
        metrics: Metrics,
        max_loads: int,
        max_waiting: int,
    ) -> None:
        self._read = read
        self._clock = clock
        self._metrics = metrics
        self._max_loads = max_loads
        self._max_waiting = max_waiting
        self._known = Lane(max_loads)
        self._strangers = Lane(max_loads - max_loads // 4, rate=_NOTHING_RATE, burst=_NOTHING_BURST)
        self._loads: dict[str, Load] = {}  # whom the next caller joins
        self._running: set[Load] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._given_up: set[Load] = set()  # and not ended yet
        self._answers = 0

    def __contains__(self, api_key: str) -> bool:
        """Whether a caller would join a look-up."""
        return api_key in self._loads

    def turns_away(self, api_key: str) -> bool:
        """Whether ``wait`` would refuse a stranger at once, because too many others found nothing; counted as there.

        Any thread. A flood then costs neither a coroutine nor an exception for each of its keys.
        """
        if api_key in self._loads or self._strangers.admits(self._clock.age()):
            return False
        self._metrics.shed("misses")
        return True

    async def wait(self, api_key: str, *, known: bool, budget: float) -> CacheEntry:
        """What the look-up of the key finds, for at most ``budget`` seconds.

        Leaving early (deadline or cancellation) never cancels a look-up. Raises what it raised, ``StoreUnavailable`` where
        the store does not answer in time, ``Overloaded`` where there are too many others.
        """
        lane = self._known if known else self._strangers
        load = self._loads.get(api_key)
        if lane.waiting >= self._max_waiting or (load is None and not lane.admits(self._clock.age())):
            self._metrics.shed("misses")
            raise Overloaded
        if load is None:
            load = self._queue(api_key, lane)
        else:
            self._metrics.cache_coalesced()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[CacheEntry | Exception | None] = loop.create_future()
        deadline = loop.call_later(budget, _settle, waiter, None)
        answers = self._answers
        load.waiters.add(waiter)
        lane.waiting += 1
        self._start_next()
        try:
            found = await waiter
        finally:
            deadline.cancel()
            lane.waiting -= 1
            self._leave(load, waiter)
        if found is None:
            if not load.has_begun and self._answers > answers:
                lane.left(self._clock.age())
                self._metrics.shed("loads")
                raise Overloaded
            raise StoreUnavailable("the store did not answer in time")
        if isinstance(found, Exception):
            raise found
        return found

    def refresh(self, api_key: str) -> None:
        """Read a known key again though nobody waits for it; where too many wait already, another time."""
        load = self._loads.get(api_key)
        if load is None:
            if len(self._known.queue) >= self._max_waiting:
                return
            load = self._queue(api_key, self._known)
        load.wanted = True
        self._start_next()

    def forget(self, api_key: str) -> None:
        """The key has changed: nobody joins a look-up any more that may have read it before."""
        load = self._loads.get(api_key)
        if load is not None and load.has_begun:
            del self._loads[api_key]

    def forget_all(self) -> None:
        """Likewise of every key."""
        self._loads = {api_key: load for api_key, load in self._loads.items() if not load.has_begun}

    async def close(self) -> None:
        """Tell all who wait, and cancel what is under way; bounded, because a driver may ignore the cancellation."""
        for lane in (self._known, self._strangers):
            while lane.queue:
                self._finish(lane.queue.popitem()[1], StoreUnavailable("the look-up was given up"))
        for load in list(self._running):
            self._give_up(load)
        if self._pause is not None:
            self._pause.cancel()
            self._strangers.paused = False
        tasks = [load.task for load in self._given_up]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_LIMIT)

    # -- turns --------------------------------------------------------------------------------------------------------

    def _queue(self, api_key: str, lane: Lane) -> Load:
        load = self._loads[api_key] = lane.queue[api_key] = Load(api_key, lane)
        return load

    def _leave(self, load: Load, waiter: asyncio.Future[CacheEntry | Exception | None]) -> None:
        """A look-up that has had no turn yet is gone with the last who waited for it."""
        load.waiters.discard(waiter)
        if not load.has_begun and not load.waiters and not load.wanted:
            load.lane.queue.pop(load.api_key, None)
            self._forget(load)

    def _start_next(self) -> None:
        """Give turns to who stands first for as long as there are any."""
        for lane in (self._known, self._strangers):
            while lane.queue and lane.has_turn() and self._has_room():
                self._start(lane.queue.popitem(last=False)[1])

    def _has_room(self) -> bool:
        """A driver may hang for longer than its cancellation; such look-ups stay counted, because they are bounded too."""
        running = len(self._running)
        return running < self._max_loads and running + len(self._given_up) < 2 * self._max_loads

    def _start(self, load: Load) -> None:
        loop = asyncio.get_running_loop()
        self._running.add(load)
        load.lane.running += 1
        load.has_begun = True
        load.task = loop.create_task(self._run(load), name="gatekey-load", context=load.context)
        load.limit = loop.call_later(LOAD_LIMIT, self._give_up, load)
        if load.lane.is_paced():
            load.lane.paused = True
            self._pause = loop.call_later(_PACE, self._resume, load.lane)

    def _resume(self, lane: Lane) -> None:
        lane.paused = False
        self._start_next()

    async def _run(self, load: Load) -> None:
        """Its end is told from in here, a turn of the loop earlier than by a callback of the task."""
        found: CacheEntry | Exception = StoreUnavailable("the look-up was given up")
        try:
            found = await self._read(load)
            self._answers += 1
            load.lane.found(nothing=found.loaded is None, now=self._clock.age())
        except StoreUnavailable as error:
            found = error
        except Exception as error:  # noqa: BLE001 - whatever breaks is for those who wait to hear
            self._answers += 1
            found = error
            if not isinstance(error, StoreError):
                _log.error("load_failed", error_type=type(error).__name__)
        finally:
            if not load.given_up:
                self._end(load, found)

    def _give_up(self, load: Load) -> None:
        """It takes too long: the next caller asks anew."""
        load.given_up = True
        self._given_up.add(load)
        load.task.add_done_callback(partial(self._gone, load))
        load.task.cancel()
        self._end(load, StoreUnavailable("the look-up was given up"))

    def _gone(self, load: Load, _: asyncio.Task[None]) -> None:
        self._given_up.discard(load)
        self._start_next()

    def _end(self, load: Load, found: CacheEntry | Exception) -> None:
        """Its turn is over."""
        load.limit.cancel()
        self._running.discard(load)
        load.lane.running -= 1
        self._finish(load, found)
        self._start_next()

    def _finish(self, load: Load, found: CacheEntry | Exception) -> None:
        self._forget(load)
        for waiter in load.waiters:
            _settle(waiter, found)

    def _forget(self, load: Load) -> None:
        if self._loads.get(load.api_key) is load:  # not its successor's place
            del self._loads[load.api_key]


def _settle(waiter: asyncio.Future[CacheEntry | Exception | None], found: CacheEntry | Exception | None) -> None:
    if not waiter.done():
        waiter.set_result(found)
