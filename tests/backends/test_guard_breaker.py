"""The breaker: when it opens, that nobody is made to wait or to probe while it is open, and how it closes again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from backends import guard
from backends.breaker import Breaker, BreakerState
from backends.errors import (
    Conflict,
    NotFound,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreNotAsked,
    StoreNotReady,
    StoreUnavailable,
    StoreUnfit,
)
from backends.guard import GuardedStore
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.faulty_store import FaultyStore, HeldSleep
from tests.support.keys import make_key, make_organization
from tests.support.store_calls import CALLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backends.contract import KeyStore

CLOSED, HALF_OPEN, OPEN = BreakerState
FOUND = FoundKey(make_key("one"), organization_is_active=True)


@pytest.fixture
async def inner() -> FaultyStore:
    store = FaultyStore()
    await store.open()
    await store.add_organization(make_organization())
    await store.add(make_key("one"))
    return store


@pytest.fixture
def sleep() -> HeldSleep:
    return HeldSleep()


@pytest.fixture
async def store(inner: FaultyStore, sleep: HeldSleep) -> AsyncIterator[GuardedStore]:
    store = GuardedStore(inner, sleep=sleep)
    yield store
    inner.release()
    inner.error = None
    await store.close()


async def fail(store: KeyStore, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StoreError):
            await store.find("one")


async def opened(store: GuardedStore, inner: FaultyStore, sleep: HeldSleep) -> None:
    """A breaker that has just opened and whose first probe is still to come."""
    inner.error = StoreUnavailable("down")
    await fail(store, 5)
    await sleep.fell_asleep(len(sleep.pauses) + 1)
    assert store.breaker_state is OPEN


async def probed(store: GuardedStore) -> None:
    """Return once the breaker is no longer half open."""
    async with asyncio.timeout(10):
        while store.breaker_state is HALF_OPEN:  # noqa: ASYNC110 - a metric's value has no event to wait for
            await asyncio.sleep(0)


def test_the_states_are_the_metrics_numbers() -> None:
    """0 closed, 1 half open, 2 open."""
    assert (int(CLOSED), int(HALF_OPEN), int(OPEN)) == (0, 1, 2)


# -- opening --------------------------------------------------------------------------------------------------------------


async def test_five_look_ups_in_a_row_that_have_no_answer_open_it(store: GuardedStore, inner: FaultyStore) -> None:
    """The fifth, not the fourth."""
    inner.error = StoreUnavailable("down")
    await fail(store, 4)
    assert store.breaker_state is CLOSED
    await fail(store, 1)
    assert store.breaker_state is OPEN


async def test_look_ups_that_hang_count_too(inner: FaultyStore, sleep: HeldSleep) -> None:
    """At once or one after the other."""
    store = GuardedStore(inner, find_timeout=0.01, sleep=sleep)
    inner.hang()
    results = await asyncio.gather(*(store.find("one") for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 5
    assert store.breaker_state is OPEN
    inner.release()
    await store.close()


@pytest.mark.parametrize(
    "error", [StoreCorrupt, StoreNotReady, StoreUnfit, NotFound, Conflict, StoreClosed, StoreError]
)
async def test_an_error_that_is_an_answer_never_opens_it(
    store: GuardedStore, inner: FaultyStore, error: type[StoreError]
) -> None:
    """One bad key, or an empty database, must not take every other key away."""
    inner.error = error("an answer")
    await fail(store, 20)
    assert store.breaker_state is CLOSED


@pytest.mark.parametrize("answer", [None, StoreCorrupt("bad"), StoreNotReady("empty")], ids=repr)
async def test_any_answer_ends_the_row(store: GuardedStore, inner: FaultyStore, answer: StoreError | None) -> None:
    """Four failures, an answer, four failures: the store lives."""
    inner.error = StoreUnavailable("down")
    await fail(store, 4)
    inner.error = answer
    if answer is None:
        assert await store.find("one") == FOUND
    else:
        await fail(store, 1)
    inner.error = StoreUnavailable("down")
    await fail(store, 4)
    assert store.breaker_state is CLOSED


async def test_an_answer_that_is_late_for_its_caller_counts_as_one(store: GuardedStore, inner: FaultyStore) -> None:
    """A slow store is not a dead one."""
    inner.error = StoreUnavailable("down")
    await fail(store, 4)
    inner.error = None
    inner.hang()
    call = asyncio.ensure_future(store.find("one"))
    await asyncio.wait({call}, timeout=0.01)  # the caller's patience; it leaves, the look-up goes on
    inner.release()
    assert await call == FOUND
    inner.error = StoreUnavailable("down")
    await fail(store, 4)
    assert store.breaker_state is CLOSED


async def test_failures_of_other_calls_do_not_open_it(store: GuardedStore, inner: FaultyStore) -> None:
    """A write that fails says nothing about look-ups: a database may be read-only for a while."""
    inner.error = StoreUnavailable("read-only")
    for _ in range(10):
        for call in (store.set_state("key_one", KeyState.REVOKED, now=START), store.get("key_one"), store.ping()):
            with pytest.raises(StoreUnavailable):
                await call
    assert store.breaker_state is CLOSED


async def test_callers_that_leave_do_not_open_it(store: GuardedStore, inner: FaultyStore) -> None:
    """Their patience is not the store's fault."""
    inner.hang()
    calls = [asyncio.ensure_future(store.find("one")) for _ in range(10)]
    await inner.arrived("find", times=10)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert store.breaker_state is CLOSED


# -- open -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_while_it_is_open_nothing_is_asked(
    store: GuardedStore, inner: FaultyStore, sleep: HeldSleep, call: Callable[[KeyStore], Awaitable[object]]
) -> None:
    """Every call is refused at its first step, also where the store would answer it again."""
    await opened(store, inner, sleep)
    inner.error = None
    before = dict(inner.calls)
    with pytest.raises(StoreUnavailable, match="is not asked"):
        call(store).__await__().send(None)
    assert inner.calls == before
    assert await inner.get("key_one") == make_key("one")


async def test_fifty_callers_while_it_is_half_open_are_one_probe(
    store: GuardedStore, inner: FaultyStore, sleep: HeldSleep
) -> None:
    """And none of them is the probe."""
    await opened(store, inner, sleep)
    before = dict(inner.calls)
    inner.hang()
    sleep.wake()
    await inner.arrived("ping")
    assert store.breaker_state is HALF_OPEN
    results = await asyncio.gather(*(store.find("one") for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} == {StoreNotAsked}
    assert inner.calls == {**before, "ping": 1}
    inner.error = None
    inner.release()
    await probed(store)
    assert store.breaker_state is CLOSED
    assert await store.find("one") == FOUND


# -- closing --------------------------------------------------------------------------------------------------------------


async def test_the_first_good_probe_closes_it(store: GuardedStore, inner: FaultyStore, sleep: HeldSleep) -> None:
    """And not an earlier one; afterwards it takes five failures again."""
    await opened(store, inner, sleep)
    for number in range(1, 4):
        sleep.wake()
        await sleep.fell_asleep(number + 1)
        assert store.breaker_state is OPEN
    inner.error = None
    sleep.wake()
    await inner.arrived("ping", times=4)
    await probed(store)
    assert store.breaker_state is CLOSED
    inner.error = StoreUnavailable("down again")
    await fail(store, 4)
    assert store.breaker_state is CLOSED
    inner.error = None
    assert await store.find("one") == FOUND


@pytest.mark.parametrize("seed", range(5))
async def test_pauses_grow_from_a_quarter_of_a_second_to_one(inner: FaultyStore, seed: int) -> None:
    """With jitter that only shortens; with a probe that hangs, the store's return is seen within 2 s."""
    sleep = HeldSleep()
    store = GuardedStore(inner, sleep=sleep, jitter=random.Random(seed))  # noqa: S311 - no secret
    await opened(store, inner, sleep)
    for number in range(1, 12):
        sleep.wake()
        await sleep.fell_asleep(number + 1)
    for pause, full in zip(sleep.pauses, [0.25, 0.5, *[1.0] * 10], strict=True):
        assert 0.75 * full <= pause <= full
    assert len(set(sleep.pauses[2:])) > 1, "many processes would probe in step"
    assert guard._PROBE_TIMEOUT + max(sleep.pauses) + guard._PROBE_TIMEOUT <= 2.0
    inner.error = None
    await store.close()


@pytest.mark.parametrize("answer", [StoreNotReady, StoreUnfit, StoreClosed, StoreCorrupt])
async def test_a_probe_that_is_answered_with_an_error_closes_it(
    store: GuardedStore, inner: FaultyStore, sleep: HeldSleep, answer: type[StoreError]
) -> None:
    """What is wrong, the store's own errors say better than the breaker."""
    await opened(store, inner, sleep)
    inner.error = answer("what is wrong")
    sleep.wake()
    await inner.arrived("ping")
    await probed(store)
    assert store.breaker_state is CLOSED
    with pytest.raises(answer, match="what is wrong"):
        await store.find("one")


async def test_a_slow_store_closes_it_with_its_late_answer(
    store: GuardedStore, inner: FaultyStore, sleep: HeldSleep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer comes after its probe was given up, and still shows that the store lives; else it would be cut off for good."""
    monkeypatch.setattr(guard, "_PROBE_TIMEOUT", 0.01)
    await opened(store, inner, sleep)
    inner.error = None
    inner.hang()
    sleep.wake()
    await sleep.fell_asleep(2)
    assert store.breaker_state is OPEN
    inner.release()
    async with asyncio.timeout(10):
        while not inner.ended["ping"]:  # noqa: ASYNC110 - the count is what tells
            await asyncio.sleep(0)
    inner.hang()
    sleep.wake()
    await inner.arrived("ping", times=2)
    await probed(store)
    assert store.breaker_state is CLOSED


async def test_a_probe_that_hangs_is_not_waited_for(
    store: GuardedStore, inner: FaultyStore, sleep: HeldSleep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as none, and the next one comes."""
    monkeypatch.setattr(guard, "_PROBE_TIMEOUT", 0.01)
    await opened(store, inner, sleep)
    inner.hang()
    sleep.wake()
    await sleep.fell_asleep(2)
    assert store.breaker_state is OPEN
    inner.error = None
    inner.release()
    sleep.wake()
    await inner.arrived("ping", times=2)
    await probed(store)
    assert store.breaker_state is CLOSED


async def test_a_drivers_mistake_in_a_probe_does_not_end_the_probing(
    store: GuardedStore, inner: FaultyStore, sleep: HeldSleep
) -> None:
    """Else the breaker would stay open for ever."""
    await opened(store, inner, sleep)
    inner.error = LookupError("what no store may raise")
    sleep.wake()
    await sleep.fell_asleep(2)
    assert store.breaker_state is OPEN
    inner.error = None
    sleep.wake()
    await inner.arrived("ping", times=2)
    await probed(store)
    assert store.breaker_state is CLOSED


async def test_failures_of_calls_from_before_do_not_open_it_again(
    store: GuardedStore, inner: FaultyStore, sleep: HeldSleep
) -> None:
    """They tell of the fault that is over."""
    inner.hang()
    old = [asyncio.ensure_future(store.find("one")) for _ in range(5)]
    await inner.arrived("find", times=5)
    release_old = inner.let_others_pass()
    await opened(store, inner, sleep)
    inner.error = None
    sleep.wake()
    await inner.arrived("ping")
    await probed(store)
    inner.error = StoreUnavailable("connection lost")
    release_old()
    results = await asyncio.gather(*old, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert store.breaker_state is CLOSED
    await fail(store, 5)
    assert store.breaker_state is OPEN


# -- life -----------------------------------------------------------------------------------------------------------------


async def test_closing_ends_the_probing(store: GuardedStore, inner: FaultyStore, sleep: HeldSleep) -> None:
    """No task is left, and a closed store says so."""
    before = asyncio.all_tasks()
    await opened(store, inner, sleep)
    assert asyncio.all_tasks() != before
    inner.error = None
    await store.close()
    assert asyncio.all_tasks() == before
    assert store.breaker_state is CLOSED
    with pytest.raises(StoreClosed):
        await store.find("one")
    await store.open()
    assert await store.find("one") == FOUND


async def test_closing_during_a_probe_ends_it(store: GuardedStore, inner: FaultyStore, sleep: HeldSleep) -> None:
    """Whether it is answered or not."""
    before = asyncio.all_tasks()
    await opened(store, inner, sleep)
    inner.hang()
    sleep.wake()
    await inner.arrived("ping")
    inner.error = None
    closing = asyncio.ensure_future(store.close())
    await inner.arrived("close")
    assert inner.ended["ping"] == 1
    inner.release()
    await closing
    assert asyncio.all_tasks() == before


async def test_a_probe_that_raises_is_no_answer() -> None:
    """Whatever a driver raises: the breaker goes on asking."""
    answers: list[Exception | bool] = [LookupError("a driver's mistake"), True]
    sleep = HeldSleep()

    async def probe() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    breaker = Breaker(probe, sleep=sleep)
    for _ in range(5):
        breaker.failed(0)
    await sleep.fell_asleep(1)
    sleep.wake()
    await sleep.fell_asleep(2)
    assert (breaker.state, len(answers)) == (OPEN, 1)
    sleep.wake()
    async with asyncio.timeout(10):
        while breaker.state is not CLOSED:  # noqa: ASYNC110 - the state is what tells
            await asyncio.sleep(0)
    assert breaker.period == 1


def test_an_answer_from_before_clears_no_failure_of_now() -> None:
    """What a call of an earlier period says is about the past."""

    async def probe() -> bool:
        return True

    breaker = Breaker(probe)
    breaker.period = 1
    breaker._failures = 3
    breaker.answered(0)
    assert breaker._failures == 3
    breaker.answered(1)
    assert breaker._failures == 0
