"""Use counts: they add up whoever writes them, in whatever order; the time of the last use never moves back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backends.journal import HourCount, LastUse, UsageCount
from tests.support.clock import START
from tests.support.keys import in_seconds, make_key

if TYPE_CHECKING:
    from datetime import datetime

    from backends.contract import KeyStore

HOUR = 3_600.0


def hour(number: int) -> datetime:
    """The start of an hour of the test's day."""
    return in_seconds(number * HOUR - START.minute * 60 - START.second)


def used(
    key_id: str = "key_one", *, at: float = 0.0, count: int = 1, in_hour: int = 0, previous: float | None = None
) -> UsageCount:
    return UsageCount(
        key_id=key_id,
        hour=hour(in_hour),
        count=count,
        last_used_at=in_seconds(at),
        previous_secret_used_at=None if previous is None else in_seconds(previous),
    )


async def hours(store: KeyStore, key_id: str = "key_one", *, since: int = -99, until: int = 99) -> dict[int, int]:
    found = await store.journal.usage(key_id, since=hour(since), until=hour(until))
    assert [item.hour for item in found] == sorted(item.hour for item in found)
    return {round((item.hour - hour(0)).total_seconds() / HOUR): item.count for item in found}


async def test_a_key_that_was_never_used_has_no_hours_and_no_last_use(store: KeyStore) -> None:
    """Whether it is there or not."""
    await store.add(make_key("one"))
    assert await store.journal.usage("key_one", since=hour(0), until=hour(1)) == ()
    assert dict(await store.journal.last_use(["key_one", "key_none"])) == {}
    assert dict(await store.journal.last_use([])) == {}


async def test_counts_of_the_same_key_and_hour_add_up(store: KeyStore) -> None:
    """Over batches, and within one; other keys and hours apart."""
    await store.journal.add_usage([used(count=2), used("key_two", count=10), used(count=3)])
    await store.journal.add_usage([used(count=5, in_hour=1), used(count=7)])
    await store.journal.add_usage([])
    assert await hours(store) == {0: 12, 1: 5}
    assert await hours(store, "key_two") == {0: 10}


async def test_hours_are_those_that_start_in_the_range(store: KeyStore) -> None:
    """The first included, the last not; as aware UTC, to the microsecond."""
    await store.journal.add_usage([used(in_hour=number, count=number + 1) for number in (4, 0, 2, 1)])
    assert await hours(store, since=0, until=4) == {0: 1, 1: 2, 2: 3}
    assert await hours(store, since=1, until=2) == {1: 2}
    assert await hours(store, since=3, until=4) == {}
    assert await store.journal.usage("key_one", since=hour(4), until=hour(5)) == (HourCount(hour(4), 5),)
    (found,) = await store.journal.usage("key_one", since=hour(4), until=hour(5))
    assert found.hour.isoformat() == hour(4).isoformat()


async def test_the_last_use_moves_forward_and_never_back(store: KeyStore) -> None:
    """Batches of several processes come in any order."""
    for at, expected in ((5.000001, 5.000001), (3, 5.000001), (5, 5.000001), (9, 9), (8, 9)):
        await store.journal.add_usage([used(at=at)])
        assert dict(await store.journal.last_use(["key_one"])) == {"key_one": LastUse(in_seconds(expected))}


async def test_the_last_use_of_one_batch_is_its_latest(store: KeyStore) -> None:
    """Wherever it stands in it."""
    await store.journal.add_usage([used(at=2), used(at=7, in_hour=1), used(at=4, previous=3), used(at=1, previous=1)])
    assert dict(await store.journal.last_use(["key_one"])) == {"key_one": LastUse(in_seconds(7), in_seconds(3))}


async def test_the_use_of_the_previous_secret_is_kept_beside(store: KeyStore) -> None:
    """A batch without one takes nothing away."""
    steps = ((None, None), (4.5, 4.5), (None, 4.5), (2, 4.5), (6, 6))
    for number, (previous, expected) in enumerate(steps):
        await store.journal.add_usage([used(at=number, previous=previous)])
        moment = None if expected is None else in_seconds(expected)
        assert dict(await store.journal.last_use(["key_one"])) == {"key_one": LastUse(in_seconds(number), moment)}


async def test_several_last_uses_are_read_at_once(store: KeyStore) -> None:
    """Those that never were are left out."""
    await store.journal.add_usage([used(f"key_{number}", at=number) for number in range(0, 300, 2)])
    asked = (f"key_{number}" for number in range(300))
    found = dict(await store.journal.last_use(asked))
    assert found == {f"key_{number}": LastUse(in_seconds(number)) for number in range(0, 300, 2)}


async def test_a_large_batch_is_one(store: KeyStore) -> None:
    """5,000 keys used since the last flush."""
    await store.journal.add_usage([used(f"key_{number}", count=number + 1) for number in range(5_000)])
    for number in (0, 1_234, 4_999):
        assert await hours(store, f"key_{number}") == {0: number + 1}


async def test_counts_are_large_numbers(store: KeyStore) -> None:
    """A busy key in an hour, and for as long as counts are kept."""
    await store.journal.add_usage([used(count=3_000_000_000), used(count=3_000_000_000)])
    assert await hours(store) == {0: 6_000_000_000}


async def test_batches_that_meet_all_count(store: KeyStore) -> None:
    """20 processes flush the same keys at once, each in an order of its own; none waits for another for ever."""
    names = [f"key_{number}" for number in range(20)]

    async def flush(number: int) -> None:
        order = names[number:] + names[:number]
        batch = [used(name, at=number) for name in (order if number % 2 else reversed(order))]
        await store.journal.add_usage(batch)

    async with asyncio.timeout(60):
        await asyncio.gather(*(flush(number) for number in range(20)))
    for name in names:
        assert await hours(store, name) == {0: 20}
    assert set((await store.journal.last_use(names)).values()) == {LastUse(in_seconds(19))}


async def test_a_key_that_has_gone_does_not_stop_a_batch(store: KeyStore) -> None:
    """It was deleted between its last use and the flush."""
    await store.add(make_key("one"))
    await store.journal.add_usage([used("key_gone"), used("key_one"), used("key_gone")])
    assert await hours(store) == {0: 1}


async def test_use_does_not_change_the_key(store: KeyStore) -> None:
    """Neither its version nor its times."""
    await store.add(make_key("one"))
    await store.journal.add_usage([used(at=99)])
    assert await store.get("key_one") == make_key("one")


async def test_old_hours_are_pruned_and_the_last_use_stays(store: KeyStore) -> None:
    """Hours before the time, of every key; how many."""
    await store.journal.add_usage(
        [used(name, at=1, in_hour=number) for name in ("key_one", "key_two") for number in range(4)]
    )
    assert await store.journal.prune(now=in_seconds(0)) == 0
    assert await store.journal.prune(now=in_seconds(0), usage_before=hour(2)) == 4
    assert await store.journal.prune(now=in_seconds(0), usage_before=hour(2)) == 0
    assert await hours(store) == await hours(store, "key_two") == {2: 1, 3: 1}
    assert await store.journal.prune(now=in_seconds(0), usage_before=hour(99)) == 4
    assert await hours(store) == {}
    assert dict(await store.journal.last_use(["key_one"])) == {"key_one": LastUse(in_seconds(1))}


async def test_the_uses_of_a_key_are_forgotten(store: KeyStore) -> None:
    """Its hours and its last use, and nobody else's; a use that comes later counts from the start."""
    await store.journal.add_usage(
        [used(name, at=1, in_hour=number) for name in ("key_one", "key_two") for number in (0, 1)]
    )
    await store.journal.forget_uses("key_one")
    assert await hours(store) == {}
    assert dict(await store.journal.last_use(["key_one", "key_two"])) == {"key_two": LastUse(in_seconds(1))}
    assert await hours(store, "key_two") == {0: 1, 1: 1}
    await store.journal.add_usage([used(at=0, in_hour=1)])
    assert await hours(store) == {1: 1}
    assert dict(await store.journal.last_use(["key_one"])) == {"key_one": LastUse(in_seconds(0))}
    assert await store.journal.prune(now=in_seconds(0), usage_before=hour(99)) == 3


@pytest.mark.parametrize("key_id", ["key_none", "", "k\x00", "k\udc80", "it's; --", "k" * 2_000])
async def test_where_there_are_no_uses_nothing_is_forgotten(store: KeyStore, key_id: str) -> None:
    """Whatever is asked for; the keys themselves stay."""
    await store.add(make_key("one"))
    await store.journal.add_usage([used()])
    await store.journal.forget_uses(key_id)
    assert await hours(store) == {0: 1}
    assert await store.get("key_one") == make_key("one")
