"""Listings: the order, the cursor, and their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backends.records import KeyFilter, KeyState
from tests.support.clock import START
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from backends.contract import KeyStore

IDS = ["key-9", "key_", "key_0", "key_A", "key_B", "key_Z", "key_a", "key_b", "kez"]
"""In the order of their characters' code points, which is nobody's language."""


async def fill(store: KeyStore) -> None:
    for key_id in reversed(IDS):
        await store.add(make_key(f"handle-of-{key_id}", key_id=key_id))


async def pages(store: KeyStore, *, limit: int, organization_id: str | None = None) -> list[list[str]]:
    found: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        page = await store.list_keys(where=KeyFilter(organization_id=organization_id), after=after, limit=limit)
        found.append([record.key_id for record in page.items])
        after = page.next_after
    return found


async def test_an_empty_listing_is_one_empty_page(store: KeyStore) -> None:
    """With no next one."""
    assert await pages(store, limit=10) == [[]]


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 9, 10, 1000])
async def test_pages_hold_every_key_once_and_in_order(store: KeyStore, limit: int) -> None:
    """Also where the last page is exactly full."""
    await fill(store)
    expected = [IDS[start : start + limit] for start in range(0, len(IDS), limit)]
    assert await pages(store, limit=limit) == expected


async def test_a_cursor_need_not_be_a_key(store: KeyStore) -> None:
    """It may have been deleted meanwhile."""
    await fill(store)
    page = await store.list_keys(after="key_AA", limit=2)
    assert [record.key_id for record in page.items] == ["key_B", "key_Z"]
    assert (await store.list_keys(after="zzz")).items == ()


async def test_only_the_organizations_own_keys_are_listed(store: KeyStore) -> None:
    """The other keys leave no gaps in the pages."""
    for name in ("other", "acme-2", "empty"):
        await store.add_organization(make_organization(name))
    for number in range(10):
        owner = ("acme", "other", "acme-2")[number % 3]
        await store.add(make_key(f"k{number}", key_id=f"key_{number}", organization_id=owner))
    assert await pages(store, limit=2, organization_id="acme") == [["key_0", "key_3"], ["key_6", "key_9"]]
    assert await pages(store, limit=2, organization_id="acme-2") == [["key_2", "key_5"], ["key_8"]]
    assert await pages(store, limit=2, organization_id="empty") == [[]]
    assert await pages(store, limit=2, organization_id="nobody") == [[]]


async def test_keys_of_every_state_are_listed(store: KeyStore) -> None:
    """A listing hides nothing."""
    for state in KeyState:
        await store.add(make_key(state.value, state=state))
    assert {record.state for record in (await store.list_keys()).items} == set(KeyState)


async def test_a_page_has_a_hundred_keys_unless_asked_otherwise(store: KeyStore) -> None:
    """The default."""
    await store.add_many([], [make_key(f"k{number:03}") for number in range(101)])
    page = await store.list_keys()
    assert len(page.items) == 100
    assert page.next_after == "key_k099"


@pytest.mark.parametrize("limit", [-1, 0, 1001])
async def test_a_limit_out_of_range_is_a_mistake(store: KeyStore, limit: int) -> None:
    """Not an empty page, and not the whole store."""
    with pytest.raises(ValueError, match="limit"):
        await store.list_keys(limit=limit)
    with pytest.raises(ValueError, match="limit"):
        await store.list_organizations(limit=limit)


async def test_organizations_are_listed_in_order(store: KeyStore) -> None:
    """By the same rules."""
    names = ["0", "a", "a-", "a-b", "a0", "ab", "acme", "b"]
    for name in reversed(names):
        if name != "acme":
            await store.add_organization(make_organization(name))
    await store.set_organization_active("ab", is_active=False, now=START)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.list_organizations(after=after, limit=3)
        assert len(page.items) <= 3
        found += [organization.organization_id for organization in page.items]
        after = page.next_after
    assert found == names
