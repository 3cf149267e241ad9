"""The barrier: whoever waited for it has heard of everything that was written before, by whichever process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreUnavailable
from backends.records import KeyState
from tests.support.clock import START
from tests.support.keys import make_key
from tests.support.recorder import EVERYTHING, HEARTBEAT, Recorder, told_by, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backends.contract import KeyStore
    from tests.support.stores import StoreUnderTest

KEYS = 20


@pytest.fixture
async def full(store: KeyStore) -> KeyStore:
    """With a number of keys."""
    await store.add_many([], [make_key(f"k{number}") for number in range(KEYS)])
    return store


@pytest.fixture
async def other(under_test: StoreUnderTest, full: KeyStore) -> AsyncIterator[KeyStore]:
    """A second store object on the same data, as another process has it."""
    assert full is under_test.store
    other = under_test.another()
    await other.open()
    yield other
    await other.close()


@pytest.mark.parametrize("round_number", range(3))
async def test_after_a_barrier_everything_before_it_has_been_told(
    full: KeyStore, other: KeyStore, round_number: int
) -> None:
    """Written here or by another process, one by one or at once."""
    async with watching(full) as recorder:
        for number in range(KEYS // 2):
            await (other if number % 2 else full).set_state(f"key_k{number}", KeyState.REVOKED, now=START)
        rest = range(KEYS // 2, KEYS)
        await asyncio.gather(*(other.set_state(f"key_k{number}", KeyState.DISABLED, now=START) for number in rest))
        await full.barrier()
        told = {event for event in recorder.events if event != HEARTBEAT}
        assert told == {f"k{number}" for number in range(KEYS)}, f"round {round_number}"


async def test_each_write_followed_by_a_barrier_has_been_told(full: KeyStore, other: KeyStore) -> None:
    """One after the other, as management calls with ``?wait=1`` come."""
    async with watching(full) as recorder:
        for number in range(KEYS):
            await other.set_state(f"key_k{number}", KeyState.REVOKED, now=START)
            await full.barrier()
            assert f"k{number}" in recorder.events


async def test_a_bulk_change_has_been_told_too(full: KeyStore, other: KeyStore) -> None:
    """As the one announcement that it is."""
    async with watching(full) as recorder:
        await other.set_organization_active("acme", is_active=False, now=START)
        await full.barrier()
        assert EVERYTHING in recorder.events


async def test_many_barriers_at_once_all_return(full: KeyStore, other: KeyStore) -> None:
    """Each with what was written before it; nobody takes another one's answer and waits for ever."""
    async with watching(full) as recorder:

        async def write_and_wait(number: int) -> bool:
            await other.set_state(f"key_k{number}", KeyState.REVOKED, now=START)
            await full.barrier()
            return f"k{number}" in recorder.events

        assert all(await asyncio.gather(*(write_and_wait(number) for number in range(KEYS))))


async def test_a_barrier_is_heard_as_a_sign_of_life(full: KeyStore) -> None:
    """It went through the announcing path itself."""
    async with watching(full) as recorder:
        before = sum(told.what == HEARTBEAT for told in recorder.told)
        await full.barrier()
        assert sum(told.what == HEARTBEAT for told in recorder.told) > before


async def test_a_barrier_that_nobody_watches_for_says_so(full: KeyStore, other: KeyStore) -> None:
    """At any moment: before, between and after; and another process's watch is not this one's."""
    with pytest.raises(StoreUnavailable):
        await full.barrier()
    async with watching(full):
        await full.barrier()
        if full.name != "memory":  # there the other is this one
            with pytest.raises(StoreUnavailable):
                await other.barrier()
    with pytest.raises(StoreUnavailable):
        await full.barrier()


async def test_a_barrier_whose_watch_ends_meanwhile_does_not_wait_for_ever(full: KeyStore) -> None:
    """It returns, because the sign came, or says that nobody watches."""
    for _ in range(5):
        async with watching(full):
            barriers = [asyncio.ensure_future(full.barrier()) for _ in range(3)]
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            results = await asyncio.gather(*barriers, return_exceptions=True)
        assert all(result is None or isinstance(result, StoreUnavailable) for result in results)


async def test_a_barrier_in_a_process_that_has_just_begun_to_watch_tells_the_truth(full: KeyStore) -> None:
    """Either it says that nobody watches yet, or what was written before has been told: as ``everything_changed``."""
    recorder = Recorder()
    await full.set_state("key_k1", KeyState.REVOKED, now=START)
    async with told_by(full, recorder):
        try:
            await full.barrier()
        except StoreUnavailable:
            await recorder.until(HEARTBEAT)
            await full.barrier()
        assert EVERYTHING in {told.what for told in recorder.told}


async def test_a_store_without_copies_holds_everything(full: KeyStore) -> None:
    """What returned is as durable as it will ever be."""
    await full.set_state("key_k1", KeyState.REVOKED, now=START)
    assert await full.replicate() is True
