"""The stored forms of a record: fixed, read back exactly, and every nonsense is ``StoreCorrupt`` that repeats no value."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.codec import FORM, record_from_json, record_from_values, record_to_json, record_to_values
from backends.errors import StoreCorrupt
from backends.records import KeyRecord, KeyState, SecretHash
from tests.support.clock import START
from tests.support.keys import in_seconds, make_key

RECORD: Final = make_key(
    "one",
    secret=SecretHash(3, bytes(range(32))),
    previous_secret=SecretHash(2, b"\xff" * 32, prehashed=True),
    previous_expires_at=in_seconds(60),
    previous_grace=3600,
    rotated_at=in_seconds(0.000001),
    domains=("*.example.com", "https://api.example.com/v1"),
    scopes=("orders:read", "orders:*"),
    origins=("https://app.example.com",),
    networks=("192.0.2.0/24",),
    state=KeyState.DISABLED,
    expires_at=in_seconds(0.5),
    critical=True,
    name='Zoë "鍵"',
    metadata='{"team":"é"}',
    version=7,
)
FORM_1: Final = (
    '{"form":1,"key_id":"key_one","organization_id":"acme","api_key":"one",'
    '"secret":"hmac-sha256:3:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",'
    '"previous_secret":"hmac-sha256-sha256:2:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",'
    '"previous_expires_at":"2026-01-02T03:05:05.000000+00:00","previous_grace":3600,'
    '"rotated_at":"2026-01-02T03:04:05.000001+00:00",'
    '"domains":["*.example.com","https://api.example.com/v1"],"scopes":["orders:read","orders:*"],'
    '"origins":["https://app.example.com"],"networks":["192.0.2.0/24"],"state":"disabled",'
    '"expires_at":"2026-01-02T03:04:05.500000+00:00","critical":true,"name":"Zoë \\"鍵\\"",'
    '"metadata":"{\\"team\\":\\"é\\"}","created_at":"2026-01-02T03:04:05.000000+00:00",'
    '"updated_at":"2026-01-02T03:04:05.000000+00:00","version":7}'
)
"""What this version wrote once must be read by every later one."""

TELLTALE: Final = "telltale"


# -- what is written ------------------------------------------------------------------------------------------------------


def test_the_json_form_1_is_this() -> None:
    """Changing it means a new form, and reading this one for ever."""
    assert FORM == 1
    assert record_to_json(RECORD) == FORM_1
    assert record_from_json(FORM_1) == RECORD


def test_values_are_those_of_sql() -> None:
    """Text, numbers, aware times; every field of a record, and nothing else."""
    values = record_to_values(RECORD)
    assert set(values) == {field.name for field in fields(KeyRecord)}
    assert (values["secret"], values["state"]) == (RECORD.secret.encode(), "disabled")
    assert values["expires_at"] == in_seconds(0.5)
    assert record_to_values(make_key())["previous_secret"] is None


times = st.datetimes(timezones=st.just(UTC))
texts = st.text(st.characters(codec="utf-8"))
names = st.text(st.characters(codec="utf-8"), min_size=1)
lists = st.lists(names, max_size=4).map(tuple)
secrets = st.builds(
    SecretHash, st.integers(0, 999_999_999), st.binary(min_size=32, max_size=32), prehashed=st.booleans()
)
records = st.builds(
    KeyRecord,
    key_id=names,
    organization_id=names,
    api_key=names,
    secret=secrets,
    previous_secret=st.none() | secrets,
    previous_expires_at=st.none() | times,
    previous_grace=st.none() | st.integers(0, 2**53 - 1),
    rotated_at=st.none() | times,
    domains=lists,
    scopes=lists,
    origins=lists,
    networks=lists,
    state=st.sampled_from(KeyState),
    expires_at=st.none() | times,
    critical=st.booleans(),
    name=texts,
    metadata=st.dictionaries(texts, texts | st.integers(), max_size=3).map(json.dumps),
    created_at=times,
    updated_at=times,
    version=st.integers(1, 2**53 - 1),
)


@given(record=records)
@settings(max_examples=100, deadline=None)
def test_every_record_comes_back_from_both_forms(record: KeyRecord) -> None:
    """To the last microsecond and character, as text and as bytes."""
    line = record_to_json(record)
    assert "\n" not in line
    assert record_from_json(line, api_key=record.api_key) == record
    assert record_from_json(line.encode()) == record
    assert record_from_values(record_to_values(record), api_key=record.api_key) == record


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T03:04:05Z", "2026-01-02 05:04:05+02:00", "20260102T030405Z", "2026-01-02T03:04:05.000000+00:00"],
)
def test_a_time_may_be_written_by_hand_in_any_form_with_a_zone(text: str) -> None:
    """It becomes UTC."""
    record = record_from_json(changed(expires_at=text))
    assert record.expires_at == START
    assert record.expires_at.tzinfo is UTC


def test_times_of_another_zone_become_utc() -> None:
    """Drivers give what their session's zone is."""
    there = START.astimezone(timezone(timedelta(hours=-3)))
    record = record_from_values({**record_to_values(RECORD), "expires_at": there})
    assert record.expires_at == START
    assert record.expires_at.tzinfo is UTC


def test_lists_may_stand_for_tuples_and_unknown_fields_are_ignored() -> None:
    """Drivers give lists; a later version may have written more."""
    values = {**record_to_values(RECORD), "scopes": ["a"], "of_a_later_version": 1}
    assert record_from_values(values).scopes == ("a",)


# -- what is refused ------------------------------------------------------------------------------------------------------


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(FORM_1), **values})


def without(*names: str) -> str:
    return json.dumps({name: value for name, value in json.loads(FORM_1).items() if name not in names})


ANYTHING_ELSE: Final[dict[str, str | bytes]] = {
    "D1 empty": "",
    "D1 blank": " ",
    "D2 an empty object": "{}",
    "D3 null": "null",
    "D4 a list": "[]",
    "D4 a list of one": f"[{FORM_1}]",
    "a number": "1",
    "a text": '"telltale"',
    "D5 no UTF-8": b"\xff\xfe",
    "D5 no UTF-8 inside": FORM_1.encode().replace(b"acme", b"\xff\xfe"),
    "D6 cut": FORM_1[:-1],
    "D6 cut in the middle": FORM_1[: len(FORM_1) // 2],
    "something behind": FORM_1 + "telltale",
    "twice": FORM_1 + FORM_1,
    "D7 another form": changed(form=2),
    "D7 form 0": changed(form=0),
    "D7 form as text": changed(form="1"),
    "D7 form as truth": changed(form=True),
    "D7 form as fraction": FORM_1.replace('"form":1', '"form":1.0'),
    "D7 no form": without("form"),
    "D12 too much of it": FORM_1[:-1] + ',"version":0}' + " " * 10_000_000,
    "D14 another key's": changed(api_key="telltale"),
    "D17 a name twice": FORM_1.replace('"state":"disabled"', '"state":"disabled","state":"active"'),
    "D17 an unknown name twice": FORM_1[:-1] + ',"x":1,"x":2}',
    "D19 nested": "[" * 100_000,
    "D19 nested and whole": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "D20 5,000 digits": FORM_1.replace('"version":7', f'"version":{"9" * 5_000}'),
    "a fraction": FORM_1.replace('"version":7', '"version":7.0'),
    "an exponent": FORM_1.replace('"version":7', '"version":1e400'),
    "not a number": FORM_1.replace('"version":7', '"version":NaN'),
    "infinite": FORM_1.replace('"version":7', '"version":Infinity'),
}


@pytest.mark.parametrize("text", ANYTHING_ELSE.values(), ids=ANYTHING_ELSE)
def test_anything_else_than_a_record_is_corrupt(text: str | bytes) -> None:
    """By this one error."""
    with pytest.raises(StoreCorrupt) as caught:
        record_from_json(text, api_key="one")
    assert_says_nothing(caught.value)


SURROGATE: Final = "telltale\ud800"
NO_TEXT: Final = (None, 1, True, [TELLTALE], {TELLTALE: 1}, SURROGATE)
NO_TIME: Final = (
    *("soon", "", "0", "9999-99-99", "1e18", "2026-01-01T00:00:00", "infinity", "2026-01-01", TELLTALE),
    *(0, -1, True, [TELLTALE], "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
)
NO_HASH: Final = (
    *("", TELLTALE, "hmac-sha256:1:telltale", "hmac-sha256:1:" + "0" * 63, "hmac-sha256:01:" + "0" * 64),
    *(
        "hmac-sha256:-1:" + "0" * 64,
        "argon2:1:" + "0" * 64,
        "hmac-sha256:1:" + "A" * 64,
        "hmac-sha256:1:" + "0" * 64 + "\n",
    ),
    *(1, True, [TELLTALE]),
)
NO_LIST: Final = (
    *(None, "*", TELLTALE, 1, True, {TELLTALE: 1}, [1], [None], [""], [[TELLTALE]], [True], ["a", SURROGATE]),
)
NO_COUNT: Final = (-1, 2**53, True, "1", TELLTALE, [1], 10**30)
WRONG: Final[dict[str, tuple[Any, ...]]] = {
    "key_id": ("", *NO_TEXT),
    "organization_id": ("", *NO_TEXT),
    "api_key": ("", "telltale", *NO_TEXT),
    "secret": (None, *NO_HASH),
    "previous_secret": NO_HASH,
    "previous_expires_at": NO_TIME,
    "previous_grace": NO_COUNT,
    "rotated_at": NO_TIME,
    "domains": NO_LIST,
    "scopes": NO_LIST,
    "origins": NO_LIST,
    "networks": NO_LIST,
    "state": (None, "", "Active ", "ACTIVE", "expired", 1, True, ["active"], TELLTALE),
    "expires_at": NO_TIME,
    "critical": (None, 0, 1, "true", "", [True]),
    "name": NO_TEXT,
    "metadata": (
        *(*NO_TEXT, "", "[]", "null", "1", "telltale", '{"telltale":', '"telltale"'),
        *('{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}', '{"a":' * 300 + "1" + "}" * 300),
    ),
    "created_at": (None, *NO_TIME),
    "updated_at": (None, *NO_TIME),
    "version": (None, 0, *NO_COUNT),
}
OPTIONAL: Final = {"previous_secret", "previous_expires_at", "previous_grace", "rotated_at", "expires_at"}


def test_every_field_has_its_nonsense() -> None:
    """A new field without it would be trusted."""
    assert set(WRONG) == {field.name for field in fields(KeyRecord)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_names_its_field_and_nothing_else(name: str, value: object) -> None:
    """D9, D10, D11, D15, D18 and their kind, in both forms."""
    with pytest.raises(StoreCorrupt) as caught:
        record_from_json(changed(**{name: value}), api_key="one")
    assert_says_nothing(caught.value)
    assert name in str(caught.value) or name == "api_key"
    with pytest.raises(StoreCorrupt) as caught:
        record_from_values({**record_to_values(RECORD), name: value}, api_key="one")
    assert_says_nothing(caught.value)


@pytest.mark.parametrize("name", [field.name for field in fields(KeyRecord)])
def test_a_missing_field_is_corrupt(name: str) -> None:
    """D8, the blank field: also where ``null`` would be allowed, for then somebody removed it."""
    with pytest.raises(StoreCorrupt, match=f"'s {name} is"):
        record_from_json(without(name))
    values = record_to_values(RECORD)
    del values[name]
    with pytest.raises(StoreCorrupt, match=f"'s {name} is"):
        record_from_values(values)


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_null_is_nothing_where_nothing_may_be(name: str) -> None:
    """And only there."""
    assert getattr(record_from_json(changed(**{name: None})), name) is None


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), "2026-01-01T00:00:00Z", 0, 1.5, datetime(2026, 1, 1).date()])  # noqa: DTZ001 - what must be refused
def test_a_driver_that_gives_no_aware_time_is_not_believed(value: object) -> None:
    """Guessing a zone could make an expired key live on."""
    with pytest.raises(StoreCorrupt):
        record_from_values({**record_to_values(RECORD), "expires_at": value})


def test_metadata_that_nests_too_deep_is_corrupt() -> None:
    """D19 inside a field."""
    with pytest.raises(StoreCorrupt):
        record_from_json(changed(metadata='{"a":' * 100_000))


def test_a_key_that_lies_in_the_place_of_another_is_corrupt() -> None:
    """Somebody copied it there (D14)."""
    with pytest.raises(StoreCorrupt, match="another one"):
        record_from_values(record_to_values(RECORD), api_key="two")


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_whatever_bytes_are_stored_only_this_error_leaves(data: bytes) -> None:
    """No bytes of a few hundred are a record."""
    with pytest.raises(StoreCorrupt):
        record_from_json(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from([field.name for field in fields(KeyRecord)]), value=json_values)
@settings(max_examples=200, deadline=None)
def test_whatever_a_field_holds_it_is_a_record_or_corrupt(name: str, value: object) -> None:
    """And a record that is read comes back as it is."""
    try:
        record = record_from_json(changed(**{name: value}))
    except StoreCorrupt:
        return
    assert record_from_json(record_to_json(record)) == record


@given(start=st.integers(0, len(FORM_1)), length=st.integers(0, 20), patch=st.text(max_size=10))
@settings(max_examples=200, deadline=None)
def test_a_patched_record_is_a_record_or_corrupt(start: int, length: int, patch: str) -> None:
    """Characters lost, changed or put in between."""
    try:
        record_from_json(FORM_1[:start] + patch + FORM_1[start + length :])
    except StoreCorrupt:
        return


def assert_says_nothing(error: BaseException | None) -> None:
    while error is not None:
        assert TELLTALE not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
