"""The identity headers of an allow: all five every time, in characters that no server mangles."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers.identity import EMPTY_IDENTITY, identity_headers, rotation_headers
from tests.support.clock import START
from tests.support.keys import PEPPERS, known_key

NAMES = [
    "x-gatekey-organization",
    "x-gatekey-key-id",
    "x-gatekey-scopes",
    "x-gatekey-subject",
    "x-gatekey-method",
]


def test_a_key_is_named_by_all_five_headers() -> None:
    """Also by the empty one: a proxy overwrites only what it gets."""
    key = known_key(organization_id="acme", key_id="key_01", scopes=("orders:read", "orders:write"))
    assert dict(identity_headers(key)) == {
        "x-gatekey-organization": "acme",
        "x-gatekey-key-id": "key_01",
        "x-gatekey-scopes": "orders:read orders:write",
        "x-gatekey-subject": "",
        "x-gatekey-method": "api-key",
    }


def test_nobody_is_all_five_headers_empty() -> None:
    """A preflight and shadow mode must not let a client's own headers through."""
    assert list(EMPTY_IDENTITY) == [(name, "") for name in NAMES]


def test_the_most_scopes_that_a_key_can_have_are_not_cut() -> None:
    """32 scopes of 64 bytes."""
    scopes = tuple(f"{number:02}:{'s' * 61}" for number in range(32))
    assert dict(identity_headers(known_key(scopes=scopes)))["x-gatekey-scopes"].split(" ") == list(scopes)


@pytest.mark.parametrize(
    ("key_id", "expected"),
    [
        ("50%", "50%25"),
        ("%41", "%2541"),
        ("café", "caf%C3%A9"),
        ("a\r\nb", "a%0D%0Ab"),
        ("a\tb\x00c\x7f", "a%09b%00c%7F"),
        ("a,b;c=d", "a,b;c=d"),
    ],
)
def test_what_is_not_printable_ascii_is_percent_encoded(key_id: str, expected: str) -> None:
    """And the percent sign itself, so that decoding once gives the value back."""
    assert dict(identity_headers(known_key(key_id=key_id)))["x-gatekey-key-id"] == expected


@given(st.text())
def test_every_value_is_ascii_without_controls_and_decodes_to_what_it_was(text: str) -> None:
    """A store of somebody else's may hold anything."""
    headers = identity_headers(known_key(key_id=text, organization_id=text))
    assert [name for name, _ in headers] == NAMES
    for _, value in headers:
        assert value.isascii()
        assert value.isprintable()
    assert unquote(dict(headers)["x-gatekey-key-id"]) == text
    assert unquote(dict(headers)["x-gatekey-organization"]) == text


def test_a_scope_with_a_percent_sign_is_encoded_too() -> None:
    """The one character of a scope that has to be."""
    headers = dict(identity_headers(known_key(organization_id="acme", key_id="key_01", scopes=("a%b", "c"))))
    assert headers["x-gatekey-scopes"] == "a%25b c"
    assert (headers["x-gatekey-organization"], headers["x-gatekey-key-id"]) == ("acme", "key_01")


def test_a_secret_whose_days_are_numbered_is_told_so() -> None:
    """Since when (RFC 9745), and until when (RFC 8594) where that is known."""
    previous = PEPPERS.hash("the-secret-before")
    key = known_key(previous_secret=previous, rotated_at=START, previous_expires_at=START + timedelta(days=30))
    assert rotation_headers(key) == (
        ("deprecation", f"@{int(START.timestamp())}"),
        ("sunset", format_datetime(START + timedelta(days=30), usegmt=True)),
    )
    imported = known_key(previous_secret=previous, updated_at=START)
    assert rotation_headers(imported) == (("deprecation", f"@{int(START.timestamp())}"),)
    assert rotation_headers(known_key()) == ()
