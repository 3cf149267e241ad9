"""Secrets at rest, with HMAC-SHA-256 computed here once more, by its definition."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.records import SecretHash
from service.auth.peppers import Peppers, SecretMatch, UnknownPepper, _Hmac
from tests.support import leaks

OLD, NEW = b"the-old-pepper-of-32-bytes-1234567", b"the-new-pepper-of-32-bytes-1234567"
SECRET, OTHER = "the-secret-at-rest", "another-secret-at-rest"
leaks.register(OLD.decode(), NEW.decode(), SECRET, OTHER)
PEPPERS = Peppers({1: OLD, 2: NEW}, current=2)


def defined_hmac(key: bytes, message: bytes) -> bytes:
    """RFC 2104."""
    key = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


@pytest.mark.parametrize("length", [32, 63, 64, 65, 128, 1000])
def test_a_hash_is_the_hmac_under_the_current_pepper(length: int) -> None:
    """Whatever the pepper's length; with its version."""
    pepper = bytes(range(250)) * 4
    peppers = Peppers({7: pepper[:length]}, current=7)
    stored = peppers.hash(SECRET)
    assert stored == SecretHash(7, defined_hmac(pepper[:length], SECRET.encode()))
    assert peppers.match(SECRET, stored)


def test_a_hash_under_an_older_pepper_still_matches() -> None:
    """Rotating the pepper locks nobody out."""
    stored = Peppers({1: OLD}, current=1).hash(SECRET)
    assert PEPPERS.match(SECRET, stored)
    assert not PEPPERS.match(SECRET, SecretHash(2, stored.digest)), "the version counts"
    assert PEPPERS.hash(SECRET).pepper_version == 2


def test_an_imported_digest_is_wrapped() -> None:
    """Its secret matches, the digest itself does not."""
    digest = hashlib.sha256(SECRET.encode()).digest()
    stored = PEPPERS.wrap_sha256(digest)
    assert stored == SecretHash(2, defined_hmac(NEW, digest), prehashed=True)
    assert PEPPERS.match(SECRET, stored)
    assert not PEPPERS.match(digest.hex(), stored)
    assert not PEPPERS.match(SECRET, SecretHash(2, stored.digest))
    assert not PEPPERS.match(SECRET, SecretHash(2, PEPPERS.hash(SECRET).digest, prehashed=True))


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=256))
def test_only_the_secret_itself_matches(text: str) -> None:
    """In both forms."""
    for stored in (PEPPERS.hash(SECRET), PEPPERS.wrap_sha256(hashlib.sha256(SECRET.encode()).digest())):
        assert bool(PEPPERS.match(text, stored)) is (text == SECRET)


def test_the_previous_secret_matches_while_it_is_stored() -> None:
    """During a rotation both do, under whatever pepper each was made."""
    current, previous = PEPPERS.hash(SECRET), Peppers({1: OLD}, current=1).hash(OTHER)
    assert PEPPERS.match(SECRET, current, previous) is SecretMatch.CURRENT
    assert PEPPERS.match(OTHER, current, previous) is SecretMatch.PREVIOUS
    assert not PEPPERS.match(OTHER, current)
    assert not PEPPERS.match("neither-of-the-two", current, previous)


def test_a_pepper_that_is_not_configured_proves_nothing() -> None:
    """Neither a match nor a mismatch; but the current secret still proves itself."""
    foreign = SecretHash(9, bytes(32))
    with pytest.raises(UnknownPepper):
        PEPPERS.match(SECRET, foreign)
    with pytest.raises(UnknownPepper):
        PEPPERS.match(OTHER, PEPPERS.hash(SECRET), foreign)
    assert PEPPERS.match(SECRET, PEPPERS.hash(SECRET), foreign)


REFUSALS: dict[str, tuple[SecretHash | None, SecretHash | None]] = {
    "an unknown key": (None, None),
    "a wrong secret": (PEPPERS.hash(SECRET), None),
    "an older pepper": (Peppers({1: OLD}, current=1).hash(SECRET), None),
    "a prehashed one": (PEPPERS.wrap_sha256(bytes(32)), None),
    "a rotation": (PEPPERS.hash(SECRET), PEPPERS.hash(SECRET)),
    "a rotation of prehashed ones": (PEPPERS.wrap_sha256(bytes(32)), PEPPERS.wrap_sha256(bytes(32))),
}


@pytest.mark.parametrize(("stored", "previous"), REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_is_the_same_work(
    monkeypatch: pytest.MonkeyPatch, stored: SecretHash | None, previous: SecretHash | None
) -> None:
    """Counted, not timed: one SHA-256, two HMACs, two comparisons in constant time."""
    work: list[str] = []

    def counting(name: str, original: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            work.append(name)
            return original(*arguments)

        return counted

    monkeypatch.setattr("service.auth.peppers.hashlib.sha256", counting("sha", hashlib.sha256))
    monkeypatch.setattr(_Hmac, "digest", counting("hmac", _Hmac.digest))
    monkeypatch.setattr("service.auth.peppers.hmac.compare_digest", counting("compare", hmac.compare_digest))
    if stored is None:
        PEPPERS.waste(OTHER)
    else:
        assert not PEPPERS.match(OTHER, stored, previous)
    assert sorted(work) == ["compare", "compare", "hmac", "hmac", "sha"]


def test_the_current_pepper_must_be_one_of_them() -> None:
    """And the message names no pepper."""
    with pytest.raises(ValueError, match="current pepper version is not") as caught:
        Peppers({1: OLD}, current=2)
    assert OLD.decode() not in str(caught.value)


def test_peppers_are_not_shown_and_travel_to_workers() -> None:
    """Their versions are no secret."""
    assert repr(PEPPERS) == str(PEPPERS) == "Peppers(versions=[1, 2], current=2)"
    assert PEPPERS.versions == {1, 2}
    again = pickle.loads(pickle.dumps(PEPPERS))  # noqa: S301 - our own bytes
    assert again.match(SECRET, PEPPERS.hash(SECRET))


def test_each_purpose_has_a_key_of_its_own() -> None:
    """Of the current pepper, and none that a stored secret could show."""
    keys = [PEPPERS.derived_key("one"), PEPPERS.derived_key("two"), Peppers({1: OLD}, current=1).derived_key("one")]
    assert len({*keys, NEW, PEPPERS.hash("one").digest}) == 5
    assert PEPPERS.derived_key("one") == keys[0]
    assert {len(key) for key in keys} == {32}


def test_a_fingerprint_groups_without_telling() -> None:
    """12 hex digits under a key of their own: not the stored hash's, not without the pepper."""
    fingerprint = PEPPERS.fingerprint("some-api-key")
    assert len(bytes.fromhex(fingerprint)) == 6
    assert fingerprint == PEPPERS.fingerprint("some-api-key")
    assert fingerprint != PEPPERS.fingerprint("some-api-kez")
    assert fingerprint != Peppers({1: OLD}, current=1).fingerprint("some-api-key")
    assert not PEPPERS.hash("some-api-key").digest.hex().startswith(fingerprint)


@pytest.mark.parametrize("text", ["", "é", "\ud800", "x" * 10_000])
def test_anything_has_a_fingerprint(text: str) -> None:
    """Unknown keys may be any text."""
    assert len(PEPPERS.fingerprint(text)) == 12
