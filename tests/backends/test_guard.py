"""Deadlines: no caller waits for a driver that hangs, and what is left behind is bounded and leaves no trace."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from backends import guard
from backends.errors import Conflict, StoreUnavailable
from backends.guard import GuardedStore
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.faulty_store import FaultyStore
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backends.contract import KeyStore

SHORT = 0.01
LONG = 60.0  # never reached
FOUND = FoundKey(make_key("one"), organization_is_active=True)


@pytest.fixture
async def inner() -> AsyncIterator[FaultyStore]:
    store = FaultyStore()
    await store.open()
    await store.add_organization(make_organization())
    await store.add(make_key("one"))
    yield store
    store.error = None
    store.release()
    await store.close()


def guarded(inner: FaultyStore, **timeouts: float) -> GuardedStore:
    """With one short time-out, so that a call can only be given up by the one that is meant."""
    rest: dict[str, Any] = {f"{name}_timeout": LONG for name in ("find", "read", "write", "bulk")}
    return GuardedStore(inner, **{**rest, **timeouts})


async def ended(store: GuardedStore) -> None:
    """Return once nothing that was given up is left."""
    async with asyncio.timeout(10):
        while store.abandoned_calls:  # noqa: ASYNC110 - a number has no event to wait for
            await asyncio.sleep(0)


HANGING: dict[str, tuple[str, Callable[[KeyStore], Awaitable[object]]]] = {
    "find": ("find_timeout", lambda store: store.find("one")),
    "ping": ("read_timeout", lambda store: store.ping()),
    "get": ("read_timeout", lambda store: store.get("key_one")),
    "set_state": ("write_timeout", lambda store: store.set_state("key_one", KeyState.REVOKED, now=START)),
    "add_many": ("bulk_timeout", lambda store: store.add_many([], [make_key("two")])),
}


@pytest.mark.parametrize(("setting", "call"), HANGING.values(), ids=HANGING)
@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_call_that_hangs_is_left_behind(
    inner: FaultyStore,
    setting: str,
    call: Callable[[KeyStore], Awaitable[object]],
    stubborn: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Each at its own deadline, whether the driver heeds its cancellation or not; afterwards all is well."""
    store = guarded(inner, **{setting: SHORT})
    inner.hang(stubborn=stubborn)
    with pytest.raises(StoreUnavailable, match="did not answer within"):
        await call(store)
    assert store.abandoned_calls == 1
    if stubborn:
        inner.release()
    await ended(store)
    inner.release()
    await call(store)


@pytest.mark.parametrize(("stubborn", "state"), [(False, KeyState.ACTIVE), (True, KeyState.REVOKED)])
async def test_a_write_that_was_left_behind_happened_whole_or_not_at_all(
    inner: FaultyStore,
    stubborn: bool,  # noqa: FBT001 - a parameter
    state: KeyState,
) -> None:
    """Its caller cannot know which; asking again tells."""
    store = guarded(inner, write_timeout=SHORT)
    inner.hang(stubborn=stubborn)
    with pytest.raises(StoreUnavailable):
        await store.set_state("key_one", KeyState.REVOKED, now=START)
    if stubborn:
        inner.release()
    await ended(store)
    inner.release()
    assert (await store.get("key_one")).state is state
    assert await store.set_state("key_one", KeyState.REVOKED, now=START) is (state is KeyState.ACTIVE)


async def test_a_large_import_may_take_longer_than_a_write(inner: FaultyStore) -> None:
    """100,000 keys are one call."""
    store = guarded(inner, write_timeout=SHORT)
    inner.hang()
    loading = asyncio.ensure_future(store.add_many([], [make_key("two")]))
    await inner.arrived("add_many")
    with pytest.raises(StoreUnavailable):
        await store.set_state("key_one", KeyState.REVOKED, now=START)
    assert not loading.done()
    inner.release()
    assert await loading == 1


async def test_what_the_store_says_comes_through_unchanged(inner: FaultyStore) -> None:
    """Answers and errors, the very same objects."""
    store = guarded(inner)
    assert await store.find("one") == FOUND
    for error in (Conflict("taken"), StoreUnavailable("down"), LookupError("a driver's mistake")):
        inner.error = error
        with pytest.raises(type(error)) as caught:
            await store.get("key_one")
        assert caught.value is error


async def test_a_call_that_cancels_itself_is_no_cancelled_caller(inner: FaultyStore) -> None:
    """A pool that is closed cancels who waits for it; the caller of the store was not cancelled."""
    store = guarded(inner)
    inner.error = asyncio.CancelledError()
    with pytest.raises(StoreUnavailable):
        await store.get("key_one")


async def test_a_caller_that_leaves_takes_its_call_along(inner: FaultyStore) -> None:
    """It does not wait for the driver, and the driver is told."""
    store = guarded(inner)
    inner.hang()
    call = asyncio.ensure_future(store.set_state("key_one", KeyState.REVOKED, now=START))
    await inner.arrived("set_state")
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    await ended(store)
    assert inner.ended["set_state"] == 1


async def test_what_is_left_behind_is_bounded(inner: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that ignores its cancellation does not pile up tasks and connections; it recovers when they end."""
    monkeypatch.setattr(guard, "_MAX_ABANDONED", 7)
    store = guarded(inner, read_timeout=SHORT)
    inner.hang(stubborn=True)
    results = await asyncio.gather(*(store.get("key_one") for _ in range(7)), return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert store.abandoned_calls == 7
    for _ in range(20):
        with pytest.raises(StoreUnavailable, match="too many"):
            await store.get("key_one")
    assert inner.calls["get"] == 7
    inner.release()
    await ended(store)
    assert await store.get("key_one") == make_key("one")


async def test_what_ends_too_late_is_not_reported_by_asyncio(inner: FaultyStore) -> None:
    """An error that nobody hears is no news; the log would show it once for each call that hung."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    store = guarded(inner, read_timeout=SHORT)
    inner.hang(stubborn=True)
    with pytest.raises(StoreUnavailable):
        await store.get("key_one")
    leaving = asyncio.ensure_future(store.find("one"))
    await inner.arrived("find")
    leaving.cancel()
    await asyncio.wait({leaving})
    inner.error = StoreUnavailable("too late")
    inner.release()
    await ended(store)
    inner.error = None
    gc.collect()
    await asyncio.sleep(0)
    assert reports == []


async def test_closing_does_not_wait_for_ever(inner: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process ends although its driver hangs; what hung is closed as soon as it can be."""
    monkeypatch.setattr(guard, "_CLOSE_TIMEOUT", SHORT)
    store = guarded(inner, read_timeout=SHORT)
    inner.hang(stubborn=True)
    with pytest.raises(StoreUnavailable):
        await store.get("key_one")
    await store.close()
    assert store.abandoned_calls == 2
    inner.release()
    await ended(store)


async def test_an_error_names_neither_key_nor_value(inner: FaultyStore) -> None:
    """It ends up in logs."""
    store = guarded(inner, find_timeout=SHORT)
    inner.hang()
    with pytest.raises(StoreUnavailable) as caught:
        await store.find("telltale-handle")
    assert "telltale" not in str(caught.value)
    assert "memory" in str(caught.value)


async def test_it_shows_the_inner_stores_name_and_pool(inner: FaultyStore) -> None:
    """The metrics are of the store, not of its guard."""
    store = guarded(inner)
    assert store.name == inner.name
    assert store.connections == inner.connections
    assert store.journal is store.journal
