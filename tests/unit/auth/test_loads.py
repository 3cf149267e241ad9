"""The queue in front of the store: who gets a turn and when, and that no turn is lost, whoever leaves or hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreCorrupt, StoreUnavailable
from backends.records import FoundKey
from service.auth.entry import CacheEntry
from service.auth.lanes import Lane, Load
from service.auth.loaded import LoadedKey
from service.auth.loads import Loads, Overloaded
from service.observe.metrics import Metrics
from tests.support.clock import FakeClock
from tests.support.keys import make_key
from tests.support.settle import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


LONG = 60.0  # never reached
SHORT = 0.01


class HeldStore:
    """Answers a look-up when it is told to; a stubborn one hangs on though it is cancelled."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stubborn: set[str] = set()
        self._answers: dict[str, asyncio.Future[CacheEntry]] = {}
        self._all: list[asyncio.Future[CacheEntry]] = []

    async def read(self, load: Load) -> CacheEntry:
        self.asked.append(load.api_key)
        answer: asyncio.Future[CacheEntry] = asyncio.get_running_loop().create_future()
        self._answers[load.api_key] = answer
        self._all.append(answer)
        while load.api_key in self.stubborn and not answer.done():
            try:
                await asyncio.wait({answer})
            except asyncio.CancelledError:
                continue
        return await answer

    async def answer(
        self, api_key: str, error: Exception | None = None, *, found: LoadedKey | None = None
    ) -> CacheEntry:
        """Of a look-up under way; what follows from it has happened when this returns."""
        entry = CacheEntry(found, 0.0, 0.0)
        if error is None:
            self._answers.pop(api_key).set_result(entry)
        else:
            self._answers.pop(api_key).set_exception(error)
        await settle()
        return entry

    def cancel(self, api_key: str) -> None:
        self._answers.pop(api_key).cancel()

    def release(self) -> None:
        """Whatever hangs ends."""
        for answer in self._all:
            answer.cancel()

    def under_way(self) -> list[str]:
        return sorted(self._answers)


@pytest.fixture
def store() -> HeldStore:
    return HeldStore()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(store="memory", version="test")


@pytest.fixture
async def loads(store: HeldStore, metrics: Metrics) -> AsyncIterator[Loads]:
    """Four turns, three of them for strangers too."""
    loads = Loads(store.read, clock=FakeClock(), metrics=metrics, max_loads=4, max_waiting=10)
    yield loads
    store.release()
    callers = asyncio.all_tasks() - {asyncio.current_task()}
    await loads.close()
    for caller in callers:
        caller.cancel()  # whoever a defect has left waiting
    await asyncio.gather(*callers, return_exceptions=True)


async def ask(loads: Loads, *names: str, known: bool = False, budget: float = LONG) -> list[asyncio.Task[CacheEntry]]:
    """Callers who have come and wait, in this order."""
    callers = [asyncio.create_task(loads.wait(name, known=known, budget=budget)) for name in names]
    await settle()
    return callers


async def leave(*callers: asyncio.Task[CacheEntry]) -> None:
    for caller in callers:
        caller.cancel()
    await settle()


def shed(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("gatekey_shed_total", {"reason": reason})


# -- turns ------------------------------------------------------------------------------------------------------------


async def test_turns_are_given_in_the_order_of_arrival(loads: Loads, store: HeldStore) -> None:
    """So many at a time, and each that ends makes room for whoever has waited longest."""
    await ask(loads, "a", "b", "c", "d", "e")
    assert store.asked == ["a", "b", "c"]
    await store.answer("b")
    assert store.asked == ["a", "b", "c", "d"]
    await store.answer("a")
    assert store.asked == ["a", "b", "c", "d", "e"]


async def test_whoever_waits_for_a_turn_gets_the_answer(loads: Loads, store: HeldStore) -> None:
    """That of their own key."""
    callers = await ask(loads, "a", "b", "c", "d")
    for name, caller in zip("abcd", callers, strict=True):
        assert await store.answer(name) is await caller


async def test_callers_of_one_key_share_a_place(loads: Loads, store: HeldStore, metrics: Metrics) -> None:
    """Also before its turn: one look-up, whose answer is for all of them."""
    await ask(loads, "a", "b", "c")
    callers = await ask(loads, "d", "d", "d")
    await store.answer("a")
    entry = await store.answer("d")
    assert [await caller for caller in callers] == [entry] * 3
    assert store.asked == ["a", "b", "c", "d"]
    assert metrics.registry.get_sample_value("gatekey_cache_coalesced_total") == 2


async def test_a_turn_that_everybody_left_is_not_taken(loads: Loads, store: HeldStore) -> None:
    """By deadline or by cancellation; the turn goes to the next who is still there."""
    await ask(loads, "a", "b", "c")
    gone = await ask(loads, "d", "d")
    (impatient,) = await ask(loads, "e", budget=SHORT)
    (patient,) = await ask(loads, "f")
    await leave(*gone)
    with pytest.raises(StoreUnavailable):
        await impatient
    await store.answer("a")
    assert store.asked == ["a", "b", "c", "f"]
    assert await store.answer("f") is await patient


async def test_a_place_is_kept_for_those_who_stay(loads: Loads, store: HeldStore) -> None:
    """Though the first who came has left, and in its old order."""
    await ask(loads, "a", "b", "c")
    first, second = await ask(loads, "d", "d")
    await ask(loads, "e")
    await leave(first)
    await store.answer("a")
    assert store.under_way() == ["b", "c", "d"]
    assert await store.answer("d") is await second


async def test_who_comes_back_after_leaving_stands_at_the_end(loads: Loads, store: HeldStore) -> None:
    """The place that was left is no more."""
    await ask(loads, "a", "b", "c")
    await leave(*await ask(loads, "d"))
    await ask(loads, "e", "d")
    await store.answer("a")
    assert store.under_way() == ["b", "c", "e"]


@pytest.mark.parametrize("error", [StoreUnavailable("down"), StoreCorrupt("bad"), LookupError("a bug")], ids=repr)
async def test_a_look_up_that_fails_makes_room(loads: Loads, store: HeldStore, error: Exception) -> None:
    """And its callers hear why."""
    first, *_ = await ask(loads, "a", "b", "c", "d")
    await store.answer("a", error)
    with pytest.raises(type(error)) as caught:
        await first
    assert caught.value is error
    assert store.under_way() == ["b", "c", "d"]


async def test_a_look_up_that_ends_itself_makes_room(loads: Loads, store: HeldStore) -> None:
    """A driver's pool that is closed cancels those who wait for it; their callers were not cancelled."""
    first, *_ = await ask(loads, "a", "b", "c", "d")
    store.cancel("a")
    await settle()
    with pytest.raises(StoreUnavailable, match="given up"):
        await first
    assert store.under_way() == ["b", "c", "d"]


async def test_a_look_up_without_its_callers_goes_on(loads: Loads, store: HeldStore) -> None:
    """Once it has its turn: what it finds is for those who come later, and it keeps its turn until then."""
    await leave(*await ask(loads, "a", "b", "c"))
    await ask(loads, "d")
    assert store.under_way() == ["a", "b", "c"]
    (late,) = await ask(loads, "a")
    assert await store.answer("a") is await late
    assert store.asked == ["a", "b", "c", "d"]


async def test_an_answer_finds_one_who_leaves_at_that_moment_gone(loads: Loads, store: HeldStore) -> None:
    """The other who waits gets it all the same."""
    leaving, staying = await ask(loads, "a", "a")
    answering = asyncio.create_task(store.answer("a"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await answering is await staying
    assert leaving.cancelled()


# -- known keys -------------------------------------------------------------------------------------------------------


async def test_known_keys_have_turns_that_strangers_never_get(loads: Loads, store: HeldStore) -> None:
    """A flood leaves them a quarter, and they may take all."""
    await ask(loads, "a", "b", "c", "d")
    await ask(loads, "known", known=True)
    assert store.under_way() == ["a", "b", "c", "known"]
    for name in ("a", "b", "c", "d"):
        await store.answer(name)
    await ask(loads, "known-2", "known-3", "known-4", "known-5", known=True)
    assert store.under_way() == ["known", "known-2", "known-3", "known-4"]


async def test_known_keys_are_served_first(loads: Loads, store: HeldStore) -> None:
    """However long strangers have waited already."""
    await ask(loads, "a", "b", "c", "d", "e")
    await ask(loads, "known-1", "known-2", "known-3", known=True)
    await store.answer("a")
    assert store.under_way() == ["b", "c", "known-1", "known-2"]
    await store.answer("b")
    assert store.under_way() == ["c", "known-1", "known-2", "known-3"]
    await store.answer("c")
    assert store.under_way() == ["d", "known-1", "known-2", "known-3"]


async def test_a_known_key_is_read_again_in_the_background_when_its_turn_comes(loads: Loads, store: HeldStore) -> None:
    """Nobody waits for it, and those who waited and left take nothing away."""
    await ask(loads, "known-1", "known-2", "known-3", "known-4", known=True)
    loads.refresh("known-5")
    callers = await ask(loads, "known-6", known=True)
    loads.refresh("known-6")
    await leave(*callers)
    await store.answer("known-1")
    await store.answer("known-2")
    assert store.under_way() == ["known-3", "known-4", "known-5", "known-6"]


async def test_reading_again_in_the_background_is_bounded(store: HeldStore, metrics: Metrics) -> None:
    """What finds too many waiting is dropped: who needs it asks again."""
    loads = Loads(store.read, clock=FakeClock(), metrics=metrics, max_loads=1, max_waiting=2)
    for name in ("a", "b", "c", "d"):
        loads.refresh(name)
        await settle()
    for name in ("a", "b", "c"):
        assert store.under_way() == [name]
        await store.answer(name)
    assert store.asked == ["a", "b", "c"]
    await loads.close()


# -- too many ---------------------------------------------------------------------------------------------------------


async def test_who_finds_too_many_waiting_is_refused_at_once(loads: Loads, store: HeldStore, metrics: Metrics) -> None:
    """Strangers do not fill the known keys' queue."""
    callers = await ask(loads, *(f"stranger-{number}" for number in range(10)))
    with pytest.raises(Overloaded):
        await loads.wait("stranger-10", known=False, budget=SHORT)
    with pytest.raises(Overloaded):
        await loads.wait("stranger-0", known=False, budget=SHORT)
    assert shed(metrics, "misses") == 2
    (known,) = await ask(loads, "known", known=True)
    assert await store.answer("known") is await known
    await leave(callers[-1])
    await ask(loads, "stranger-10")
    assert shed(metrics, "misses") == 2


async def test_known_keys_are_bounded_too(loads: Loads) -> None:
    """Apart from strangers, whom they do not keep out either."""
    await ask(loads, *(f"known-{number}" for number in range(10)), known=True)
    with pytest.raises(Overloaded):
        await loads.wait("known-10", known=True, budget=SHORT)
    (stranger,) = await ask(loads, "stranger")
    assert not stranger.done()


async def test_a_flood_of_made_up_keys_is_refused_at_once(
    store: HeldStore, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many may find nothing at once, and so many a second in the long run; known keys are not counted."""
    monkeypatch.setattr("service.auth.loads._NOTHING_BURST", 3)
    monkeypatch.setattr("service.auth.loads._NOTHING_RATE", 10.0)
    clock = FakeClock()
    loads = Loads(store.read, clock=clock, metrics=metrics, max_loads=8, max_waiting=20)
    callers = await ask(loads, "a", "b", "c", "a")
    for key in "abc":
        await store.answer(key)
    for _ in range(2):
        with pytest.raises(Overloaded):
            await loads.wait("d", known=False, budget=SHORT)
    assert shed(metrics, "misses") == 2
    callers += await ask(loads, "known", known=True)
    clock.advance(0.101)
    callers += await ask(loads, "d")
    await store.answer("d")
    with pytest.raises(Overloaded):
        await loads.wait("e", known=False, budget=SHORT)
    assert store.asked == ["a", "b", "c", "known", "d"]
    await loads.close()
    await asyncio.gather(*callers, return_exceptions=True)


def flooded_lane(*, turns: int = 4) -> Lane:
    """300 look-ups may find nothing, and the first 200 have."""
    lane = Lane(turns, burst=300)
    for _ in range(200):
        lane.found(nothing=True, now=0.0)
    return lane


def queue(lane: Lane, number: int) -> None:
    lane.queue.update((str(place), Load(str(place), lane)) for place in range(number))


def test_whoever_waits_is_taken_to_find_what_the_latest_found() -> None:
    """Else a flood fills the queue before the first of it has found nothing; keys that somebody has wait as they like."""
    lane = flooded_lane()
    queue(lane, 90)
    assert lane.admits(0.0)
    queue(lane, 100)
    assert not lane.admits(0.0)
    for _ in range(200):
        lane.found(nothing=False, now=0.0)
    assert lane.admits(0.0)


async def test_a_flood_comes_one_by_one(loads: Loads, store: HeldStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its look-ups takes time from whoever the cache knows, who waits for no pause."""
    monkeypatch.setattr("service.auth.loads._PACE", 0.0)
    for number in range(40):
        await ask(loads, f"made-up-{number}")
        await store.answer(f"made-up-{number}")
    monkeypatch.setattr("service.auth.loads._PACE", LONG)
    await ask(loads, "a", "b")
    await ask(loads, "known-1", "known-2", known=True)
    assert store.under_way() == ["a", "known-1", "known-2"]
    await store.answer("a")
    assert store.under_way() == ["known-1", "known-2"]


async def test_a_flood_spends_what_it_may_also_by_waiting(
    loads: Loads, store: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had no turn in time counts like one who found nothing."""
    monkeypatch.setattr("service.auth.loads._PACE", 0.0)
    for number in range(40):
        await ask(loads, f"made-up-{number}")
        await store.answer(f"made-up-{number}")
    monkeypatch.setattr("service.auth.loads._PACE", LONG)
    await ask(loads, "first")
    await store.answer("first")
    spent: list[float] = []
    monkeypatch.setattr(Lane, "left", lambda _, now: spent.append(now))
    (late,) = await ask(loads, "second", budget=SHORT)
    (known,) = await ask(loads, "known", known=True)
    await store.answer("known")
    with pytest.raises(Overloaded):
        await late
    assert known.done()
    assert len(spent) == 1


async def test_a_burst_of_made_up_keys_is_answered(metrics: Metrics) -> None:
    """One after the other, and each with what the store has: nothing."""
    asked = []

    async def read(load: Load) -> CacheEntry:
        asked.append(load.api_key)
        return CacheEntry(None, 0.0, 0.0)

    loads = Loads(read, clock=FakeClock(), metrics=metrics, max_loads=4, max_waiting=1_000)
    names = [f"made-up-{number}" for number in range(200)]
    found = await asyncio.gather(*(loads.wait(name, known=False, budget=10.0) for name in names))
    assert [entry.loaded for entry in found] == [None] * 200
    assert asked == names
    await loads.close()


def test_a_flood_has_few_turns() -> None:
    """Fewer than a store has connections: else known keys, which are served first here, would stand behind it there."""
    lane = flooded_lane(turns=24)
    lane.running = 3
    assert lane.has_turn()
    lane.running = 4
    assert not lane.has_turn()
    single = flooded_lane(turns=1)
    single.running = 1
    assert not single.has_turn()


def test_who_has_no_turn_in_time_makes_room_for_nobody() -> None:
    """Else everybody who comes would wait for all of their time, for as long as a flood goes on."""
    lane = flooded_lane()
    for _ in range(98):
        lane.left(0.0)
    assert lane.admits(0.0)
    for _ in range(2):
        lane.left(0.0)
    assert not lane.admits(0.0)


def test_new_keys_that_somebody_has_end_a_flood() -> None:
    lane = flooded_lane()
    assert lane.is_paced()
    for _ in range(200):
        lane.found(nothing=False, now=0.0)
    assert not lane.is_paced()


def test_keys_that_are_gone_make_no_flood_of_known_ones() -> None:
    """An organization that deletes all its keys keeps nobody waiting."""
    lane = Lane(4)
    for _ in range(200):
        lane.found(nothing=True, now=0.0)
    assert not lane.is_paced()
    assert lane.admits(0.0)


async def test_who_asks_for_what_is_being_looked_up_joins_in_a_flood(
    store: HeldStore, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs the store nothing more."""
    monkeypatch.setattr("service.auth.loads._NOTHING_BURST", 1)
    loads = Loads(store.read, clock=FakeClock(), metrics=metrics, max_loads=8, max_waiting=20)
    callers = await ask(loads, "a", "b")
    await store.answer("a")
    assert [loads.turns_away(key) for key in "bc"] == [False, True]
    callers += await ask(loads, "b")
    await store.answer("b")
    assert [(await caller).loaded for caller in callers] == [None] * 3
    assert store.asked == ["a", "b"]
    await loads.close()


async def test_new_keys_that_somebody_has_are_no_flood(
    store: HeldStore, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart every key is new."""
    monkeypatch.setattr("service.auth.loads._NOTHING_BURST", 1)
    loads = Loads(store.read, clock=FakeClock(), metrics=metrics, max_loads=8, max_waiting=20)
    for key in "abc":
        (caller,) = await ask(loads, key)
        await store.answer(key, found=LoadedKey(FoundKey(make_key(key), organization_is_active=True)))
        assert (await caller).loaded is not None
    await loads.close()


async def test_who_had_no_turn_in_time_hears_that_there_are_too_many(
    loads: Loads, store: HeldStore, metrics: Metrics
) -> None:
    """Where the store answers others meanwhile, it is not the store's fault, so it proves nothing about it."""
    await ask(loads, "a", "b", "c", "d")
    (late,) = await ask(loads, "e", budget=SHORT)
    await store.answer("a")
    with pytest.raises(Overloaded):
        await late
    assert shed(metrics, "loads") == 1


async def test_who_had_no_turn_because_the_store_answers_nobody_hears_so(
    loads: Loads, store: HeldStore, metrics: Metrics
) -> None:
    """A store that hangs, not a crowd: a record past its time may stand in for it."""
    await ask(loads, "a", "b", "c", "d")
    (late,) = await ask(loads, "e", budget=SHORT)
    await store.answer("a", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await late
    assert shed(metrics, "loads") == 0


# -- what hangs -------------------------------------------------------------------------------------------------------


async def test_a_look_up_that_is_given_up_makes_room(
    loads: Loads, store: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its callers are told, the next caller of its key asks anew, and who waits for a turn gets it."""
    monkeypatch.setattr("service.auth.loads.LOAD_LIMIT", SHORT)
    store.stubborn |= {"a", "b", "c"}
    callers = await ask(loads, "a", "b", "c")
    monkeypatch.setattr("service.auth.loads.LOAD_LIMIT", LONG)
    waiting = await ask(loads, "d")
    for caller in callers:
        with pytest.raises(StoreUnavailable, match="given up"):
            await caller
    await ask(loads, "a")
    assert store.asked == ["a", "b", "c", "d", "a"]
    assert await store.answer("d") is await waiting[0]


async def test_what_hangs_is_bounded_and_its_end_makes_room(
    store: HeldStore, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many again as may be under way; then nobody has a turn until one of them ends."""
    monkeypatch.setattr("service.auth.loads.LOAD_LIMIT", SHORT)
    store.stubborn |= {"a", "b", "c", "d"}
    loads = Loads(store.read, clock=FakeClock(), metrics=metrics, max_loads=2, max_waiting=10)
    try:
        for pair in (("a", "b"), ("c", "d")):
            for caller in await ask(loads, *pair):
                with pytest.raises(StoreUnavailable):
                    await caller
        (patient,) = await ask(loads, "e")
        with pytest.raises(StoreUnavailable):
            await loads.wait("f", known=True, budget=SHORT)
        assert store.asked == ["a", "b", "c", "d"]
        await store.answer("b")
        assert store.asked == ["a", "b", "c", "d", "e"]
        assert await store.answer("e") is await patient
    finally:
        store.release()  # also where the test fails: what hangs would keep the loop from ending
        await loads.close()


# -- announcements and the end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [False, True])
async def test_a_change_moves_nobody_who_waits_for_a_turn(loads: Loads, store: HeldStore, *, everything: bool) -> None:
    """What has not been asked yet will be asked after the change; only a look-up under way is joined no more."""
    first, *_ = await ask(loads, "a", "b", "c", "d")
    for name in ("a", "d"):
        if everything:
            loads.forget_all()
        else:
            loads.forget(name)
    assert "a" not in loads
    assert "d" in loads
    before, after = await ask(loads, "d", "a")
    old = await store.answer("a")
    assert await first is old
    assert await store.answer("d") is await before
    assert store.asked == ["a", "b", "c", "d", "a"]
    assert await store.answer("a") is await after


async def test_forgetting_what_nobody_asked_for_changes_nothing(loads: Loads, store: HeldStore) -> None:
    """Most announcements are of such keys."""
    loads.forget("a")
    (caller,) = await ask(loads, "a")
    assert await store.answer("a") is await caller


async def test_the_end_is_told_to_all_who_wait(loads: Loads, store: HeldStore) -> None:
    """Whether their turn has come or not; nobody who waited for one gets it then, and no task is left."""
    callers = await ask(loads, "a", "b", "c", "d")
    await loads.close()
    for caller in callers:
        with pytest.raises(StoreUnavailable, match="given up"):
            await caller
    assert store.asked == ["a", "b", "c"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_end_comes_also_before_a_look_up_has_taken_its_first_step(loads: Loads, store: HeldStore) -> None:
    """A task that is cancelled so early does nothing at all, so it cannot tell of its end itself."""
    caller = asyncio.create_task(loads.wait("a", known=False, budget=LONG))
    await asyncio.sleep(0)
    await loads.close()
    with pytest.raises(StoreUnavailable):
        await caller
    assert store.asked == []


async def test_the_end_does_not_wait_for_what_hangs(
    loads: Loads, store: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that ignores its cancellation is left behind after a while."""
    monkeypatch.setattr("service.auth.loads._CLOSE_LIMIT", SHORT)
    store.stubborn.add("a")
    await ask(loads, "a")
    await loads.close()
    assert store.under_way() == ["a"]
