"""Origins, networks and scopes: canonical text when written, compiled when loaded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth.rules import (
    MAX_SCOPES,
    KeyRules,
    canonical_network,
    canonical_origin,
    canonical_scope,
    missing_scopes,
)
from tests.support.keys import make_key

# -- origins --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.com:443/", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_has_one_spelling(text: str, canonical: str) -> None:
    """Scheme, host and a port that is not the default."""
    assert canonical_origin(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "null", "*", "app.example.com", "https://*.example.com", "https://a.example/path", "ftp://a.example", "@gatekey",
     "https://a.example?x", "https://u@a.example", "https://a.example, https://b.example", "https://", "chrome-extension://abc"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    """A wildcard would let every sub-domain's scripts use the key."""
    with pytest.raises(ValueError, match=r"must|is not|needs"):
        canonical_origin(text)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("HTTPS://APP.example.com:443", True),
        ("http://localhost:3000", True),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://evil.example", False),
        ("https://app.example.com.evil.example", False),
        ("https://app.example.com/path", False),
        ("null", False),
        ("", False),
        (None, False),
        ("https://app.example.com/" + " " * 10_000, False),
        ("\ud800", False),
    ],
)
def test_a_key_bound_to_origins_takes_no_other(origin: str | None, allowed: bool) -> None:  # noqa: FBT001 - a column
    """A request without one is refused, too."""
    rules = KeyRules.compile(make_key(origins=("https://app.example.com", "http://localhost:3000")))
    assert rules.origin_allowed(origin) is allowed


@pytest.mark.parametrize("origin", [None, "", "null", "https://anything.example"])
def test_a_key_without_origins_takes_any(origin: str | None) -> None:
    """No restriction."""
    assert KeyRules.compile(make_key()).origin_allowed(origin)


# -- networks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_has_one_spelling(text: str, canonical: str) -> None:
    """CIDR."""
    assert canonical_network(text) == canonical
    assert canonical_network(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "x", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2", "192.0.2.0-192.0.2.9", "2001:db8::1/32",
     "::ffff:192.0.2.0/120",
     "fe80::1%eth0", "example.com", "192.0.2.0/24,10.0.0.0/8", "01.2.3.4"],
)  # fmt: skip
def test_what_is_no_network_is_refused(text: str) -> None:
    """Host bits set are a mistake more often than not."""
    with pytest.raises(ValueError, match="must"):
        canonical_network(text)


@pytest.mark.parametrize(
    ("ip", "allowed"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("::ffff:192.0.2.7", True),
        ("2001:db8:1::7", True),
        ("2001:DB8:1:0::7", True),
        ("192.0.3.0", False),
        ("2001:db8:2::7", False),
        ("::ffff:192.0.3.1", False),
        ("::c000:207", False),
        ("", False),
        ("unknown", False),
        ("192.0.2.7:1234", False),
        ("192.0.2.07", False),
    ],
)
def test_a_key_bound_to_networks_takes_no_other(ip: str, allowed: bool) -> None:  # noqa: FBT001 - a column
    """An address that is not known is none of them."""
    rules = KeyRules.compile(make_key(networks=("192.0.2.0/24", "2001:db8:1::/48")))
    assert rules.network_allowed(ip) is allowed


@pytest.mark.parametrize("ip", ["", "unknown", "192.0.2.7"])
def test_a_key_without_networks_takes_any(ip: str) -> None:
    """No restriction."""
    assert KeyRules.compile(make_key()).network_allowed(ip)


# -- scopes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["a", "orders:read", "orders:*", "a:b:*", "gatekey:read", "gatekey:verify", "s" * 64, "https://a/b", "100%", ":*"],
)
def test_a_scope_is_itself(text: str) -> None:
    """Up to 64 bytes."""
    assert canonical_scope(text) == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "a,b", 'a"b', "a\\b", "é", "a\n", "\x7f", "s" * 65, "*", "orders*", "*:read", "orders:*:read", "a:*:*", "**",
     "gatekey:*", "gatekey:keys:*", "g*", "gatekey*"],
)  # fmt: skip
def test_what_is_no_scope_is_refused(text: str) -> None:
    """Among others every wildcard that would reach ``gatekey:``."""
    with pytest.raises(ValueError, match=r"must be 1 to 64|may hold \*"):
        canonical_scope(text)


@pytest.mark.parametrize(
    ("granted", "required", "missing"),
    [
        ((), (), ()),
        (("a",), (), ()),
        ((), ("a",), ("a",)),
        (("a", "b"), ("b", "a"), ()),
        (("a",), ("a", "b", "c"), ("b", "c")),
        (("a:read",), ("a",), ("a",)),
        (("a",), ("a:read",), ("a:read",)),
        (("a:*",), ("a:read", "a:b:c", "a:"), ()),
        (("a:*",), ("a", "ab:read", "b:read"), ("a", "ab:read", "b:read")),
        (("a:b:*",), ("a:b:c", "a:c"), ("a:c",)),
        (("a:*",), ("a:*",), ()),
        (("a:read",), ("a:*",), ("a:*",)),
        (("A:read",), ("a:read",), ("a:read",)),
        (("gatekey:read",), ("gatekey:read", "gatekey:write"), ("gatekey:write",)),
        (("gatekey:*",), ("gatekey:read",), ("gatekey:read",)),
        ((":*", "g:*"), ("gatekey:read",), ("gatekey:read",)),
    ],
)
def test_scopes_that_are_not_granted_are_missing(
    granted: tuple[str, ...], required: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """A wildcard covers what comes after it, and never ``gatekey:``."""
    assert missing_scopes(granted, required) == missing


@given(st.lists(st.text(max_size=12).map(lambda text: text + ":*"), max_size=5), st.text(max_size=12))
def test_no_wildcard_ever_reaches_gatekey(grants: list[str], rest: str) -> None:
    """Whatever was stored."""
    scope = f"gatekey:{rest}"
    assert missing_scopes(tuple(grants), (scope,)) == (() if scope in grants else (scope,))


# -- compiling ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"domains": ("API.example.com",)},
        {"domains": ("not a host",)},
        {"origins": ("https://app.example.com/",)},
        {"origins": ("null",)},
        {"networks": ("192.0.2.7",)},
        {"networks": ("x",)},
        {"scopes": ("a b",)},
        {"scopes": ("gatekey:*",)},
        {"scopes": tuple(f"s{number}" for number in range(MAX_SCOPES + 1))},
    ],
)
def test_a_record_with_a_rule_that_is_not_canonical_does_not_load(fields: dict[str, Any]) -> None:
    """What somebody wrote by hand is corrupt, not ignored: ignoring a network would open the key to all."""
    with pytest.raises(ValueError, match=r"canonical|must|may|is not|too many"):
        KeyRules.compile(make_key(**fields))


def test_a_key_has_up_to_32_scopes_of_64_bytes() -> None:
    """So the header that carries them is never cut."""
    scopes = tuple(f"{number:02}" + "s" * 62 for number in range(32))
    KeyRules.compile(make_key(scopes=scopes))
    assert MAX_SCOPES == 32
    assert len(" ".join(scopes)) == 2_079


@given(st.text(max_size=30))
def test_no_text_makes_a_rule_raise_anything_unexpected(text: str) -> None:
    """Only ``ValueError``, whose message never holds the text, from whoever writes; nothing from whoever asks."""
    for canonical in (canonical_origin, canonical_network, canonical_scope):
        try:
            assert canonical(canonical(text)) == canonical(text)
        except UnicodeError:
            pytest.fail("a message would repeat the text")
        except ValueError:
            pass
    rules = KeyRules.compile(make_key(origins=("https://a.example",), networks=("192.0.2.0/24",)))
    assert rules.origin_allowed(text) in (True, False)
    assert rules.network_allowed(text) in (True, False)
