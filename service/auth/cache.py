"""Records in front of the store: read without I/O by any thread, changed only on the event loop.

It holds records, never verdicts. What it guards is numbered as in docs/cache.md; the rule that costs most when broken is
the second: an invalidation that arrives while a load is under way wins over that load.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from backends.errors import StoreUnavailable
from backends.records import Origin
from service.auth.entry import CacheEntry
from service.auth.loaded import LoadedKey
from service.auth.loads import LOAD_LIMIT, Loads

if TYPE_CHECKING:
    from backends.contract import KeyStore
    from service.auth.clock import Clock
    from service.auth.lanes import Load
    from service.observe.metrics import Metrics

__all__ = ["UNHEARD_OF", "KeyCache"]

_STRIPES: Final = 4096
_LINK_SILENCE: Final = 1.5  # seconds: three missing heartbeats
_UNTRUSTED_LINK_TTL: Final = 5.0  # seconds an entry stays fresh while announcements may be missing
_UNTRUSTED_REFRESH: Final = 3.0  # and after which it is read again before anybody has to wait for it
UNHEARD_OF: Final = _LINK_SILENCE + _UNTRUSTED_LINK_TTL
"""Seconds for which a change may stay without effect in a process that does not hear of it but reaches the store."""

_REREAD_INTERVAL: Final = 1.0  # seconds between fresh reads that a wrong secret may cause, per key
_SECOND_CHANCES: Final = 8


class KeyCache:
    """The TTL cache with single flight, negative entries, generations and stale answers; a ``ChangeListener``.

    What is for any thread says so; everything else belongs to the loop on which ``load`` is first called. Times are seconds.
    ``max_loads`` look-ups are under way at a time, and ``max_waiting`` callers wait for them or for their turn.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        clock: Clock,
        metrics: Metrics,
        ttl: float = 900.0,
        negative_ttl: float = 5.0,
        max_entries: int = 100_000,
        max_negative_entries: int = 10_000,
        stale_if_error: float = 300.0,
        max_loads: int = 32,
        max_waiting: int = 1_000,
        jitter: random.Random | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._max_entries = max_entries
        self._max_negative_entries = max_negative_entries
        self._stale_if_error = stale_if_error
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads refreshes, protects nothing
        self._entries: OrderedDict[str, CacheEntry] = OrderedDict()
        self._negative: OrderedDict[str, CacheEntry] = OrderedDict()
        self._loads = Loads(self._read, clock=clock, metrics=metrics, max_loads=max_loads, max_waiting=max_waiting)
        self._epoch = 0
        self._generations = [0] * _STRIPES
        self._heartbeat_at = float("-inf")  # no trust in announcements before the first sign of life
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """Number of entries held, unknown keys included."""
        return len(self._entries) + len(self._negative)

    # -- reading, any thread ------------------------------------------------------------------------------------------

    def peek(self, api_key: str) -> CacheEntry | None:
        """The entry for ``api_key`` if it may answer now; never waits, never changes the order of anything."""
        now = self._clock.age()
        entry, ttl = self._entries.get(api_key), self._ttl
        if entry is None:
            entry, ttl = self._negative.get(api_key), self._negative_ttl
            if entry is None:
                return None
        age = now - entry.loaded_at
        if age >= ttl or (age >= _UNTRUSTED_LINK_TTL and now - self._heartbeat_at > _LINK_SILENCE):
            return None
        if entry.loaded is None:
            return entry
        entry.used = True
        is_due = now >= entry.refresh_at or (
            age >= _UNTRUSTED_REFRESH and now - self._heartbeat_at > _LINK_SILENCE and entry.refresh_at > now + 1.0
        )
        if is_due:
            entry.refresh_at = now + 1.0  # whoever comes next within a second need not ask again
            self._refresh_soon(api_key)
        return entry

    def is_recent(self, entry: CacheEntry) -> bool:
        """Whether the entry is young enough to prove that a secret is wrong."""
        return self._clock.age() - entry.loaded_at <= _REREAD_INTERVAL

    def stale(self, api_key: str) -> LoadedKey | None:
        """A record past its time that may still allow while the store does not answer.

        Trust ends ``stale_if_error`` after the last sign of life on the announcing path, computed here and now: as
        long as announcements came, a revocation would have removed the entry. A critical key never gets it.
        """
        entry = self._entries.get(api_key)
        if entry is None or entry.loaded is None or entry.loaded.terms.critical:
            return None
        if self._clock.age() - self._heartbeat_at > self._stale_if_error:
            return None
        return entry.loaded

    def stale_unanswered(self, api_key: str) -> LoadedKey | None:
        """Likewise, where the store did not answer for this key a moment ago: nobody has to wait to learn it again.

        For any thread. Once a second it is asked behind the callers' backs, for as long as they come.
        """
        entry = self._entries.get(api_key)
        if entry is None:
            return None
        now = self._clock.age()
        since = now - entry.unanswered_at
        if since > 2 * _REREAD_INTERVAL:
            return None
        if since >= _REREAD_INTERVAL:
            entry.unanswered_at = now
            self._refresh_soon(api_key)
        return self.stale(api_key)

    def turns_away(self, api_key: str) -> bool:
        """Whether a look-up is refused now, before it begins: of no key that is known here. Any thread."""
        return api_key not in self._entries and self._loads.turns_away(api_key)

    def _refresh_soon(self, api_key: str) -> None:
        """Any thread."""
        loop = self._loop  # once: closing takes it away at any moment
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, so there is nobody to refresh for
                loop.call_soon_threadsafe(self._refresh, api_key)

    # -- loading, on the loop -----------------------------------------------------------------------------------------

    async def load(self, api_key: str, *, budget: float) -> CacheEntry:
        """Read the key from the store, at most once however many wait, and for at most ``budget`` seconds.

        Leaving early (deadline or cancellation) never cancels the load. Raises ``StoreUnavailable`` (also after the
        budget), ``StoreCorrupt`` or ``Overloaded``; an error goes to all who wait and is never kept.
        """
        self._loop = asyncio.get_running_loop()
        try:
            return await self._loads.wait(api_key, known=api_key in self._entries, budget=budget)
        except StoreUnavailable:
            known = self._entries.get(api_key)
            if known is not None:
                known.unanswered_at = self._clock.age()
            raise

    async def reread(self, api_key: str, entry: CacheEntry, *, budget: float) -> CacheEntry:
        """One fresh read for a secret that did not match ``entry``, at most one a second for a key.

        While the last such read failed less than a second ago, nothing is asked and ``StoreUnavailable`` is raised.
        """
        now = self._clock.age()
        if api_key not in self._loads:
            if now - entry.reread_at < _REREAD_INTERVAL:
                raise StoreUnavailable("the last fresh read of this key failed a moment ago")
            entry.reread_at = now
        return await self.load(api_key, budget=budget)

    def _refresh(self, api_key: str) -> None:
        """Read a key again before it expires, so that a hot key never makes its callers wait."""
        if api_key in self._entries:
            self._loads.refresh(api_key)

    async def _read(self, load: Load) -> CacheEntry:
        """What the store says now; kept unless the key was announced as changed since it was asked."""
        api_key = load.api_key
        stripe = hash(api_key) % _STRIPES
        generation, epoch = self._generations[stripe], self._epoch
        started = self._clock.age()
        found = await self._store.find(api_key)
        if load.given_up or self._clock.age() - started > LOAD_LIMIT:  # the process may have been paused
            raise StoreUnavailable("the store answered too late")
        entry = self._entry(None if found is None else LoadedKey(found), started)
        if generation == self._generations[stripe] and epoch == self._epoch:
            self._keep(api_key, entry)
        return entry

    def _entry(self, loaded: LoadedKey | None, started: float) -> CacheEntry:
        return CacheEntry(loaded, started, started + self._ttl * self._jitter.uniform(0.85, 0.95))

    def _keep(self, api_key: str, entry: CacheEntry) -> None:
        previous = self._entries.pop(api_key, None)
        if previous is not None and entry.loaded_at - previous.loaded_at >= self._ttl:
            self._metrics.cache_evicted("ttl")
        self._negative.pop(api_key, None)
        if entry.loaded is None:
            if len(self._negative) >= self._max_negative_entries:
                self._negative.popitem(last=False)
                self._metrics.cache_evicted("lru")
            self._negative[api_key] = entry
            return
        if len(self._entries) >= self._max_entries:
            self._evict()
        self._entries[api_key] = entry

    def _evict(self) -> None:
        """Drop the oldest entry that nobody used since it was last looked at here (second chance, bounded)."""
        for _ in range(_SECOND_CHANCES):
            api_key, entry = next(iter(self._entries.items()))
            if not entry.used:
                break
            entry.used = False
            self._entries.move_to_end(api_key)
        self._entries.popitem(last=False)
        self._metrics.cache_evicted("lru")

    # -- announcements, on the loop (ChangeListener) ------------------------------------------------------------------

    def key_changed(self, api_key: str, *, at: float | None = None, origin: Origin = Origin.KEY) -> None:
        """Forget the key, and whatever a load that is under way will find for it."""
        self._generations[hash(api_key) % _STRIPES] += 1
        self._loads.forget(api_key)  # who comes from now on gets a load of their own
        if self._entries.pop(api_key, None) is not None or self._negative.pop(api_key, None) is not None:
            self._metrics.cache_evicted("invalidated")
        self._count_invalidation(at, origin)

    def everything_changed(self, *, at: float | None = None, origin: Origin = Origin.BULK) -> None:
        """Forget everything, and whatever loads that are under way will find."""
        self._epoch += 1
        self._loads.forget_all()
        self._entries = OrderedDict()
        self._negative = OrderedDict()
        self._count_invalidation(at, origin)

    def _count_invalidation(self, at: float | None, origin: Origin) -> None:
        self._metrics.invalidated(origin)
        if at is not None:
            self._metrics.invalidation_delay(max(0.0, self._clock.wall() - at))

    def link_is_up(self) -> bool:
        """Whether announcements arrive: the last heartbeat was sent at most 1.5 s ago."""
        return self._clock.age() - self._heartbeat_at <= _LINK_SILENCE

    def heartbeat(self, *, delay: float = 0.0) -> None:
        """Announcements up to ``delay`` seconds ago have arrived: a paused process finds old heartbeats waiting for it."""
        self._heartbeat_at = max(self._heartbeat_at, self._clock.age() - delay)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Cancel what is still loading; bounded, because a driver may ignore the cancellation."""
        self._loop = None  # no refresh is asked for any more
        await self._loads.close()


if TYPE_CHECKING:
    from backends.contract import ChangeListener

    def _conforms(cache: KeyCache) -> ChangeListener:
        return cache
