"""Announcements: every change reaches every listener, in order, with a sign of life between them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from backends.errors import Conflict, NotFound, VersionConflict
from backends.records import KeyState
from tests.support.clock import START
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backends.contract import KeyStore

EVERYTHING, HEARTBEAT = "<everything>", "<heartbeat>"
MARK = "the-mark"


class Recorder:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()

    def key_changed(self, api_key: str) -> None:
        self._note(api_key)

    def everything_changed(self) -> None:
        self._note(EVERYTHING)

    def heartbeat(self) -> None:
        self._note(HEARTBEAT)

    def _note(self, event: str) -> None:
        assert asyncio.get_running_loop() is self._loop, "told on another thread"
        self.events.append(event)
        self._more.set()

    async def until(self, event: str, *, times: int = 1) -> list[str]:
        """What was told up to the ``times``-th such event, once it has come; told events are then forgotten."""
        async with asyncio.timeout(10):
            while self.events.count(event) < times:
                self._more.clear()
                await self._more.wait()
        events, self.events = self.events, []
        return events

    async def changes(self, store: KeyStore) -> set[str]:
        """The changes announced so far; a last write of our own marks the end of them."""
        await store.add(make_key(MARK))
        events = await self.until(MARK)
        await store.delete(f"key_{MARK}")
        await self.until(MARK)
        return {event for event in events if event not in (MARK, HEARTBEAT)}


@asynccontextmanager
async def watching(store: KeyStore) -> AsyncIterator[Recorder]:
    """A listener that is connected: the first sign of life has come."""
    recorder = Recorder()
    watcher = asyncio.create_task(store.watch(recorder))
    try:
        await recorder.until(HEARTBEAT)
        yield recorder
    finally:
        assert not watcher.done(), "watch returns by cancellation only"
        watcher.cancel()
        await asyncio.wait({watcher})
        assert watcher.cancelled()


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
