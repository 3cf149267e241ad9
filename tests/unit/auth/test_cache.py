"""The rules of the cache, by their numbers in docs/cache.md; each test fails when its rule is broken."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreCorrupt, StoreUnavailable
from backends.records import FoundKey, KeyState, Origin
from service.auth.cache import KeyCache
from service.auth.loads import Overloaded
from service.observe.metrics import Metrics
from tests.support.clock import START, FakeClock
from tests.support.keys import make_key, make_organization
from tests.support.settle import settle
from tests.support.stores import GatedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.auth.entry import CacheEntry

pytestmark = pytest.mark.usefixtures("watched")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(store="memory", version="test")


@pytest.fixture
async def store() -> AsyncIterator[GatedStore]:
    store = GatedStore()
    await store.open()
    await store.add_organization(make_organization())
    await store.add(make_key("known"))
    yield store
    store.release()
    await store.close()


@pytest.fixture
async def cache(store: GatedStore, clock: FakeClock, metrics: Metrics) -> AsyncIterator[KeyCache]:
    cache = new_cache(store, clock, metrics)
    yield cache
    await cache.close()


def new_cache(store: GatedStore, clock: FakeClock, metrics: Metrics, **settings: float) -> KeyCache:
    defaults: dict[str, float] = {"ttl": 100.0, "negative_ttl": 5.0, "stale_if_error": 300.0}
    return KeyCache(store, clock=clock, metrics=metrics, jitter=random.Random(1), **{**defaults, **settings})  # type: ignore[arg-type]  # noqa: S311 - floats stand for ints


@pytest.fixture
async def watched(store: GatedStore, cache: KeyCache) -> AsyncIterator[None]:
    """The store's announcements reach the cache, as they do in the service."""
    watcher = asyncio.create_task(store.watch(cache))
    await settle()
    yield
    watcher.cancel()
    await asyncio.wait({watcher})


async def load(cache: KeyCache, api_key: str = "known", budget: float = 5.0) -> CacheEntry:
    return await cache.load(api_key, budget=budget)


# -- rule 1: records, never verdicts; age counts from the start of the load -------------------------------------------


async def test_age_counts_from_the_start_of_the_load(cache: KeyCache, store: GatedStore, clock: FakeClock) -> None:
    """A record that took 30 s to arrive is 30 s old when it arrives."""
    store.hold()
    loading = asyncio.create_task(load(cache))
    await store.arrived()
    clock.advance(4.0)
    cache.heartbeat()
    store.release()
    await loading
    clock.advance(96.5)
    cache.heartbeat()
    assert cache.peek("known") is None


async def test_an_entry_within_its_time_answers_without_the_store(cache: KeyCache, store: GatedStore) -> None:
    """A hit costs no look-up."""
    await load(cache)
    assert cache.peek("known") is not None
    assert store.finds == ["known"]


# -- rule 2: an invalidation wins over a load under way ----------------------------------------------------------------


@pytest.mark.parametrize("everything", [False, True])
async def test_a_load_that_began_before_an_invalidation_does_not_fill_the_cache(
    cache: KeyCache, store: GatedStore, *, everything: bool
) -> None:
    """Load, revoke, fill: the revoked key must not come back."""
    store.hold()
    loading = asyncio.create_task(load(cache))
    await store.arrived()
    if everything:
        await store.set_organization_active("acme", is_active=False, now=START)
    else:
        await store.set_state("key_known", KeyState.REVOKED, now=START)
    await settle()
    store.release()
    await loading
    assert cache.peek("known") is None


@pytest.mark.parametrize("everything", [False, True])
async def test_who_comes_after_an_invalidation_starts_a_load_of_its_own(
    cache: KeyCache, store: GatedStore, *, everything: bool
) -> None:
    """A waiter that joined after the revocation never gets the record of before."""
    store.hold()
    before = asyncio.create_task(load(cache))
    await store.arrived()
    if everything:
        await store.set_organization_active("acme", is_active=False, now=START)
    else:
        await store.set_state("key_known", KeyState.REVOKED, now=START)
    await settle()
    after = asyncio.create_task(load(cache))
    await settle()
    store.release()
    await before
    entry = await after
    assert entry.loaded is not None
    assert not entry.loaded.terms.is_active
    assert store.finds == ["known", "known"]


async def test_a_finished_older_load_leaves_the_newer_one_in_place(cache: KeyCache, store: GatedStore) -> None:
    """The clean-up of a forgotten load must not forget its successor, or a third caller would load again."""
    store.hold()
    first = asyncio.create_task(load(cache))
    await store.arrived()
    cache.key_changed("known")
    store.release()
    await first
    store.hold()
    second = asyncio.create_task(load(cache))
    await store.arrived()
    third = asyncio.create_task(load(cache))
    await settle()
    store.release()
    await asyncio.gather(second, third)
    assert store.finds == ["known", "known"]


# -- rule 3: one load per key; waiters have their own deadlines --------------------------------------------------------


async def test_a_thousand_callers_cause_one_load(cache: KeyCache, store: GatedStore) -> None:
    """Single flight."""
    store.hold()
    callers = [asyncio.create_task(load(cache)) for _ in range(1_000)]
    await store.arrived()
    await settle()
    store.release()
    await asyncio.gather(*callers)
    assert store.finds == ["known"]


async def test_a_waiter_that_leaves_does_not_cancel_the_load(cache: KeyCache, store: GatedStore) -> None:
    """Cancelled and timed-out waiters walk away; who stays gets the record."""
    store.hold()
    patient = asyncio.create_task(load(cache))
    await store.arrived()
    cancelled = asyncio.create_task(load(cache))
    await settle()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(StoreUnavailable):
        await load(cache, budget=0)
    store.release()
    assert (await patient).loaded is not None
    assert cache.peek("known") is not None


async def test_a_waiter_with_more_time_waits_longer(cache: KeyCache, store: GatedStore) -> None:
    """Each waiter has its own deadline: the short one's end is not the long one's."""
    store.hold()
    patient = asyncio.create_task(load(cache, budget=60.0))
    await store.arrived()
    for budget in (0.0, 0.3):
        with pytest.raises(StoreUnavailable):
            await load(cache, budget=budget)
    assert not patient.done()
    store.release()
    assert (await patient).loaded is not None


async def test_an_error_is_shared_but_never_kept(cache: KeyCache, store: GatedStore) -> None:
    """Everybody who waited gets the error, whoever comes next gets a new try."""
    store.error = StoreUnavailable("down")
    results = await asyncio.gather(load(cache), load(cache), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    assert store.finds == ["known"]
    store.error = None
    assert (await load(cache)).loaded is not None


async def test_a_load_that_fails_unexpectedly_is_told_to_its_waiters(cache: KeyCache, store: GatedStore) -> None:
    """A defect in a store is no silence."""
    store.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await load(cache)


async def test_more_misses_than_allowed_are_shed(store: GatedStore, clock: FakeClock, metrics: Metrics) -> None:
    """Who finds too many waiting is told at once, whichever key they wait for."""
    cache = new_cache(store, clock, metrics, max_waiting=2)
    store.hold()
    waiting = [asyncio.create_task(load(cache, f"key-{number}")) for number in range(2)]
    await settle()
    for name in ("key-0", "key-3"):
        with pytest.raises(Overloaded):
            await load(cache, name)
    store.release()
    await asyncio.gather(*waiting)
    await cache.close()


async def test_strangers_leave_room_for_known_keys(store: GatedStore, clock: FakeClock, metrics: Metrics) -> None:
    """A record that is past its time is read again though strangers take all that they may."""
    cache = new_cache(store, clock, metrics, max_loads=4)
    await load(cache)
    clock.advance(100.0)
    store.hold()
    waiting = [asyncio.create_task(load(cache, f"stranger-{number}")) for number in range(5)]
    await settle()
    again = asyncio.create_task(load(cache))
    await settle()
    assert store.finds == ["known", "stranger-0", "stranger-1", "stranger-2", "known"]
    store.release()
    await asyncio.gather(again, *waiting)
    await cache.close()


async def test_a_burst_of_new_keys_is_answered(cache: KeyCache, store: GatedStore) -> None:
    """A store that answers is asked by a few at a time, and everybody has a turn."""
    names = [f"new-{number}" for number in range(500)]
    await store.add_many([], [make_key(name) for name in names])
    store.hold()
    callers = [asyncio.create_task(load(cache, name, budget=60.0)) for name in names]
    await settle()
    assert store.finds == names[:24]
    store.release()
    assert all(entry.loaded is not None for entry in await asyncio.gather(*callers))
    assert store.finds == names


async def test_what_changes_before_its_turn_is_read_once_and_kept(
    store: GatedStore, clock: FakeClock, metrics: Metrics
) -> None:
    """An announcement wins over what has been read, not over what is still to be read (rule 2)."""
    cache = new_cache(store, clock, metrics, max_loads=1)
    store.hold()
    first = asyncio.create_task(load(cache, "stranger"))
    await store.arrived()
    before = asyncio.create_task(load(cache))
    await settle()
    await store.set_state("key_known", KeyState.REVOKED, now=START)
    cache.key_changed("known")
    after = asyncio.create_task(load(cache))
    await settle()
    store.release()
    await first
    entry = await before
    assert (await after) is entry
    assert entry.loaded is not None
    assert not entry.loaded.terms.is_active
    assert cache.peek("known") is entry
    assert store.finds == ["stranger", "known"]
    await cache.close()


async def test_a_store_that_never_answers_is_given_up(
    cache: KeyCache, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a load that nobody waits for any more ends."""
    monkeypatch.setattr("service.auth.loads.LOAD_LIMIT", 0.01)
    store.hold()
    with pytest.raises(StoreUnavailable):
        await load(cache)


async def test_an_answer_from_before_a_pause_proves_nothing(
    cache: KeyCache, store: GatedStore, clock: FakeClock
) -> None:
    """A process that was paused while it asked finds an answer that is as old as the pause (law 2)."""
    store.hold()
    asking = asyncio.create_task(load(cache))
    await store.arrived()
    clock.advance(30)
    store.release()
    with pytest.raises(StoreUnavailable):
        await asking
    assert cache.peek("known") is None


async def test_a_load_that_hangs_beyond_its_cancellation_does_not_block_its_key(
    store: GatedStore, clock: FakeClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver may ignore that it is cancelled; the next caller asks anew, and the late answer fills nothing."""
    monkeypatch.setattr("service.auth.loads.LOAD_LIMIT", 0.01)
    late = asyncio.Event()
    hung = [True]
    find = store.find

    async def stubborn(api_key: str) -> FoundKey | None:
        found = await find(api_key)
        while hung.pop() if hung else False:
            while not late.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await late.wait()
        return found

    monkeypatch.setattr(store, "find", stubborn)
    cache = new_cache(store, clock, metrics, max_loads=2)
    with pytest.raises(StoreUnavailable):
        await load(cache, budget=0.05)
    fresh = await load(cache)
    assert fresh.loaded is not None
    assert store.finds == ["known", "known"]
    late.set()
    await settle()
    cache.heartbeat()
    assert cache.peek("known") is fresh
    await cache.close()


async def test_closing_ends_the_loads_under_way(cache: KeyCache, store: GatedStore) -> None:
    """Who still waits is told, not left waiting."""
    store.hold()
    waiting = asyncio.create_task(load(cache))
    await store.arrived()
    await cache.close()
    with pytest.raises(StoreUnavailable):
        await waiting


# -- rule 4: unknown keys, in a budget of their own ---------------------------------------------------------------------


async def test_an_unknown_key_is_remembered_briefly(cache: KeyCache, store: GatedStore, clock: FakeClock) -> None:
    """One look-up per unknown key and negative time to live."""
    await load(cache, "stranger")
    entry = cache.peek("stranger")
    assert entry is not None
    assert entry.loaded is None
    clock.advance(5.0)
    cache.heartbeat()
    assert cache.peek("stranger") is None
    assert store.finds == ["stranger"]


async def test_random_keys_never_evict_real_ones(store: GatedStore, clock: FakeClock, metrics: Metrics) -> None:
    """A scan fills only its own budget."""
    cache = new_cache(store, clock, metrics, max_entries=2, max_negative_entries=3)
    await load(cache)
    for number in range(50):
        await load(cache, f"random-{number}")
    assert cache.peek("known") is not None
    assert len(cache) == 1 + 3


async def test_creating_a_key_removes_its_negative_entry(cache: KeyCache, store: GatedStore) -> None:
    """A key that was asked for too early works as soon as it exists."""
    await load(cache, "later")
    await store.add(make_key("later"))
    await settle()
    assert cache.peek("later") is None
    assert (await load(cache, "later")).loaded is not None


async def test_a_deleted_key_becomes_a_negative_entry(cache: KeyCache, store: GatedStore, clock: FakeClock) -> None:
    """When a reload finds nothing, the old record is gone and does not come back as stale."""
    await load(cache)
    clock.advance(200.0)
    cache.heartbeat()
    store.missing.add("known")  # the record vanishes without an announcement
    assert (await load(cache)).loaded is None
    assert cache.stale("known") is None


# -- rule 6: stale answers ------------------------------------------------------------------------------------------------


async def test_stale_trust_ends_after_the_last_heartbeat(cache: KeyCache, clock: FakeClock) -> None:
    """Computed from the clock at each decision, whatever the entry's age."""
    await load(cache)
    cache.heartbeat()
    clock.advance(300.0)
    assert cache.stale("known") is not None
    clock.advance(0.001)
    assert cache.stale("known") is None
    cache.heartbeat()
    assert cache.stale("known") is not None


async def test_there_is_no_trust_before_the_first_sign_of_life(
    store: GatedStore, clock: FakeClock, metrics: Metrics
) -> None:
    """A process that never heard an announcement does not know what it missed."""
    cache = new_cache(store, clock, metrics)
    await load(cache)
    assert not cache.link_is_up()
    assert cache.stale("known") is None
    assert cache.peek("known") is not None
    clock.advance(5.0)
    assert cache.peek("known") is None


async def test_no_stale_answer_after_an_invalidation(cache: KeyCache) -> None:
    """What was announced as changed is gone."""
    await load(cache)
    cache.key_changed("known")
    assert cache.stale("known") is None


async def test_no_stale_answer_for_a_critical_key(cache: KeyCache, store: GatedStore) -> None:
    """A critical key is worth a 503."""
    await store.add(make_key("vital", critical=True))
    await load(cache, "vital")
    assert cache.stale("vital") is None


async def test_no_stale_answer_for_a_stranger(cache: KeyCache) -> None:
    """Neither for a key that was never seen, nor for one that was seen not to exist."""
    await load(cache, "stranger")
    assert cache.stale("stranger") is None
    assert cache.stale("never-asked") is None


async def test_while_announcements_are_missing_entries_are_read_again_after_five_seconds(
    cache: KeyCache, clock: FakeClock
) -> None:
    """A silent link may hide a revocation: only young entries may answer (rule 7)."""
    await load(cache)
    cache.heartbeat()
    clock.advance(4.9)
    assert cache.peek("known") is not None
    clock.advance(0.1)
    assert cache.peek("known") is None
    cache.heartbeat()
    assert cache.peek("known") is not None


async def test_while_announcements_are_missing_entries_are_read_again_before_anybody_waits(
    cache: KeyCache, store: GatedStore, clock: FakeClock
) -> None:
    """From three seconds on, once a second at most (rule 9); while announcements come nothing is read for it."""
    old = await load(cache)
    clock.advance(3.0)
    cache.heartbeat()
    assert cache.peek("known") is old
    await settle()
    assert store.finds == ["known"]
    clock.advance(1.6)
    for _ in range(3):
        assert cache.peek("known") is not None
        await settle()
    assert store.finds == ["known", "known"]
    clock.advance(4.5)
    assert cache.peek("known") not in (None, old)


async def test_while_announcements_are_missing_strangers_are_looked_up_again_after_five_seconds(
    store: GatedStore, clock: FakeClock, metrics: Metrics
) -> None:
    """However long they may be remembered: a key may have been made meanwhile (rule 7)."""
    cache = new_cache(store, clock, metrics, negative_ttl=100.0)
    await load(cache, "stranger")
    cache.heartbeat()
    clock.advance(4.9)
    assert cache.peek("stranger") is not None
    clock.advance(0.1)
    assert cache.peek("stranger") is None
    cache.heartbeat()
    assert cache.peek("stranger") is not None
    await cache.close()


async def test_a_heartbeat_vouches_for_the_time_when_it_was_sent(cache: KeyCache, clock: FakeClock) -> None:
    """A process that was paused finds old heartbeats waiting; what came after them has not been heard of yet (rule 7)."""
    await load(cache)
    cache.heartbeat()
    clock.advance(30)
    cache.heartbeat(delay=29.9)
    assert not cache.link_is_up()
    assert cache.peek("known") is None
    cache.heartbeat(delay=0.1)
    cache.heartbeat(delay=20)  # out of order: it takes nothing back
    assert cache.link_is_up()
    assert cache.peek("known") is not None


async def test_changes_are_counted_by_their_way_and_timed_from_the_write(
    cache: KeyCache, clock: FakeClock, metrics: Metrics
) -> None:
    """The delay is that between the write and its effect here; a store whose clock is ahead makes it no less than 0."""
    before = {origin: counted(metrics, origin) for origin in Origin}
    cache.key_changed("known", at=clock.wall() - 2)
    cache.key_changed("known", at=clock.wall() + 5, origin=Origin.CHANGE_LOG)
    cache.everything_changed(at=clock.wall() - 1)
    cache.everything_changed(origin=Origin.RECONNECT)
    assert {origin: counted(metrics, origin) - before[origin] for origin in Origin} == dict.fromkeys(Origin, 1)
    assert metrics.registry.get_sample_value("gatekey_invalidation_delay_seconds_count") == 3
    assert metrics.registry.get_sample_value("gatekey_invalidation_delay_seconds_sum") == pytest.approx(3)


def counted(metrics: Metrics, origin: Origin) -> float:
    return metrics.registry.get_sample_value("gatekey_invalidations_total", {"origin": origin}) or 0.0


# -- rule 8: a secret that does not match -------------------------------------------------------------------------------


async def test_a_wrong_secret_causes_at_most_one_fresh_read_a_second(
    cache: KeyCache, store: GatedStore, clock: FakeClock
) -> None:
    """While the fresh read fails, the next second's callers are told so without asking again."""
    entry = await load(cache)
    clock.advance(2.0)
    store.error = StoreUnavailable("down")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await cache.reread("known", entry, budget=5.0)
    assert store.finds == ["known", "known"]
    clock.advance(1.0)
    store.error = None
    fresh = await cache.reread("known", entry, budget=5.0)
    assert cache.is_recent(fresh)
    assert not cache.is_recent(entry)


async def test_wrong_secrets_at_the_same_time_share_the_fresh_read(
    cache: KeyCache, store: GatedStore, clock: FakeClock
) -> None:
    """Who comes while it is under way joins it."""
    entry = await load(cache)
    clock.advance(2.0)
    store.hold()
    first = asyncio.create_task(cache.reread("known", entry, budget=5.0))
    await store.arrived()
    second = asyncio.create_task(cache.reread("known", entry, budget=5.0))
    await settle()
    store.release()
    assert (await first) is (await second)
    assert store.finds == ["known", "known"]


# -- rule 9: refreshed a little before the end ----------------------------------------------------------------------------


async def test_a_hot_key_is_read_again_before_it_expires(cache: KeyCache, store: GatedStore, clock: FakeClock) -> None:
    """Its callers never wait: the entry answers while the refresh runs."""
    entry = await load(cache)
    assert 85.0 <= entry.refresh_at - entry.loaded_at <= 95.0
    clock.advance(96.0)
    cache.heartbeat()
    assert cache.peek("known") is entry
    assert cache.peek("known") is entry
    await settle()
    refreshed = cache.peek("known")
    assert refreshed is not None
    assert refreshed is not entry
    assert store.finds == ["known", "known"]


async def test_a_refresh_that_fails_leaves_the_entry(cache: KeyCache, store: GatedStore, clock: FakeClock) -> None:
    """And is tried again, at most once a second."""
    entry = await load(cache)
    clock.advance(96.0)
    cache.heartbeat()
    store.error = StoreUnavailable("down")
    for _ in range(3):
        assert cache.peek("known") is entry
        await settle()
    assert len(store.finds) == 2
    clock.advance(1.0)
    assert cache.peek("known") is entry
    await settle()
    assert len(store.finds) == 3


async def test_no_refresh_for_a_key_that_was_invalidated_meanwhile(
    cache: KeyCache, store: GatedStore, clock: FakeClock
) -> None:
    """The refresh was asked for by a thread; by the time the loop gets to it there may be nothing to refresh."""
    await load(cache)
    clock.advance(96.0)
    cache.heartbeat()
    cache.peek("known")
    cache.key_changed("known")
    await settle()
    assert store.finds == ["known"]


async def test_a_thread_may_look_while_the_loop_ends(store: GatedStore, clock: FakeClock, metrics: Metrics) -> None:
    """There is nobody left to refresh for; the answer is the same."""
    cache = new_cache(store, clock, metrics)
    runner = asyncio.Runner()

    def in_a_thread() -> CacheEntry:
        with runner:
            return runner.run(load(cache))

    entry = await asyncio.to_thread(in_a_thread)
    cache.heartbeat()
    clock.advance(1.0)
    entry.refresh_at = clock.age()
    assert cache.peek("known") is entry
    await cache.close()
    entry.refresh_at = clock.age()
    assert cache.peek("known") is entry


# -- rule 11: bounded -----------------------------------------------------------------------------------------------------


async def test_the_least_used_entry_makes_room(store: GatedStore, clock: FakeClock, metrics: Metrics) -> None:
    """An entry that was used since the last round gets a second chance."""
    cache = new_cache(store, clock, metrics, max_entries=3)
    for name in ("a", "b", "c", "d"):
        await store.add(make_key(name))
    for name in ("a", "b", "c"):
        await load(cache, name)
    cache.peek("a")
    await load(cache, "d")
    assert cache.peek("b") is None
    assert [name for name in ("a", "c", "d") if cache.peek(name)] == ["a", "c", "d"]
    assert len(cache) == 3


async def test_eviction_is_bounded_when_every_entry_is_used(
    store: GatedStore, clock: FakeClock, metrics: Metrics
) -> None:
    """Room is made even so."""
    cache = new_cache(store, clock, metrics, max_entries=20)
    names = [f"name-{number:02}" for number in range(21)]
    for name in names:
        await store.add(make_key(name))
    for name in names[:20]:
        await load(cache, name)
        cache.peek(name)
    await load(cache, names[20])
    assert len(cache) == 20


async def test_an_entry_replaced_after_its_time_counts_as_expired(
    cache: KeyCache, clock: FakeClock, metrics: Metrics
) -> None:
    """The metric tells evictions by time from those by size."""
    await load(cache)
    clock.advance(150.0)
    await load(cache)
    assert metrics.registry.get_sample_value("gatekey_cache_evictions_total", {"reason": "ttl"}) == 1


# -- corrupt records --------------------------------------------------------------------------------------------------------


async def test_a_record_with_a_nonsensical_rule_is_corrupt_and_not_kept(cache: KeyCache, store: GatedStore) -> None:
    """That one key fails, whatever somebody wrote into its row."""
    record = replace(make_key("broken"), networks=("not-a-network",))
    store.answers["broken"] = FoundKey(record, organization_is_active=True)
    with pytest.raises(StoreCorrupt):
        await load(cache, "broken")
    assert cache.peek("broken") is None
