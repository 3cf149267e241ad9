"""``add_many``: all or none, and importing the same again changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backends.errors import Conflict, NotFound
from backends.records import FoundKey
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from backends.contract import KeyStore
    from backends.records import KeyRecord, Organization


async def contents(store: KeyStore) -> tuple[tuple[Organization, ...], tuple[KeyRecord, ...]]:
    return (await store.list_organizations(limit=1000)).items, (await store.list_keys(limit=1000)).items


async def test_an_import_stores_organizations_and_keys(store: KeyStore) -> None:
    """And says how many keys were new."""
    records = [make_key("one"), make_key("two", organization_id="new")]
    assert await store.add_many([make_organization("new")], records) == 2
    assert await store.find("two") == FoundKey(records[1], organization_is_active=True)
    assert await contents(store) == ((make_organization(), make_organization("new")), tuple(records))


async def test_importing_nothing_changes_nothing(store: KeyStore) -> None:
    """An empty file is no error."""
    before = await contents(store)
    assert await store.add_many([], []) == 0
    assert await contents(store) == before


async def test_any_iterable_will_do(store: KeyStore) -> None:
    """Files are read as they come."""
    assert await store.add_many(iter([make_organization("new")]), iter([make_key("one")])) == 1


async def test_importing_the_same_again_changes_nothing(store: KeyStore) -> None:
    """Neither what was imported, nor what was changed since."""
    organizations, records = [make_organization("new")], [make_key("one"), make_key("two", organization_id="new")]
    await store.add_many(organizations, records)
    await store.replace(make_key("one", name="renamed"), expected_version=1)
    await store.set_organization_active("new", is_active=False, now=records[0].created_at)
    before = await contents(store)
    assert await store.add_many(organizations, records) == 0
    assert await contents(store) == before


async def test_a_known_api_key_is_left_alone_whatever_else_the_record_says(store: KeyStore) -> None:
    """Only new keys count."""
    await store.add(make_key("one"))
    changed = make_key("one", key_id="key_other", name="changed", domains=())
    assert await store.add_many([], [changed, make_key("two")]) == 1
    assert (await store.get("key_one")).name == ""
    with pytest.raises(NotFound):
        await store.get("key_other")


async def test_a_record_that_comes_twice_is_stored_once(store: KeyStore) -> None:
    """The first one counts."""
    assert await store.add_many([], [make_key("one"), make_key("one", name="again")]) == 1
    assert (await store.get("key_one")).name == ""


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (make_key("bad", key_id="key_known"), Conflict),
        (make_key("bad", key_id="key_first"), Conflict),
        (make_key("known", organization_id="other"), Conflict),
        (make_key("first", organization_id="other"), Conflict),
        (make_key("bad", organization_id="nobody"), NotFound),
    ],
    ids=["key_id taken", "key_id twice", "api_key of another organization", "api_key in two organizations", "no owner"],
)
@pytest.mark.parametrize("position", [0, 1, 2])
async def test_one_bad_record_stops_the_whole_import(
    store: KeyStore, bad: KeyRecord, error: type[Exception], position: int
) -> None:
    """Wherever it stands; no organization is left behind either."""
    await store.add_organization(make_organization("other"))
    await store.add(make_key("known"))
    before = await contents(store)
    records = [make_key("first"), make_key("second")]
    records.insert(position, bad)
    with pytest.raises(error):
        await store.add_many([make_organization("new")], records)
    assert await contents(store) == before
    assert await store.add_many([make_organization("new")], [make_key("first"), make_key("second")]) == 2


async def test_a_large_import_is_one(store: KeyStore) -> None:
    """2,000 keys."""
    records = [make_key(f"k{number:04}") for number in range(2_000)]
    assert await store.add_many([], records) == 2_000
    page = await store.list_keys(after="key_k1989", limit=1_000)
    assert page.items == tuple(records[1_990:])
