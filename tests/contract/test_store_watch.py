"""Announcements: every change reaches every listener, in order, with a sign of life between them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from backends.errors import Conflict, NotFound, VersionConflict
from backends.records import KeyState, Origin
from tests.support.clock import START
from tests.support.keys import PEPPERS, make_key, make_organization
from tests.support.recorder import EVERYTHING, HEARTBEAT, Recorder, watching

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backends.contract import KeyStore
    from tests.support.stores import StoreUnderTest


@pytest.fixture
async def full(store: KeyStore) -> KeyStore:
    """With the keys ``one`` and ``two``."""
    await store.add(make_key("one"))
    await store.add(make_key("two"))
    return store


async def test_a_connection_begins_with_everything_and_then_a_sign_of_life(full: KeyStore) -> None:
    """Whatever was missed before is forgotten before anything is trusted."""
    recorder = Recorder()
    watcher = asyncio.create_task(full.watch(recorder))
    assert await recorder.until(HEARTBEAT) == [EVERYTHING, HEARTBEAT]
    watcher.cancel()
    await asyncio.wait({watcher})


CHANGES: dict[str, tuple[Callable[[KeyStore], Awaitable[object]], str]] = {
    "add": (lambda store: store.add(make_key("new")), "new"),
    "replace": (lambda store: store.replace(make_key("one", name="x"), expected_version=1), "one"),
    "disable": (lambda store: store.set_state("key_one", KeyState.DISABLED, now=START), "one"),
    "revoke": (lambda store: store.set_state("key_two", KeyState.REVOKED, now=START), "two"),
    "rehash": (
        lambda store: store.rehash(
            "key_one", old=make_key("one").secret, new=PEPPERS.hash("secret-after-rotation-7c2f")
        ),
        "one",
    ),
    "delete": (lambda store: store.delete("key_one"), "one"),
    "switch an organization": (
        lambda store: store.set_organization_active("acme", is_active=False, now=START),
        EVERYTHING,
    ),
    "import": (lambda store: store.add_many([], [make_key(f"k{number}") for number in range(50)]), EVERYTHING),
    "import of an organization": (lambda store: store.add_many([make_organization("new")], []), EVERYTHING),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
async def test_a_change_is_announced_as_what_it_is(
    full: KeyStore, change: Callable[[KeyStore], Awaitable[object]], told: str
) -> None:
    """A bulk change as one, a key's change by its handle and no other."""
    async with watching(full) as recorder:
        await change(full)
        assert await recorder.changes(full) == {told}


FAILURES: dict[str, tuple[Callable[[KeyStore], Awaitable[object]], type[Exception]]] = {
    "add": (lambda store: store.add(make_key("one")), Conflict),
    "replace": (lambda store: store.replace(make_key("one"), expected_version=5), VersionConflict),
    "switch": (lambda store: store.set_state("key_none", KeyState.DISABLED, now=START), NotFound),
    "import": (lambda store: store.add_many([], [make_key("x"), make_key("y", key_id="key_one")]), Conflict),
    "organization": (lambda store: store.set_organization_active("nobody", is_active=False, now=START), NotFound),
}


@pytest.mark.parametrize(("call", "error"), FAILURES.values(), ids=FAILURES)
async def test_a_failed_write_announces_nothing(
    full: KeyStore, call: Callable[[KeyStore], Awaitable[object]], error: type[Exception]
) -> None:
    """It changed nothing."""
    async with watching(full) as recorder:
        with pytest.raises(error):
            await call(full)
        assert await recorder.changes(full) == set()


IDLE: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "switch to what it is": lambda store: store.set_state("key_one", KeyState.ACTIVE, now=START),
    "delete nothing": lambda store: store.delete("key_none"),
    "import what is there": lambda store: store.add_many([make_organization()], [make_key("one")]),
    "switch an organization to what it is": lambda store: store.set_organization_active(
        "acme", is_active=True, now=START
    ),
    "rehash what is not there": lambda store: store.rehash(
        "key_one", old=PEPPERS.hash("secret-after-rotation-7c2f"), new=PEPPERS.hash("a-third-secret")
    ),
}


@pytest.mark.parametrize("call", IDLE.values(), ids=IDLE)
async def test_what_changes_nothing_announces_nothing(
    full: KeyStore, call: Callable[[KeyStore], Awaitable[object]]
) -> None:
    """Else a script that repeats itself empties every cache."""
    async with watching(full) as recorder:
        await call(full)
        assert await recorder.changes(full) == set()


async def test_a_change_is_told_with_the_time_of_its_writing(full: KeyStore) -> None:
    """From which its delay is measured; never a time of the caller's ``now``, which is long over in this test."""
    async with watching(full) as recorder:
        before = time.time()
        await full.set_state("key_one", KeyState.DISABLED, now=START)
        await recorder.until("one")
        after = time.time()
        (told,) = [told for told in recorder.told if told.what == "one"]
        assert told.origin is Origin.KEY
        assert told.at is not None
        assert before - 1.0 <= told.at <= after + 1.0  # the store's clock, and some round it to milliseconds


async def test_a_bulk_change_is_told_as_one_and_a_connection_as_a_connection(full: KeyStore) -> None:
    """The metrics tell why caches were emptied."""
    async with watching(full) as recorder:
        await full.set_organization_active("acme", is_active=False, now=START)
        await recorder.until(EVERYTHING)
        origins = [told.origin for told in recorder.told if told.what == EVERYTHING]
        assert origins == [Origin.RECONNECT, Origin.BULK]


async def test_a_sign_of_life_says_how_old_it_is(full: KeyStore) -> None:
    """A number of seconds, small while nothing hangs, never negative."""
    async with watching(full) as recorder:
        await recorder.until(HEARTBEAT)
        delays = [told.delay for told in recorder.told if told.what == HEARTBEAT]
        assert all(delay is not None and 0.0 <= delay < 5.0 for delay in delays)


async def test_a_change_by_another_process_is_told_here(under_test: StoreUnderTest, full: KeyStore) -> None:
    """Which is what the announcements are for."""
    other = under_test.another()
    await other.open()
    async with watching(full) as recorder:
        await other.set_state("key_two", KeyState.REVOKED, now=START)
        assert "two" in await recorder.until("two")
        await other.set_organization_active("acme", is_active=False, now=START)
        await recorder.until(EVERYTHING)
    await other.close()


async def test_what_is_announced_can_already_be_read(full: KeyStore) -> None:
    """Otherwise whoever reads on the announcement keeps the old record."""
    async with watching(full) as recorder:
        await full.set_state("key_one", KeyState.REVOKED, now=START)
        await recorder.until("one")
        found = await full.find("one")
        assert found is not None
        assert found.key.state is KeyState.REVOKED


async def test_every_listener_is_told(full: KeyStore) -> None:
    """All processes, and all of a process's."""
    async with watching(full) as first, watching(full) as second:
        await full.delete("key_one")
        assert await first.changes(full) >= {"one"}
        assert await second.until("one")


async def test_signs_of_life_go_on_while_nothing_changes(full: KeyStore) -> None:
    """Silence would mean that the link is down."""
    async with watching(full) as recorder:
        assert await recorder.until(HEARTBEAT, times=2) == [HEARTBEAT, HEARTBEAT]


async def test_a_cancelled_watch_leaves_nothing(full: KeyStore) -> None:
    """Its listener hears no more, the store goes on, no task is left."""
    before = asyncio.all_tasks()
    async with watching(full) as gone:
        pass
    gone.events.clear()
    async with watching(full) as other:
        await full.delete("key_one")
        assert await other.changes(full) == {"one"}
    assert gone.events == []
    assert asyncio.all_tasks() == before


async def test_closing_while_somebody_watches_leaves_nothing_behind(full: KeyStore) -> None:
    """A process that ends cancels its watch, before or after it closes the store."""
    before = asyncio.all_tasks()
    recorder = Recorder()
    watcher = asyncio.create_task(full.watch(recorder))
    await recorder.until(HEARTBEAT)
    await full.close()
    watcher.cancel()
    await asyncio.wait({watcher})
    assert asyncio.all_tasks() == before
    await full.open()
    await full.ping()
