"""The network fails in every way it can: each call says so in time, nothing happens by halves, and nothing is left behind.

Deadlines here only end a test that would hang; how long anything took is measured elsewhere.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from backends.breaker import BreakerState
from backends.errors import StoreError, StoreNotAsked, StoreUnavailable
from backends.factory import create_store
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.fault_proxy import Mode
from tests.support.faulty_lines import DEADLINE, line_to
from tests.support.keys import make_key
from tests.support.recorder import EVERYTHING, HEARTBEAT, watching
from tests.support.store_calls import ONE, READS, WRITES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.faulty_lines import Line
    from tests.support.stores import NetworkKind

FAULTS = [mode for mode in Mode if mode not in (Mode.PASS, Mode.SLOW)]
STALLS = (Mode.STALL, Mode.STALL_REPLIES, Mode.GARBAGE)
"""Modes that only a deadline may find out about; such calls are made at once, so that a test waits for one deadline."""

NO_ANSWER = frozenset({StoreUnavailable, StoreNotAsked})
"""What a fault may raise, exactly: the store did not answer, or was spared the question by then. Not that it is unfit."""

TWO = FoundKey(make_key("two"), organization_is_active=True)


@pytest.fixture
async def line(network_kind: NetworkKind) -> AsyncIterator[Line]:
    """Used already, so that connections are open."""
    async with line_to(network_kind) as line:
        await line.works_again()
        await asyncio.gather(*(outcome(line.store.find("one")) for _ in range(5)))
        yield line


async def outcome(call: Awaitable[object]) -> object:
    """What it returned, or the error that it raised; a call that does not end fails the test."""
    async with asyncio.timeout(DEADLINE):
        try:
            return await call
        except Exception as error:  # noqa: BLE001 - whatever it is, the test says what it should have been
            return error


async def outcomes(line: Line, calls: dict[str, Callable[[], Awaitable[object]]]) -> dict[str, object]:
    """By the calls' names; one after the other where a fault is told at once."""
    if line.proxy.mode in STALLS:
        found = await asyncio.gather(*(outcome(call()) for call in calls.values()))
    else:
        found = [await outcome(call()) for call in calls.values()]
    return dict(zip(calls, found, strict=True))


# -- while it lasts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FAULTS)
async def test_every_read_says_that_there_was_no_answer(line: Line, mode: Mode) -> None:
    """No answer is made up, no error of a driver escapes; afterwards each read works."""
    await line.proxy.become(mode)
    found = await outcomes(line, {name: lambda call=call: call(line.store) for name, call in READS.items()})  # type: ignore[misc]  # bound for each name
    assert line.proxy.faults or mode is Mode.REFUSE
    wrong = {name: answer for name, answer in found.items() if type(answer) not in NO_ANSWER}
    assert not wrong
    await line.proxy.become(Mode.PASS)
    await line.works_again()
    assert await outcome(line.store.find("one")) == ONE
    for name, call in READS.items():
        assert not isinstance(await outcome(call(line.store)), StoreError), name


@pytest.mark.parametrize("mode", FAULTS)
async def test_every_write_happened_whole_or_not_at_all(line: Line, mode: Mode) -> None:
    """Its caller hears ``StoreUnavailable``; a request that did not come through changed nothing; none was made twice."""
    await line.proxy.become(mode)
    calls = {name: lambda write=write: write.call(line.store) for name, write in WRITES.items()}
    found = await outcomes(line, calls)  # type: ignore[arg-type]  # bound for each name
    wrong = {name: answer for name, answer in found.items() if type(answer) not in NO_ANSWER}
    assert not wrong
    await line.proxy.become(Mode.PASS)
    await line.works_again()
    await line.store.close()  # nothing is on its way any more
    for name, write in WRITES.items():
        seen = await write.look(line.direct)
        assert seen in (write.before, write.after), name
        if mode in (Mode.REFUSE, Mode.RESET, Mode.CLOSE):
            assert seen == write.before, name


@pytest.mark.parametrize("mode", [Mode.RESET, Mode.STALL_REPLIES, Mode.TRUNCATE])
async def test_after_a_fault_every_write_works(line: Line, mode: Mode) -> None:
    """No transaction is left open, no connection is unusable."""
    await line.proxy.become(mode)
    await asyncio.gather(*(outcome(line.store.set_state("key_one", KeyState.ACTIVE, now=START)) for _ in range(5)))
    await line.proxy.become(Mode.PASS)
    await line.works_again()
    for name, write in WRITES.items():
        assert await outcome(write.call(line.store)) == write.answer, name
        assert await write.look(line.direct) == write.after, name


async def test_a_slow_line_is_only_slow(line: Line) -> None:
    """Whatever arrives before the deadline counts."""
    await line.proxy.become(Mode.SLOW, pause=0.005)
    assert await line.store.find("one") == ONE
    assert await line.store.find("none") is None
    assert line.proxy.faults


# -- and afterwards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FAULTS)
async def test_the_pool_is_whole_afterwards(line: Line, mode: Mode) -> None:
    """As many connections as there may be, none lent for ever; the store bears as much as before."""
    await line.proxy.become(mode)
    calls = [outcome(line.store.get("key_one")) for _ in range(20)]
    assert {type(answer) for answer in await asyncio.gather(*calls)} <= NO_ANSWER
    await line.proxy.become(Mode.PASS)
    await line.works_again()
    async with asyncio.timeout(DEADLINE):  # a machine that stands still for a second is not the store's fault
        while (answers := await asyncio.gather(*(outcome(line.store.find("one")) for _ in range(50)))) != [ONE] * 50:
            assert all(answer == ONE or type(answer) in NO_ANSWER for answer in answers), answers
            await line.works_again()
    async with asyncio.timeout(DEADLINE):  # what was given up is given back when its driver has noticed
        while line.store.connections.used or line.store.abandoned_calls:  # noqa: ASYNC110 - numbers have no event
            await asyncio.sleep(0.01)
    counts = line.store.connections
    assert 0 < counts.idle <= counts.maximum
    await line.connections_fall_to(counts.maximum + 1)


async def test_the_first_call_after_a_cut_may_already_succeed(line: Line) -> None:
    """What is open dies, the server lives: a look-up has its answer, or the one after it."""
    for _ in range(5):
        line.proxy.cut()
        with suppress(StoreUnavailable):
            assert await line.store.find("one") == ONE
        assert await line.store.find("one") == ONE


async def test_calls_whose_connections_are_cut_end_at_once(line: Line) -> None:
    """They do not wait for their deadline, nor for ever."""
    await line.proxy.become(Mode.STALL_REPLIES)
    before = line.proxy.faults
    calls = [asyncio.ensure_future(outcome(line.store.find("one"))) for _ in range(5)]
    async with asyncio.timeout(DEADLINE):
        while line.proxy.faults == before:  # noqa: ASYNC110 - a number has no event to wait for
            await asyncio.sleep(0.001)
    await line.proxy.become(Mode.PASS)
    line.proxy.cut()
    answers = await asyncio.gather(*calls)
    assert all(answer == ONE or type(answer) in NO_ANSWER for answer in answers)
    await line.works_again()


async def test_connections_into_nowhere_are_given_up(line: Line) -> None:
    """The address moved to another machine, and no packet tells; all that is open is silent for ever."""
    await asyncio.gather(*(outcome(line.store.find("one")) for _ in range(30)))
    line.proxy.lose()
    answers = await asyncio.gather(*(outcome(line.store.find("one")) for _ in range(30)))
    assert all(answer == ONE or type(answer) in NO_ANSWER for answer in answers)
    await line.works_again()
    async with asyncio.timeout(DEADLINE):
        while await asyncio.gather(*(outcome(line.store.get("key_one")) for _ in range(10))) != [ONE.key] * 10:  # noqa: ASYNC110 - a store has no event
            await asyncio.sleep(0.02)


async def test_an_announcing_line_into_nowhere_is_given_up(line: Line) -> None:
    """It is silent, so it is made anew, and everything may have changed."""
    async with watching(line.store) as recorder:
        line.proxy.lose()
        recorder.events.clear()
        await line.direct.set_state("key_two", KeyState.REVOKED, now=START)
        await recorder.wait_for(lambda: "two" in recorder.events or EVERYTHING in recorder.events)
        await recorder.until(HEARTBEAT, times=2)


@pytest.mark.parametrize("mode", [Mode.STALL, Mode.STALL_REPLIES])
async def test_nobody_gets_another_ones_answer(line: Line, mode: Mode) -> None:
    """The answers to calls that were given up arrive after all, when their connections are used by others already."""
    await line.proxy.become(mode)
    given_up = [outcome(line.store.find("one")) for _ in range(3)]
    given_up += [outcome(line.store.journal.audit_head("pruned")), outcome(line.store.get("key_one"))]
    assert {type(answer) for answer in await asyncio.gather(*given_up)} <= NO_ANSWER
    await line.proxy.become(Mode.PASS)
    await line.works_again()
    for _ in range(10):
        answers = await asyncio.gather(*(line.store.find(name) for name in ("one", "two", "none", "two", "one") * 2))
        assert answers == [ONE, TWO, None, TWO, ONE] * 2


async def test_connections_that_were_being_made_are_not_used_half_made(line: Line) -> None:
    """Who leaves during a connection's first words leaves their answers behind; the next caller must not take those."""
    await line.proxy.become(Mode.STALL)
    line.proxy.lose()  # so that every call needs a new connection
    for _ in range(3):
        waves = [asyncio.ensure_future(line.store.get("key_one")) for _ in range(30)]
        await asyncio.wait(waves, timeout=0.2)
        for call in waves:
            call.cancel()
        await asyncio.wait(waves)
    calls = [asyncio.ensure_future(outcome(line.store.find(name))) for name in ("one", "two", "none") * 5]
    await asyncio.wait(calls, timeout=0.2)
    await line.proxy.become(Mode.PASS)
    for answer, expected in zip(await asyncio.gather(*calls), [ONE, TWO, None] * 5, strict=True):
        assert answer == expected or type(answer) in NO_ANSWER
    await line.works_again()
    for _ in range(10):
        answers = await asyncio.gather(*(outcome(line.store.find(name)) for name in ("one", "two", "none") * 5))
        for answer, expected in zip(answers, [ONE, TWO, None] * 5, strict=True):
            assert answer == expected or type(answer) in NO_ANSWER


async def test_callers_that_leave_do_not_spoil_connections(line: Line) -> None:
    """Cancelled at any moment of their call."""
    for steps in range(40):
        call = asyncio.ensure_future(line.store.find("one"))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        assert [await line.store.find("two"), await line.store.find("none")] == [TWO, None]


async def test_the_breaker_opens_and_the_store_comes_back_by_itself(line: Line) -> None:
    """Through the whole circle, with the real probe."""
    await line.proxy.become(Mode.REFUSE)
    for _ in range(5):
        assert type(await outcome(line.store.find("one"))) in NO_ANSWER
    assert line.store.breaker_state > BreakerState.CLOSED
    await line.proxy.become(Mode.PASS)
    await line.works_again()
    assert line.store.breaker_state is BreakerState.CLOSED


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.STALL])
async def test_a_store_opens_and_closes_while_its_server_is_away(line: Line, mode: Mode) -> None:
    """It does not wait for the server; it works as soon as that is there; and it can be closed before."""
    await line.proxy.become(mode)
    for is_back in (False, True):
        store = create_store(line.url)
        async with asyncio.timeout(DEADLINE):
            await store.open()
            if is_back:
                await line.proxy.become(Mode.PASS)
                while await outcome(store.find("one")) != ONE:  # noqa: ASYNC110 - a store has no event
                    await asyncio.sleep(0.02)
            await store.close()


async def test_a_store_closes_while_calls_hang(line: Line) -> None:
    """Whoever waits hears of it."""
    await line.proxy.become(Mode.STALL)
    calls = [asyncio.ensure_future(outcome(line.store.get("key_one"))) for _ in range(5)]
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE):
        await line.store.close()
    assert all(isinstance(answer, StoreError) for answer in await asyncio.gather(*calls))


# -- announcements --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.CLOSE, Mode.TRUNCATE, Mode.GARBAGE])
async def test_a_gap_is_told_before_the_next_sign_of_life(line: Line, mode: Mode) -> None:
    """Whatever was announced meanwhile is lost, so everything may have changed."""
    async with watching(line.store) as recorder:
        await line.proxy.become(mode)
        line.proxy.cut()
        await line.direct.set_state("key_two", KeyState.REVOKED, now=START)
        told_before = len(recorder.told)
        await line.proxy.become(Mode.PASS)
        await recorder.wait_for(lambda: HEARTBEAT in {told.what for told in recorder.told[told_before:]})
        told = [told.what for told in recorder.told[told_before:]]
        assert EVERYTHING in told[: told.index(HEARTBEAT)]
        await line.direct.set_state("key_one", KeyState.DISABLED, now=START)
        await recorder.until("one")


async def test_a_stalled_line_gives_no_sign_of_life(line: Line) -> None:
    """And what was changed meanwhile is told before the line counts as alive again."""
    async with watching(line.store) as recorder, watching(line.direct) as direct:
        await line.proxy.become(Mode.STALL)
        recorder.events.clear()
        await direct.until(HEARTBEAT, times=5)
        assert recorder.events.count(HEARTBEAT) <= 1, "only what was on its way already"
        await line.direct.set_state("key_two", KeyState.REVOKED, now=START)
        await direct.until(HEARTBEAT, times=2)
        told_before = len(recorder.told)
        await line.proxy.become(Mode.PASS)
        await recorder.wait_for(lambda: any(told.what in ("two", EVERYTHING) for told in recorder.told[told_before:]))
        told = recorder.told[told_before:]
        heard = next(number for number, told in enumerate(told) if told.what in ("two", EVERYTHING))
        early = [told.delay for told in told[:heard] if told.what == HEARTBEAT]
        assert all(delay is not None and delay > 0.5 for delay in early), "an old sign of life passed for a new one"
        await recorder.until(HEARTBEAT, times=2)


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.STALL, Mode.STALL_REPLIES])
async def test_a_barrier_over_a_broken_line_says_so(line: Line, mode: Mode) -> None:
    """It never returns as if the announcements had come."""
    inner = create_store(line.url)
    await inner.open()
    async with watching(inner):
        await inner.barrier()
        await line.proxy.become(mode)
        answers = await asyncio.gather(*(outcome(inner.barrier()) for _ in range(3)))
        assert {type(answer) for answer in answers} <= NO_ANSWER
        await line.proxy.become(Mode.PASS)
        async with asyncio.timeout(DEADLINE):
            while await outcome(inner.barrier()) is not None:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.02)
    await inner.close()


async def test_a_watch_that_begins_while_the_server_is_away_begins_later(line: Line) -> None:
    """It does not end, and its first word is that everything may have changed."""
    await line.proxy.become(Mode.REFUSE)
    began = asyncio.Event()

    async def come_back() -> None:
        await began.wait()
        await line.proxy.become(Mode.PASS)

    coming = asyncio.ensure_future(come_back())
    asyncio.get_running_loop().call_later(0.1, began.set)  # some time in which it can only fail
    async with watching(line.store) as recorder:
        assert recorder.told[0].what == EVERYTHING
    await coming


# -- the server itself ----------------------------------------------------------------------------------------------------


async def test_a_server_that_is_paused_answers_again_when_it_goes_on(network_kind: NetworkKind, line: Line) -> None:
    """SIGSTOP, as a machine that swaps or a snapshot that is taken; nobody gets another one's answer."""
    await asyncio.to_thread(network_kind.pause)
    try:
        answers = await asyncio.gather(*(outcome(line.store.find("one")) for _ in range(5)))
        assert {type(answer) for answer in answers} <= NO_ANSWER
        answers = await asyncio.gather(*(outcome(write.call(line.store)) for write in WRITES.values()))
        assert {type(answer) for answer in answers} <= NO_ANSWER
    finally:
        await asyncio.to_thread(network_kind.resume)
    await line.works_again()
    answers = await asyncio.gather(*(line.store.find(name) for name in ("one", "two", "none") * 5))
    assert answers == [ONE, TWO, None] * 5
    await line.store.close()
    for name, write in WRITES.items():
        assert await write.look(line.direct) in (write.before, write.after), name
