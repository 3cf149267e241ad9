"""What is special about the memory store; the contract suite holds it to everything else."""

from __future__ import annotations

import asyncio

import pytest

from backends.memory import MemoryKeyStore
from backends.records import Connections
from tests.support.keys import make_key, make_organization
from tests.support.recorder import EVERYTHING, HEARTBEAT, Recorder


@pytest.fixture
async def store() -> MemoryKeyStore:
    store = MemoryKeyStore()
    await store.open()
    await store.add_organization(make_organization())
    return store


async def test_two_memory_stores_share_nothing(store: MemoryKeyStore) -> None:
    """Each is a world of its own."""
    other = MemoryKeyStore()
    await other.open()
    await store.add(make_key("one"))
    assert await other.find("one") is None


async def test_a_change_is_announced_before_its_call_returns(store: MemoryKeyStore) -> None:
    """In the very step: there is no moment between write and announcement."""
    recorder = Recorder()
    watcher = asyncio.create_task(store.watch(recorder))
    await asyncio.sleep(0)
    await store.add(make_key("one"))
    assert recorder.events == [EVERYTHING, HEARTBEAT, "one"]
    watcher.cancel()
    await asyncio.wait({watcher})
    assert store._listeners == []


async def test_a_new_organization_is_no_reason_to_forget_everything(store: MemoryKeyStore) -> None:
    """It has no keys yet."""
    recorder = Recorder()
    watcher = asyncio.create_task(store.watch(recorder))
    await asyncio.sleep(0)
    await store.add_organization(make_organization("new"))
    await store.add_many([make_organization("new")], [])
    assert recorder.events == [EVERYTHING, HEARTBEAT]
    watcher.cancel()
    await asyncio.wait({watcher})


async def test_no_call_waits(store: MemoryKeyStore) -> None:
    """Which is what makes each write atomic: driven by hand, a call ends at its first step."""
    with pytest.raises(StopIteration):
        store.add(make_key("one")).send(None)
    with pytest.raises(StopIteration):
        store.find("one").send(None)


async def test_there_is_nothing_to_prepare_and_no_connection(store: MemoryKeyStore) -> None:
    """It lives and dies with the process."""
    assert await store.migrate() == ()
    assert store.connections == Connections()
