"""Opening, closing, and being usable after an error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backends.contract import KeyStore
from backends.errors import Conflict, NotFound, StoreClosed
from backends.journal import Journal
from backends.records import FoundKey, Origin
from tests.support import store_calls
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.stores import StoreUnderTest


class Deaf:
    """A listener that nothing may reach."""

    def key_changed(self, api_key: str, *, at: float | None = None, origin: Origin = Origin.KEY) -> None:
        raise AssertionError((api_key, at, origin))

    def everything_changed(self, *, at: float | None = None, origin: Origin = Origin.BULK) -> None:
        raise AssertionError((at, origin))

    def heartbeat(self, *, delay: float = 0.0) -> None:
        raise AssertionError(delay)


CALLS: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    **store_calls.CALLS,
    "watch": lambda store: store.watch(Deaf()),
}


def public_methods(contract: type) -> set[str]:
    return {name for name, value in vars(contract).items() if callable(value) and not name.startswith("_")}


def test_every_method_of_the_contract_is_tried() -> None:
    """A new method joins the tables."""
    assert {name.partition(",")[0] for name in CALLS} | {"migrate", "open", "close"} == {
        *public_methods(KeyStore),
        *(f"journal.{name}" for name in public_methods(Journal)),
    }


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_store_that_was_never_opened_refuses(
    under_test: StoreUnderTest, call: Callable[[KeyStore], Awaitable[object]]
) -> None:
    """A programming error, told as one."""
    with pytest.raises(StoreClosed):
        await call(under_test.store)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_closed_store_refuses(store: KeyStore, call: Callable[[KeyStore], Awaitable[object]]) -> None:
    """Also where it had answered before."""
    await store.add(make_key("one"))
    await store.close()
    with pytest.raises(StoreClosed):
        await call(store)


@pytest.mark.parametrize("is_open", [False, True])
async def test_preparing_what_is_prepared_does_nothing(under_test: StoreUnderTest, is_open: bool) -> None:  # noqa: FBT001 - a parameter
    """Whether the store is open or not; and what is stored stays."""
    store = under_test.store
    await store.open()
    await store.add_organization(make_organization())
    await store.add(make_key("one"))
    if not is_open:
        await store.close()
    assert await store.migrate() == ()
    assert await asyncio.gather(*(store.migrate() for _ in range(5))) == [()] * 5
    await store.open()
    await store.ping()
    assert await store.find("one") == FoundKey(make_key("one"), organization_is_active=True)


async def test_the_pool_is_counted(under_test: StoreUnderTest) -> None:
    """At every moment, also before anything is open; a store without connections has none."""
    store = under_test.store
    for step in (store.open, store.ping, store.close):
        counts = store.connections
        assert 0 <= counts.idle + counts.used <= counts.maximum or counts.maximum == 0
        await step()
    assert (store.connections.idle, store.connections.used) == (0, 0)


async def test_the_journal_is_one_object(store: KeyStore) -> None:
    """For the store's whole life."""
    journal = store.journal
    await store.close()
    await store.open()
    assert store.journal is journal


async def test_a_second_object_sees_the_same_data(under_test: StoreUnderTest, store: KeyStore) -> None:
    """As another process would; both write."""
    other = under_test.another()
    await other.open()
    await store.add(make_key("one"))
    await other.add(make_key("two"))
    assert await other.find("one") == await store.find("one") == FoundKey(make_key("one"), organization_is_active=True)
    assert await store.find("two") is not None
    await other.close()


async def test_opening_and_closing_may_be_repeated(under_test: StoreUnderTest) -> None:
    """Whoever is not sure does it once more; also closing what was never opened."""
    store = under_test.store
    await store.close()
    await store.open()
    await store.open()
    await store.ping()
    await store.close()
    await store.close()


async def test_what_was_stored_is_there_after_opening_again(store: KeyStore) -> None:
    """Closing forgets nothing."""
    await store.add(make_key("one"))
    await store.close()
    await store.open()
    assert await store.find("one") == FoundKey(make_key("one"), organization_is_active=True)


async def test_opening_again_while_open_forgets_nothing(store: KeyStore) -> None:
    """Idempotent."""
    await store.add(make_key("one"))
    await store.open()
    assert await store.find("one") is not None


@pytest.mark.parametrize(
    ("record", "error"),
    [(make_key("one"), Conflict), (make_key("two", organization_id="nobody"), NotFound)],
    ids=["taken", "no organization"],
)
async def test_a_failed_add_leaves_the_store_usable(store: KeyStore, record: object, error: type[Exception]) -> None:
    """Nothing hangs open, nothing is half there."""
    await store.add(make_key("one"))
    for _ in range(30):  # more often than any pool has connections
        with pytest.raises(error):
            await store.add(record)  # type: ignore[arg-type]  # a record
    await store.add(make_key("three"))
    assert [item.api_key for item in (await store.list_keys()).items] == ["one", "three"]


async def test_a_store_has_the_name_of_its_kind(under_test: StoreUnderTest) -> None:
    """The metrics' label."""
    assert under_test.store.name in {"memory", "sqlite", "redis", "postgres"}
