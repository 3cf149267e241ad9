"""What every method returns and raises, one call at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import Conflict, NotFound, VersionConflict
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.keys import in_seconds, make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backends.contract import KeyStore
    from backends.records import KeyRecord

LATER = in_seconds(60)


async def keys_of(store: KeyStore) -> list[str]:
    return [record.key_id for record in (await store.list_keys()).items]


# -- find, get, add -------------------------------------------------------------------------------------------------------


async def test_a_key_that_nobody_added_is_not_found(store: KeyStore) -> None:
    """``None`` is evidence, not an error."""
    assert await store.find("nobodys") is None
    with pytest.raises(NotFound):
        await store.get("nobodys")


async def test_a_key_that_was_added_is_found_by_handle_and_identifier(store: KeyStore) -> None:
    """With its organization's state."""
    record = make_key("one")
    await store.add(record)
    assert await store.find("one") == FoundKey(record, organization_is_active=True)
    assert await store.get("key_one") == record


async def test_a_key_is_not_found_by_the_other_name(store: KeyStore) -> None:
    """The look-up handle and the identifier are two things."""
    await store.add(make_key("one"))
    assert await store.find("key_one") is None
    with pytest.raises(NotFound):
        await store.get("one")


@pytest.mark.parametrize(
    "fields",
    [{"state": KeyState.REVOKED}, {"state": KeyState.DISABLED}, {"expires_at": in_seconds(-60)}],
    ids=["revoked", "disabled", "expired"],
)
async def test_keys_that_may_not_pass_are_found_all_the_same(store: KeyStore, fields: dict[str, Any]) -> None:
    """What they may do is not the store's business."""
    record = make_key("off", **fields)
    await store.add(record)
    assert await store.find("off") == FoundKey(record, organization_is_active=True)


@pytest.mark.parametrize(
    "second",
    [make_key("one", key_id="key_other"), make_key("other", key_id="key_one"), make_key("one")],
    ids=["same api_key", "same key_id", "both"],
)
async def test_a_taken_identifier_is_refused(store: KeyStore, second: KeyRecord) -> None:
    """And what was there stays as it was."""
    await store.add(make_key("one"))
    with pytest.raises(Conflict):
        await store.add(replace(second, name="second"))
    assert await keys_of(store) == ["key_one"]
    assert (await store.get("key_one")).name == ""
    assert await store.find("other") is None


async def test_an_api_key_is_unique_over_all_organizations(store: KeyStore) -> None:
    """It is looked up without knowing the organization."""
    await store.add_organization(make_organization("other"))
    await store.add(make_key("one"))
    with pytest.raises(Conflict):
        await store.add(make_key("one", key_id="key_2", organization_id="other"))


async def test_a_key_needs_its_organization(store: KeyStore) -> None:
    """No key without an owner."""
    with pytest.raises(NotFound):
        await store.add(make_key("one", organization_id="nobody"))
    assert await store.find("one") is None


# -- set_state ------------------------------------------------------------------------------------------------------------


async def test_switching_a_key_says_whether_it_changed_anything(store: KeyStore) -> None:
    """Disabled and active alternate; a repetition is ``False``."""
    await store.add(make_key("one"))
    assert await store.set_state("key_one", KeyState.ACTIVE, now=LATER) is False
    assert await store.set_state("key_one", KeyState.DISABLED, now=LATER) is True
    assert await store.set_state("key_one", KeyState.DISABLED, now=LATER) is False
    assert await store.set_state("key_one", KeyState.ACTIVE, now=LATER) is True


async def test_switching_a_key_moves_state_time_and_version_and_nothing_else(store: KeyStore) -> None:
    """The time is the caller's."""
    record = make_key("one")
    await store.add(record)
    await store.set_state("key_one", KeyState.DISABLED, now=LATER)
    expected = replace(record, state=KeyState.DISABLED, updated_at=LATER, version=2)
    assert await store.get("key_one") == expected
    assert await store.find("one") == FoundKey(expected, organization_is_active=True)


async def test_a_switch_that_changes_nothing_leaves_the_record_alone(store: KeyStore) -> None:
    """No new version, no new time."""
    record = make_key("one")
    await store.add(record)
    await store.set_state("key_one", KeyState.ACTIVE, now=LATER)
    assert await store.get("key_one") == record


async def test_revoking_twice_is_true_then_false(store: KeyStore) -> None:
    """Whoever repeats a revocation is not told an error."""
    await store.add(make_key("one"))
    assert await store.set_state("key_one", KeyState.REVOKED, now=LATER) is True
    assert await store.set_state("key_one", KeyState.REVOKED, now=LATER) is False


@pytest.mark.parametrize("state", [KeyState.ACTIVE, KeyState.DISABLED])
async def test_revoked_is_final(store: KeyStore, state: KeyState) -> None:
    """Nothing brings a revoked key back."""
    record = make_key("one", state=KeyState.REVOKED)
    await store.add(record)
    with pytest.raises(Conflict):
        await store.set_state("key_one", state, now=LATER)
    assert await store.get("key_one") == record


# -- replace --------------------------------------------------------------------------------------------------------------


async def test_replacing_returns_the_record_as_stored(store: KeyStore) -> None:
    """The version grows by one, whatever the given record says."""
    await store.add(make_key("one"))
    changed = make_key("one", name="renamed", domains=("other.example.com",), updated_at=LATER, version=77)
    stored = await store.replace(changed, expected_version=1)
    assert stored == replace(changed, version=2)
    assert await store.get("key_one") == stored
    assert await store.find("one") == FoundKey(stored, organization_is_active=True)


async def test_replacing_a_version_that_has_gone_is_refused(store: KeyStore) -> None:
    """Who read before somebody else's change must read again."""
    await store.add(make_key("one"))
    await store.set_state("key_one", KeyState.DISABLED, now=LATER)
    before = await store.get("key_one")
    for version in (1, 3):
        with pytest.raises(VersionConflict):
            await store.replace(make_key("one", name="renamed"), expected_version=version)
    assert await store.get("key_one") == before


@pytest.mark.parametrize(
    "fields",
    [{"api_key": "two"}, {"organization_id": "other"}],
    ids=["api_key", "organization_id"],
)
async def test_what_is_fixed_for_a_keys_life_cannot_be_replaced(store: KeyStore, fields: dict[str, str]) -> None:
    """A key never moves to another handle or owner."""
    await store.add_organization(make_organization("other"))
    record = make_key("one")
    await store.add(record)
    with pytest.raises(Conflict):
        await store.replace(replace(record, **fields), expected_version=1)  # type: ignore[arg-type]  # text fields
    assert await store.get("key_one") == record
    assert await store.find("two") is None


async def test_a_replacement_does_not_bring_a_revoked_key_back(store: KeyStore) -> None:
    """But its other fields may still change."""
    await store.add(make_key("one", state=KeyState.REVOKED))
    with pytest.raises(Conflict):
        await store.replace(make_key("one"), expected_version=1)
    stored = await store.replace(make_key("one", state=KeyState.REVOKED, name="renamed"), expected_version=1)
    assert (stored.state, stored.name, stored.version) == (KeyState.REVOKED, "renamed", 2)


# -- delete ---------------------------------------------------------------------------------------------------------------


async def test_a_deleted_key_is_gone(store: KeyStore) -> None:
    """From every way to see it; deleting again is ``False``."""
    await store.add(make_key("one"))
    await store.add(make_key("two"))
    assert await store.delete("key_one") is True
    assert await store.delete("key_one") is False
    assert await store.find("one") is None
    assert await keys_of(store) == ["key_two"]
    with pytest.raises(NotFound):
        await store.get("key_one")


async def test_a_deleted_keys_names_are_free_again(store: KeyStore) -> None:
    """For a key that shares one of them only, too."""
    await store.add(make_key("one"))
    await store.delete("key_one")
    await store.add(make_key("one", key_id="key_new"))
    await store.add(make_key("two", key_id="key_one"))
    assert await keys_of(store) == ["key_new", "key_one"]


# -- organizations --------------------------------------------------------------------------------------------------------


async def test_an_organization_is_stored_as_it_is(store: KeyStore) -> None:
    """Every field, the slug at its longest."""
    slug = "o" + "-9" * 31
    organization = make_organization(slug, is_active=False, name="Zoë's Ölmühle 🌻", created_at=in_seconds(0.000001))
    await store.add_organization(organization)
    assert await store.get_organization(slug) == organization


async def test_a_taken_organization_is_refused(store: KeyStore) -> None:
    """And stays as it was."""
    with pytest.raises(Conflict):
        await store.add_organization(make_organization(name="second"))
    assert (await store.get_organization("acme")).name == ""


async def test_switching_an_organization_shows_at_all_of_its_keys_and_no_other(store: KeyStore) -> None:
    """Without a write to any of them."""
    await store.add_organization(make_organization("other"))
    record, others = make_key("one"), make_key("two", organization_id="other")
    await store.add(record)
    await store.add(others)
    assert await store.set_organization_active("acme", is_active=False, now=LATER) is True
    assert await store.set_organization_active("acme", is_active=False, now=LATER) is False
    assert await store.find("one") == FoundKey(record, organization_is_active=False)
    assert await store.find("two") == FoundKey(others, organization_is_active=True)
    assert (await store.get_organization("acme")).is_active is False
    assert await store.set_organization_active("acme", is_active=True, now=LATER) is True
    assert await store.find("one") == FoundKey(record, organization_is_active=True)


UNKNOWN: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "get": lambda store: store.get("key_none"),
    "set_state": lambda store: store.set_state("key_none", KeyState.DISABLED, now=LATER),
    "replace": lambda store: store.replace(make_key("none"), expected_version=1),
    "get_organization": lambda store: store.get_organization("nobody"),
    "set_organization_active": lambda store: store.set_organization_active("nobody", is_active=True, now=LATER),
}


@pytest.mark.parametrize("call", UNKNOWN.values(), ids=UNKNOWN)
async def test_what_does_not_exist_cannot_be_addressed(
    store: KeyStore, call: Callable[[KeyStore], Awaitable[object]]
) -> None:
    """The same error in every store."""
    with pytest.raises(NotFound):
        await call(store)


# -- counting -------------------------------------------------------------------------------------------------------------


async def test_an_empty_store_counts_every_state_at_zero(store: KeyStore) -> None:
    """No state is missing."""
    assert dict(await store.count_keys(now=START)) == {"active": 0, "disabled": 0, "revoked": 0, "expired": 0}


async def test_keys_are_counted_by_state(store: KeyStore) -> None:
    """Only active keys expire; a key expires at its very time, by the caller's clock."""
    keys: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"expires_at": in_seconds(60.000001)},
        "c": {"expires_at": in_seconds(60)},
        "d": {"state": KeyState.DISABLED, "expires_at": START},
        "e": {"state": KeyState.REVOKED},
        "f": {"state": KeyState.REVOKED},
    }
    for name, fields in keys.items():
        await store.add(make_key(name, **fields))
    assert dict(await store.count_keys(now=LATER)) == {"active": 2, "disabled": 1, "revoked": 2, "expired": 1}
    assert dict(await store.count_keys(now=START)) == {"active": 3, "disabled": 1, "revoked": 2, "expired": 0}


async def test_keys_that_end_soon_are_counted(store: KeyStore) -> None:
    """Active ones whose time is over after now, not at it, and at each moment at the latest; in the order of the moments."""
    keys: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"expires_at": START},
        "c": {"expires_at": in_seconds(0.000001)},
        "d": {"expires_at": in_seconds(60)},
        "e": {"expires_at": in_seconds(60.000001)},
        "f": {"expires_at": in_seconds(30), "state": KeyState.DISABLED},
        "g": {"expires_at": in_seconds(30), "state": KeyState.REVOKED},
    }
    assert await store.count_expiring(now=START, until=[LATER, LATER]) == (0, 0)
    for name, fields in keys.items():
        await store.add(make_key(name, **fields))
    assert await store.count_expiring(now=START, until=[LATER]) == (2,)
    assert await store.count_expiring(now=START, until=[in_seconds(60.000001), START, LATER]) == (3, 0, 2)
    assert await store.count_expiring(now=LATER, until=[START, in_seconds(61)]) == (0, 1)
    assert await store.count_expiring(now=START, until=[]) == ()


async def test_an_open_store_answers_a_ping(store: KeyStore) -> None:
    """Its marker is there."""
    await store.ping()
