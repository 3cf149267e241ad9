"""What is stored comes back as it was, to the last microsecond and character."""

from __future__ import annotations

import string
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from backends.records import FoundKey, KeyRecord, KeyState, SecretHash
from tests.support.keys import in_seconds, make_key

if TYPE_CHECKING:
    from backends.contract import KeyStore

PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != ",")
UNICODE = "Zoë 🗝️ ключ 鍵 \u202e\u00a0'\"\\%_*?[]{}$;--"

VALUES: dict[str, dict[str, Any]] = {
    "as it is made": {},
    "Unicode": {"name": UNICODE, "metadata": '{"' + UNICODE.replace('"', "").replace("\\", "") + '":"ﬀ\\u0001"}'},
    "an api_key of every character": {"api_key": PRINTABLE},
    "the longest api_key": {"api_key": "k" * 256},
    "the longest key_id": {"key_id": "k" * 64},
    "microseconds": {
        "created_at": datetime(2026, 1, 1, 0, 0, 0, 1, UTC),
        "updated_at": datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC),
        "expires_at": datetime(2027, 2, 28, 12, 0, 0, 123_456, UTC),
    },
    "the last moment": {"expires_at": datetime.max.replace(tzinfo=UTC)},
    "the first moment": {"expires_at": datetime.min.replace(tzinfo=UTC)},
    "long ago": {"created_at": datetime(1969, 7, 20, 20, 17, 40, 5, UTC)},
    "nothing where nothing may be": {"domains": (), "scopes": (), "origins": (), "networks": (), "metadata": "{}"},
    "order and repetition": {"scopes": ("b", "a", "c:*", "a"), "domains": ("z.example", "*.a.example", "@gatekey")},
    "a previous secret": {"previous_secret": SecretHash(7, b"\xff\x00" * 16, prehashed=True)},
    "after a rotation": {
        "previous_secret": SecretHash(1, b"\x01" * 32),
        "previous_expires_at": in_seconds(86_400.000001),
        "previous_grace": 3_600,
        "rotated_at": in_seconds(0.999999),
    },
    "a rotation whose old secret lives on": {
        "previous_secret": SecretHash(1, b"\x02" * 32),
        "rotated_at": in_seconds(1),
    },
    "no grace at all": {"previous_secret": SecretHash(1, b"\x03" * 32), "previous_grace": 0},
    "a rotation that is over": {"rotated_at": in_seconds(-1)},
    "a prehashed secret": {"secret": SecretHash(999_999_999, bytes(range(32)), prehashed=True)},
    "a digest of zeros": {"secret": SecretHash(0, bytes(32))},
    "critical": {"critical": True},
    "revoked": {"state": KeyState.REVOKED},
    "disabled": {"state": KeyState.DISABLED, "expires_at": in_seconds(-1)},
    "the largest record": {
        "scopes": tuple(f"{number:02}" + "s" * 62 for number in range(32)),
        "domains": tuple(f"https://{'d' * 60}.{number}.example.com:8443/{'p' * 100}" for number in range(200)),
        "origins": tuple(f"https://{number}.example.com" for number in range(200)),
        "networks": tuple(f"2001:db8:{number:x}::/48" for number in range(200)),
        "name": "鍵" * 200,
        "metadata": '{"text":"' + "é" * 4_090 + '"}',
    },
}


def test_every_field_of_a_record_is_tried() -> None:
    """A new field without an unusual value here would not be tested at all."""
    tried = {field for values in VALUES.values() for field in values}
    assert {field.name for field in fields(KeyRecord)} - tried == {"organization_id", "version"}, "tested elsewhere"


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
async def test_what_was_added_comes_back_unchanged(store: KeyStore, values: dict[str, Any]) -> None:
    """By every way of reading it."""
    record = make_key("one", **{"key_id": "key_one", **values}) if "api_key" not in values else make_key(**values)
    await store.add(record)
    assert await store.find(record.api_key) == FoundKey(record, organization_is_active=True)
    assert await store.get(record.key_id) == record
    assert (await store.list_keys()).items == (record,)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
async def test_what_was_imported_comes_back_unchanged(store: KeyStore, values: dict[str, Any]) -> None:
    """A bulk write is no different."""
    record = make_key(**{"api_key": "one", **values})
    await store.add_many([], [record])
    assert await store.get(record.key_id) == record


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
async def test_what_was_replaced_comes_back_unchanged(store: KeyStore, values: dict[str, Any]) -> None:
    """From a key with nothing in it, and back."""
    record = make_key(**{"api_key": "one", **values, "state": KeyState.ACTIVE})
    plain = make_key(record.api_key, key_id=record.key_id)
    await store.add(plain)
    assert await store.replace(record, expected_version=1) == replace(record, version=2)
    assert await store.get(record.key_id) == replace(record, version=2)
    assert await store.replace(plain, expected_version=2) == replace(plain, version=3)
    assert await store.get(record.key_id) == replace(plain, version=3)


async def test_times_come_back_as_aware_utc(store: KeyStore) -> None:
    """Equal is not enough: ``isoformat`` must be the same too."""
    await store.add(
        make_key("one", expires_at=in_seconds(0.5), previous_expires_at=in_seconds(1), rotated_at=in_seconds(2))
    )
    record = await store.get("key_one")
    times = (record.created_at, record.updated_at, record.expires_at, record.previous_expires_at, record.rotated_at)
    for time in times:
        assert time is not None
        assert time.tzinfo is UTC


@pytest.mark.parametrize(
    "asked", ["ONE", "on", "onee", "o*", "o?e", "o_e", "o%", "[o]ne", "one ", " one", "one\n", "", "o\\ne", "'one'"]
)
async def test_a_look_up_is_exact(store: KeyStore, asked: str) -> None:
    """No pattern, no prefix, no folding of case."""
    await store.add(make_key("one"))
    assert await store.find(asked) is None


@pytest.mark.parametrize("api_key", ["*", "%", "_", "{tag}", "../../etc", "'; DROP TABLE keys;--", "a:b", "__proto__"])
async def test_no_api_key_means_anything_but_itself(store: KeyStore, api_key: str) -> None:
    """Whatever it looks like to a database."""
    others = [make_key("another"), make_key("a")]
    await store.add_many([], others)
    record = make_key(api_key, key_id="key_odd")
    await store.add(record)
    assert await store.find(api_key) == FoundKey(record, organization_is_active=True)
    await store.delete("key_odd")
    assert await store.find(api_key) is None
    assert len((await store.list_keys()).items) == len(others)


async def test_keys_that_differ_in_case_only_are_two(store: KeyStore) -> None:
    """Base62 uses both."""
    await store.add_many([], [make_key(letter) for letter in string.ascii_letters])
    for letter in string.ascii_letters:
        found = await store.find(letter)
        assert found is not None
        assert found.key.api_key == letter
