"""Moving a secret under another pepper: only the very hash that was read is exchanged, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import NotFound
from backends.records import FoundKey, KeyState, SecretHash
from tests.support.clock import START
from tests.support.keys import in_seconds, make_key

if TYPE_CHECKING:
    from backends.contract import KeyStore

OLD, NEW, OTHER = SecretHash(1, b"o" * 32), SecretHash(2, b"n" * 32), SecretHash(1, b"x" * 32)

CASES: dict[str, tuple[dict[str, Any], SecretHash, dict[str, Any] | None]] = {
    "the secret": ({"secret": OLD}, OLD, {"secret": NEW}),
    "the secret beside a previous one": ({"secret": OLD, "previous_secret": OTHER}, OLD, {"secret": NEW}),
    "the previous secret": ({"secret": OTHER, "previous_secret": OLD}, OLD, {"previous_secret": NEW}),
    "both": ({"secret": OLD, "previous_secret": OLD}, OLD, {"secret": NEW, "previous_secret": NEW}),
    "another secret": ({"secret": OTHER}, OLD, None),
    "the same digest under another pepper": ({"secret": replace(OLD, pepper_version=3)}, OLD, None),
    "the same digest of something else": ({"secret": replace(OLD, prehashed=True)}, OLD, None),
    "the new hash already": ({"secret": NEW}, OLD, None),
}


@pytest.mark.parametrize(("fields", "old", "changed"), CASES.values(), ids=CASES)
async def test_only_the_very_hash_is_exchanged(
    store: KeyStore, fields: dict[str, Any], old: SecretHash, changed: dict[str, Any] | None
) -> None:
    """``True`` when it was; version and times stay as they were."""
    record = make_key("one", **fields, previous_expires_at=in_seconds(60), previous_grace=5, rotated_at=START)
    await store.add(record)
    assert await store.rehash("key_one", old=old, new=NEW) is (changed is not None)
    expected = record if changed is None else replace(record, **changed)
    assert await store.get("key_one") == expected
    assert await store.find("one") == FoundKey(expected, organization_is_active=True)
    assert (await store.list_keys()).items == (expected,)


async def test_a_key_that_is_not_there_has_no_such_hash(store: KeyStore) -> None:
    """It may have been deleted since it was read; that is no error."""
    assert await store.rehash("key_none", old=OLD, new=NEW) is False
    with pytest.raises(NotFound):
        await store.get("key_none")


async def test_a_rehash_does_not_stand_in_the_way_of_a_change(store: KeyStore) -> None:
    """Whoever read the key before may still change it: the version is the same."""
    await store.add(make_key("one", secret=OLD))
    before = await store.get("key_one")
    await store.rehash("key_one", old=OLD, new=NEW)
    await store.replace(replace(before, secret=OTHER), expected_version=before.version)
    assert (await store.get("key_one")).secret == OTHER


async def test_a_rotation_wins_over_a_rehash_that_comes_later(store: KeyStore) -> None:
    """The old hash has become the previous one, and is exchanged there; the new secret stays."""
    await store.add(make_key("one", secret=OLD))
    await store.replace(make_key("one", secret=OTHER, previous_secret=OLD), expected_version=1)
    assert await store.rehash("key_one", old=OLD, new=NEW) is True
    record = await store.get("key_one")
    assert (record.secret, record.previous_secret, record.version) == (OTHER, NEW, 2)


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.REVOKED])
async def test_a_key_that_is_off_stays_off(store: KeyStore, state: KeyState) -> None:
    """A rehash changes the hash and nothing of the key's life."""
    await store.add(make_key("one", secret=OLD, state=state))
    assert await store.rehash("key_one", old=OLD, new=NEW) is True
    assert (await store.get("key_one")).state is state


async def test_one_of_many_rehashes_is_the_one(store: KeyStore) -> None:
    """Several processes see the same old secret used at the same time."""
    await store.add(make_key("one", secret=OLD))
    answers = await asyncio.gather(*(store.rehash("key_one", old=OLD, new=NEW) for _ in range(20)))
    assert Counter(answers) == {True: 1, False: 19}
    assert await store.get("key_one") == make_key("one", secret=NEW)


async def test_a_rehash_and_a_revocation_at_once_both_happen(store: KeyStore) -> None:
    """Neither overwrites the other."""
    for number in range(20):
        name = f"k{number}"
        await store.add(make_key(name, secret=OLD))
        calls = [
            store.rehash(f"key_{name}", old=OLD, new=NEW),
            store.set_state(f"key_{name}", KeyState.REVOKED, now=START),
        ]
        assert await asyncio.gather(*(calls if number % 2 else reversed(calls))) == [True, True]
        record = await store.get(f"key_{name}")
        assert (record.secret, record.state, record.version) == (NEW, KeyState.REVOKED, 2)
