"""Use counts: exact whichever threads count, bounded, written in batches, kept while the store is away."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import structlog

from backends.journal import HourCount, LastUse, UsageCount
from service.manage import usage as usage_module
from service.manage.usage import UsageRecorder
from tests.support.clock import START
from tests.unit.manage.world import running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.manage.world import World

NOW = START.timestamp()
HOUR = START.replace(minute=0, second=0)
EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def recorder(world: World) -> UsageRecorder:
    return UsageRecorder(world.journal, clock=world.clock)


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


async def hours(world: World, key_id: str = "one") -> tuple[HourCount, ...]:
    return await world.journal.usage(key_id, since=EVER[0], until=EVER[1])


async def count(world: World, key_id: str = "one") -> int:
    return sum(item.count for item in await hours(world, key_id))


def note(recorder: UsageRecorder, key_id: str = "one", at: float = NOW, *, previous: bool = False) -> None:
    recorder.note(key_id, at, previous)


async def test_uses_are_counted_by_key_and_hour(world: World, recorder: UsageRecorder) -> None:
    """Nothing is written before it is time."""
    for at, previous in ((NOW, False), (NOW + 2, True), (NOW + 1, False)):
        note(recorder, at=at, previous=previous)
    note(recorder, "two", NOW + 7)
    assert await count(world) == 0
    await recorder.flush()
    assert await hours(world) == (HourCount(HOUR, 3),)
    assert await world.journal.last_use(["one", "two"]) == {
        "one": LastUse(START + timedelta(seconds=2), START + timedelta(seconds=2)),
        "two": LastUse(START + timedelta(seconds=7)),
    }


async def test_hours_are_split_right_at_the_border(world: World, recorder: UsageRecorder) -> None:
    """A use on the stroke belongs to the hour that begins."""
    border = (HOUR + timedelta(hours=1)).timestamp()
    for at in (border - 0.000001, border, border + 3599.9):
        note(recorder, at=at)
    await recorder.flush()
    assert await hours(world) == (HourCount(HOUR, 1), HourCount(HOUR + timedelta(hours=1), 2))


async def test_flushes_add_up(world: World, recorder: UsageRecorder) -> None:
    """And an empty one writes nothing."""
    for _ in range(3):
        note(recorder)
        await recorder.flush()
    await recorder.flush()
    assert await count(world) == 3
    assert world.faults.calls["add_usage"] == 3


async def test_run_writes_by_itself(world: World, recorder: UsageRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few seconds."""
    assert usage_module._INTERVAL * 1.2 <= 5
    monkeypatch.setattr(usage_module, "_INTERVAL", 0.001)
    async with running(recorder.run):
        for expected in (1, 2):
            note(recorder)
            await until(lambda: not recorder._uses and not recorder._cells, "it is written")
            await recorder.flush()
            assert await count(world) == expected


@pytest.mark.usefixtures("_hasty")
async def test_no_count_is_lost_among_eight_threads(world: World, recorder: UsageRecorder) -> None:
    """While they are flushed all the time."""
    each, threads = 5_000, 8

    def use() -> None:
        for number in range(each):
            note(recorder, f"key-{number % 3}", previous=number % 2 == 0)

    with ThreadPoolExecutor(threads) as pool:
        loop = asyncio.get_running_loop()
        work = asyncio.gather(*(loop.run_in_executor(pool, use) for _ in range(threads)))
        while not work.done():
            await recorder.flush()
            await asyncio.sleep(0)
        await work
    await recorder.flush()
    assert sum([await count(world, f"key-{number}") for number in range(3)]) == each * threads


async def test_what_waits_is_bounded_without_anybody_flushing(recorder: UsageRecorder) -> None:
    """The noting threads count some of it themselves."""
    for number in range(20_000):
        note(recorder, f"key-{number % 7}")
    assert len(recorder._uses) <= 1_024
    assert len(recorder._cells) == 7


async def test_nobody_waits_for_a_lock(recorder: UsageRecorder) -> None:
    """While another thread counts, uses are only noted."""
    with recorder._lock:
        for _ in range(2_000):
            note(recorder)
    assert len(recorder._uses) == 2_000


async def test_more_keys_than_fit_are_not_counted_and_that_is_told(world: World) -> None:
    """Memory is bounded while the store is away; what was there already goes on being counted."""
    recorder = UsageRecorder(world.journal, clock=world.clock, most_cells=3)
    world.faults.stop("add_usage")
    with structlog.testing.capture_logs() as said:
        for number in range(5):
            note(recorder, f"key-{number}")
        await recorder.flush()
        for number in range(5):
            note(recorder, f"key-{number}")
        world.faults.errors.clear()
        await recorder.flush()
    assert [await count(world, f"key-{number}") for number in range(5)] == [2, 2, 2, 0, 0]
    assert [event["count"] for event in said if event["event"] == "uses_not_counted"] == [2, 2]


async def test_what_does_not_fit_any_more_when_it_comes_back_is_told(world: World) -> None:
    """A failed batch meets newer keys in its place."""
    recorder = UsageRecorder(world.journal, clock=world.clock, most_cells=1)

    async def meanwhile() -> None:
        note(recorder, "two")
        with recorder._lock:
            recorder._fold(10)

    note(recorder, "one")
    world.faults.before["add_usage"] = meanwhile
    world.faults.stop("add_usage")
    await recorder.flush()
    world.faults.errors.clear()
    with structlog.testing.capture_logs() as said:
        await recorder.flush()
    assert (await count(world, "one"), await count(world, "two")) == (0, 1)
    assert [event["count"] for event in said if event["event"] == "uses_not_counted"] == [1]


async def test_counts_are_kept_while_the_store_is_away(world: World, recorder: UsageRecorder) -> None:
    """And added to what comes meanwhile; the log says when it began and when it was over, not more."""
    world.faults.stop("add_usage")
    with structlog.testing.capture_logs() as said:
        for number in range(3):
            note(recorder, at=NOW + number, previous=number == 1)
            await recorder.flush()
            world.clock.advance(10)
        world.faults.errors.clear()
        await recorder.flush()
        await recorder.flush()
    assert await hours(world) == (HourCount(HOUR, 3),)
    assert (await world.journal.last_use(["one"]))["one"] == LastUse(
        START + timedelta(seconds=2), START + timedelta(seconds=1)
    )
    assert [(event["event"], event.get("seconds")) for event in said] == [
        ("usage_delayed", None),
        ("usage_caught_up", 30.0),
    ]


async def test_a_large_flush_goes_in_batches_and_keeps_what_was_not_written(world: World) -> None:
    """A batch that went through is not written again."""
    recorder = UsageRecorder(world.journal, clock=world.clock)
    for number in range(1_200):
        note(recorder, f"key-{number}")

    async def stop_next() -> None:
        async def stop() -> None:
            world.faults.stop("add_usage")

        world.faults.before["add_usage"] = stop

    world.faults.before["add_usage"] = stop_next
    await recorder.flush()
    written = [await count(world, f"key-{number}") for number in range(1_200)]
    assert sum(written) == 500
    world.faults.errors.clear()
    await recorder.flush()
    assert [await count(world, f"key-{number}") for number in range(1_200)] == [1] * 1_200
    assert world.faults.calls["add_usage"] == 4


async def test_a_flush_under_way_when_the_process_stops_is_written_once(
    world: World, recorder: UsageRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``run`` is cancelled before it has the answer, then everything is flushed."""
    monkeypatch.setattr(usage_module, "_INTERVAL", 0.001)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        arrived.set()
        await go_on.wait()

    world.faults.after["add_usage"] = wait
    note(recorder)
    async with running(recorder.run):
        await arrived.wait()
        note(recorder)
    last = asyncio.create_task(recorder.flush())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not last.done()
    go_on.set()
    await last
    assert await count(world) == 2


async def test_a_defect_loses_no_counts(world: World, recorder: UsageRecorder) -> None:
    """Whatever the store raises."""
    note(recorder)
    world.faults.errors["add_usage"] = RuntimeError("a defect")
    with pytest.raises(RuntimeError):
        await recorder.flush()
    world.faults.errors.clear()
    await recorder.flush()
    assert await count(world) == 1


async def test_a_lost_answer_may_count_twice_never_less(world: World, recorder: UsageRecorder) -> None:
    """As the module says."""
    world.faults.unanswered.add("add_usage")
    note(recorder)
    await recorder.flush()
    world.faults.unanswered.clear()
    await recorder.flush()
    assert await count(world) == 2


def test_a_batch_is_what_the_journal_takes() -> None:
    """Whole hours in UTC."""
    cell = usage_module._Cell()
    cell.add(2, NOW, 0.0)
    assert usage_module._count("one", int(NOW // 3600), cell) == UsageCount(
        key_id="one", hour=HOUR, count=2, last_used_at=START
    )
