"""Opening, closing, and being usable after an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backends.contract import KeyStore
from backends.errors import Conflict, NotFound, StoreClosed
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.stores import StoreUnderTest


class Deaf:
    """A listener that nothing may reach."""

    def key_changed(self, api_key: str) -> None:
        raise AssertionError(api_key)

    def everything_changed(self) -> None:
        raise AssertionError

    def heartbeat(self) -> None:
        raise AssertionError


CALLS: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "ping": lambda store: store.ping(),
    "find": lambda store: store.find("one"),
    "get": lambda store: store.get("key_one"),
    "list_keys": lambda store: store.list_keys(),
    "count_keys": lambda store: store.count_keys(now=START),
    "add": lambda store: store.add(make_key("one")),
    "add_many": lambda store: store.add_many([make_organization()], [make_key("one")]),
    "replace": lambda store: store.replace(make_key("one"), expected_version=1),
    "set_state": lambda store: store.set_state("key_one", KeyState.REVOKED, now=START),
    "delete": lambda store: store.delete("key_one"),
    "add_organization": lambda store: store.add_organization(make_organization()),
    "get_organization": lambda store: store.get_organization("acme"),
    "list_organizations": lambda store: store.list_organizations(),
    "set_organization_active": lambda store: store.set_organization_active("acme", is_active=False, now=START),
    "watch": lambda store: store.watch(Deaf()),
}


def test_every_method_of_the_contract_is_tried() -> None:
    """A new method joins the table above."""
    methods = {name for name, value in vars(KeyStore).items() if callable(value) and not name.startswith("_")}
    assert methods == {*CALLS, "open", "close"}


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
