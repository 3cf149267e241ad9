"""Names and stored forms: what one key's place is, and that nonsense is never taken for anything else."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.codec import record_from_json
from backends.errors import StoreCorrupt, StoreNotReady, StoreUnfit
from backends.records import KeyState
from backends.redis_keys import BUCKETS, Names, address_of, bucket_of
from backends.redis_records import (
    SCHEMA,
    Epochs,
    Switches,
    encode_record,
    expiry_of,
    import_of,
    micros,
    organization_from_json,
    organization_to_json,
    time_of,
)
from tests.support.keys import in_seconds, make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = Names("gk", 0)
API_KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20) | st.sampled_from(
    ["epoch", "disabled", ",epoch", ",,disabled", "{tag}", "a:b"]
)


@pytest.mark.parametrize(
    ("api_key", "name"),
    [
        ("123456789", "gk:{b195}:123456789"),  # CRC-16/XMODEM of this text is 0x31C3 by its definition
        ("epoch", "gk:{b115}:,epoch"),
        (",epoch", "gk:{b152}:,,epoch"),
    ],
)
def test_a_record_has_the_name_that_architecture_gives_it(api_key: str, name: str) -> None:
    """It is what lives in the servers of users: changing it needs a migration."""
    assert NAMES.record(address_of(api_key)).decode() == name


@given(API_KEYS, API_KEYS)
def test_each_key_has_a_place_of_its_own(one: str, other: str) -> None:
    """Also next to the names that are in every bucket; and the place leads back to the key."""
    places = [NAMES.record(address_of(api_key)) for api_key in (one, other)]
    assert (places[0] == places[1]) is (one == other)
    assert NAMES.api_key(places[0]) == one.encode()
    assert places[0] not in (*NAMES.markers, *NAMES.disabled)
    assert places[0].startswith(NAMES.tracked)


@given(API_KEYS)
def test_a_key_its_marker_and_its_list_share_what_decides_the_slot(api_key: str) -> None:
    """Else a cluster would refuse the look-up."""
    tag = NAMES.record(address_of(api_key)).partition(b"{")[2].partition(b"}")[0]
    bucket = bucket_of(api_key)
    assert 0 <= bucket < BUCKETS
    for beside in (NAMES.markers[bucket], NAMES.disabled[bucket]):
        assert beside.partition(b"{")[2].partition(b"}")[0] == tag


def test_nothing_outside_the_buckets_is_tracked() -> None:
    """Use counts and audit would else be announced."""
    for other in ("usage", "audit", "ids", "keys:b", "log"):
        assert not NAMES.own(other).startswith(NAMES.tracked)
    for name in (*NAMES.markers, *NAMES.disabled):
        assert NAMES.api_key(name) is None


# -- markers --------------------------------------------------------------------------------------------------------------


def marker(epoch: str = "e1", schema: object = SCHEMA) -> bytes:
    return json.dumps({"schema": schema, "epoch": epoch}).encode()


def test_no_marker_is_no_evidence() -> None:
    """Whatever had been seen before."""
    epochs = Epochs(lambda: None)
    with pytest.raises(StoreNotReady, match="marker is missing"):
        epochs.check(3, None)
    epochs.check(3, marker())
    with pytest.raises(StoreNotReady, match="marker is missing"):
        epochs.check(3, None)


@pytest.mark.parametrize(
    ("schema", "what"),
    [(SCHEMA + 1, "update Gatekey"), (SCHEMA - 1, "run gatekey migrate"), (-7, "run gatekey migrate")],
)
def test_another_schema_is_unfit_and_both_are_named(schema: int, what: str) -> None:
    """So that the operator knows which side to change."""
    with pytest.raises(StoreUnfit, match=f"has schema {schema}, this version of Gatekey needs {SCHEMA}: {what}"):
        Epochs(lambda: None).check(0, marker(schema=schema))


@pytest.mark.parametrize(
    "raw",
    [b"", b"1", b"[]", b"{}", b"null", b"\xff", b'{"schema":1}', b'{"schema":true,"epoch":"x"}', b'{"schema":"1","epoch":"x"}',
     b'{"schema":1,"epoch":2}', b'{"schema":1.0,"epoch":"x"}', b"[" * 100_000],
    ids=lambda raw: raw[:30].decode("latin-1"),
)  # fmt: skip
def test_a_damaged_marker_is_not_ready(raw: bytes) -> None:
    """Not unfit: its schema is not known."""
    with pytest.raises(StoreNotReady) as caught:
        Epochs(lambda: None).check(0, raw)
    assert type(caught.value) is StoreNotReady


@pytest.mark.parametrize(
    ("seen", "changes"),
    [
        ([(0, "a"), (1, "a"), (0, "a")], 0),
        ([(0, "a"), (0, "b")], 1),
        ([(0, "a"), (1, "b"), (0, "b"), (2, "b")], 1),
        ([(0, "a"), (0, "b"), (0, "a")], 2),
        ([(0, "a"), (1, "a"), (0, "b"), (1, "b"), (0, "a"), (1, "a")], 2),
        ([(0, "a"), (1, "b"), (0, "a"), (1, "b"), (0, "a"), (1, "b")], 1),
    ],
    ids=[
        "the same",
        "another",
        "seen in bucket after bucket",
        "there and back",
        "likewise, two buckets",
        "two at once",
    ],
)
def test_another_epoch_is_told_once(seen: list[tuple[int, str]], changes: int) -> None:
    """Every bucket shows it in its own time; but each change of one bucket counts."""
    told: list[None] = []
    epochs = Epochs(lambda: told.append(None))
    for bucket, epoch in seen:
        epochs.check(bucket, marker(epoch))
    assert len(told) == changes


# -- the lists of the disabled ------------------------------------------------------------------------------------------------


def test_a_list_holds_organizations_and_imports() -> None:
    """An identifier of an organization never holds a colon."""
    switches = Switches.decode(b'["acme","import:0123456789abcdef","other"]')
    assert switches.organizations == {"acme", "other"}
    assert switches.imports == {"0123456789abcdef"}


@pytest.mark.parametrize("raw", [None, b"", b"{}", b"[1]", b'"acme"', b'["acme"', b"\xff", b"null", b"[" * 100_000])
def test_a_missing_or_damaged_list_lets_nobody_pass(raw: bytes | None) -> None:
    """Which organizations are disabled is not known then."""
    with pytest.raises(StoreNotReady):
        Switches.decode(raw)


# -- records and organizations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "x", ',"import":"0123456789abcdef"}', '"'])
def test_a_record_of_an_import_names_it_and_is_otherwise_the_same(name: str) -> None:
    """No text inside a record can pass for it."""
    record = make_key("one", name=name, metadata='{"import":"0123456789abcdef"}')
    plain, marked = encode_record(record), encode_record(record, import_id="00ff00ff00ff00ff")
    assert record_from_json(plain) == record_from_json(marked) == record
    assert import_of(plain) is None
    assert import_of(marked) == "00ff00ff00ff00ff"


def test_only_active_keys_expire() -> None:
    """A key that is off stays in its own state."""
    record = make_key("one", expires_at=in_seconds(0.000001))
    assert int(expiry_of(record)) == micros(record.created_at) + 1
    assert expiry_of(replace(record, state=KeyState.DISABLED)) == b""
    assert expiry_of(make_key("one")) == b""


@given(
    st.datetimes(timezones=st.just(UTC)) | st.datetimes(timezones=st.just(UTC)).map(lambda t: t + timedelta(0, 0, 1))
)
def test_times_survive_as_numbers(time: datetime) -> None:
    """To the microsecond, before 1970 too."""
    assert time_of(micros(time)) == time


def test_an_organization_survives() -> None:
    """Every field."""
    organization = make_organization("acme", is_active=False, name='Zoë "鍵"')
    assert organization_from_json(organization_to_json(organization)) == organization


GOOD = json.loads(organization_to_json(make_organization()))
BROKEN: dict[str, Callable[[], bytes]] = {
    "no JSON": lambda: b"{",
    "no object": lambda: b"[]",
    "not UTF-8": lambda: b"\xff",
    "deep": lambda: b"[" * 100_000,
    **{f"without {name}": lambda name=name: json.dumps({**GOOD, name: None}).encode() for name in GOOD},  # type: ignore[misc]  # bound for each name
    "a year that no calendar has": lambda: json.dumps({**GOOD, "created_at": 10**30}).encode(),
    "a switch that is a number": lambda: json.dumps({**GOOD, "is_active": 1}).encode(),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_a_broken_organization_is_corrupt(raw: Callable[[], bytes]) -> None:
    """And nothing else."""
    with pytest.raises(StoreCorrupt):
        organization_from_json(raw())


@given(st.binary(max_size=80))
@settings(max_examples=200)
def test_no_bytes_raise_anything_of_their_own(raw: bytes) -> None:
    """Whatever somebody has put there by hand."""
    for read in (
        record_from_json,
        organization_from_json,
        Switches.decode,
        lambda raw: Epochs(lambda: None).check(0, raw),
    ):
        with pytest.raises((StoreCorrupt, StoreNotReady)):
            read(raw)
    assert import_of(raw) is None
