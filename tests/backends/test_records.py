"""Records: the stored form of a secret, and that nobody can change what a store holds."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.journal import AuditHead, Claim, HourCount, LastUse, UsageCount
from backends.records import Connections, FoundKey, KeyFilter, KeyRecord, Page, SecretHash
from tests.support.clock import START
from tests.support.keys import make_entry, make_key, make_organization

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (SecretHash(1, bytes.fromhex(HEX)), f"hmac-sha256:1:{HEX}"),
        (SecretHash(999_999_999, bytes(32)), f"hmac-sha256:999999999:{'00' * 32}"),
        (SecretHash(0, bytes(32), prehashed=True), f"hmac-sha256-sha256:0:{'00' * 32}"),
    ],
)
def test_a_hash_has_one_text(stored: SecretHash, text: str) -> None:
    """Both ways."""
    assert stored.encode() == text
    assert SecretHash.decode(text) == stored


@given(st.integers(0, 999_999_999), st.binary(min_size=32, max_size=32), st.booleans())
def test_every_hash_survives_its_text(version: int, digest: bytes, prehashed: bool) -> None:  # noqa: FBT001 - drawn
    """Encode and decode are inverse."""
    stored = SecretHash(version, digest, prehashed)
    assert SecretHash.decode(stored.encode()) == stored


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        f"sha256:{HEX}",
        f"hmac-sha256:{HEX}",
        f"hmac-sha256::{HEX}",
        f"hmac-sha256:-1:{HEX}",
        f"hmac-sha256:+1:{HEX}",
        f"hmac-sha256:01:{HEX}",
        f"hmac-sha256:1_0:{HEX}",
        f"hmac-sha256:\u0661:{HEX}",
        f"hmac-sha256:{'9' * 5000}:{HEX}",
        f"hmac-sha256:x:{HEX}",
        f"hmac-sha256: 1:{HEX}",
        f"hmac-sha256:1:{HEX[:-1]}",
        f"hmac-sha256:1:{HEX[:-2]}",
        f"hmac-sha256:1:{HEX}0",
        f"hmac-sha256:1:{HEX}\n",
        f"hmac-sha256:1:{HEX[:-1]}g",
        f"hmac-sha256:1:{HEX[:-3]} 00",
        f"hmac-sha256:1:{HEX.upper()}",
        f"hmac-sha256:1:{HEX}:",
        f"HMAC-SHA256:1:{HEX}",
        f"hmac-sha512:1:{HEX}",
        f"hmac-sha256-sha256-sha256:1:{HEX}",
    ],
)
def test_any_other_text_is_refused_without_being_repeated(text: str) -> None:
    """A row that somebody wrote by hand must not turn into a hash, nor into a line of the log."""
    with pytest.raises(ValueError, match="not of the form") as caught:
        SecretHash.decode(text)
    assert HEX[:16] not in str(caught.value)


def test_a_hash_is_not_shown() -> None:
    """Not even in the record around it."""
    record = make_key("one", secret=SecretHash(1, b"d" * 32), previous_secret=SecretHash(1, b"e" * 32))
    for shown in (repr(record), str(record), f"{record}", repr(FoundKey(record, organization_is_active=True))):
        assert "ddd" not in shown
        assert "eee" not in shown
        assert (b"d" * 32).hex() not in shown


@pytest.mark.parametrize(
    "record",
    [
        make_key("one"),
        make_organization(),
        SecretHash(1, bytes(32)),
        FoundKey(make_key("one"), organization_is_active=True),
        Page((1, 2), None),
        KeyFilter(name="one"),
        Connections(1, 2, 3),
        UsageCount(key_id="key_one", hour=START, count=1, last_used_at=START),
        HourCount(START, 1),
        LastUse(START),
        make_entry(),
        AuditHead(),
        Claim("fingerprint", None),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_cannot_be_changed(record: Any) -> None:
    """Not by a caller that was handed what the store holds."""
    for field in fields(record):
        with pytest.raises(FrozenInstanceError):
            setattr(record, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        record.something_new = 1


def test_nothing_in_a_record_can_be_changed() -> None:
    """Every value is immutable itself, so a record hashes."""
    assert isinstance(hash(make_key("one", domains=("a",), metadata='{"a":1}')), int)


def test_records_are_made_by_names() -> None:
    """Nobody can guess the order of so many fields."""
    with pytest.raises(TypeError):
        KeyRecord("key_1", "acme", "one", SecretHash(1, bytes(32)), created_at=START, updated_at=START)  # type: ignore[call-arg]  # the mistake
