"""Where a key may be used: a table of rules and addresses, and whatever else may be thrown at the parser."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.auth.domains import DomainRules, canonical_domain, parse_target, parse_target_url

# -- the table: a rule, an address that is asked for, and whether it is covered -------------------------------------------

HOST = "api.example.com"
PREFIX = "https://api.example.com/v1"

COVERED: list[tuple[str, str]] = [
    # a host: the default port of whatever scheme
    (HOST, "https://api.example.com/"),
    (HOST, "http://api.example.com/"),
    (HOST, "https://api.example.com:443/"),
    (HOST, "http://api.example.com:80/any/path?query"),
    (HOST, "https://API.Example.COM/"),
    (HOST, "https://api.example.com./"),
    (HOST, "HTTPS://api.example.com"),
    (HOST, "https://api.example.com?query"),
    (HOST, "https://api.example.com#fragment"),
    (HOST, "https://api.example.com/%2e%2e//anything%2f"),
    ("  API.Example.com.  ", "https://api.example.com/"),
    ("localhost", "http://localhost/"),
    ("my_service", "http://my_service/"),
    ("a-b.c--d.example", "https://a-b.c--d.example/"),
    # a port
    ("api.example.com:8443", "https://api.example.com:8443/"),
    ("api.example.com:8443", "http://api.example.com:8443/"),
    ("api.example.com:443", "https://api.example.com/"),
    ("api.example.com:80", "http://api.example.com/"),
    ("api.example.com:08443", "https://api.example.com:8443/"),
    # one label
    ("*.example.com", "https://api.example.com/"),
    ("*.example.com", "https://xn--bcher-kva.example.com/"),
    ("*.example.com", "https://_x.example.com/"),
    ("*.EXAMPLE.com.", "https://a.example.com./"),
    ("*.example.com:8443", "https://api.example.com:8443/"),
    ("*.bücher.example", "https://api.xn--bcher-kva.example/"),
    ("*.node7", "http://a.node7/"),
    ("https://*.example.com", "https://api.example.com/"),
    ("https://*.example.com/v1", "https://api.example.com/v1/x"),
    # an origin
    ("https://api.example.com", "https://api.example.com/any"),
    ("https://api.example.com/", "https://api.example.com/any"),
    ("HTTPS://API.example.com:443", "https://api.example.com/"),
    ("http://api.example.com:80", "http://api.example.com/"),
    ("http://api.example.com:443", "http://api.example.com:443/"),
    ("https://api.example.com:8443", "https://api.example.com:8443/"),
    # a prefix, at a segment's boundary
    (PREFIX, "https://api.example.com/v1/100%25"),
    ("https://api.example.com/100%25", "https://api.example.com/100%25/x"),
    (PREFIX, "https://api.example.com/v1"),
    (PREFIX, "https://api.example.com/v1/"),
    (PREFIX, "https://api.example.com/v1/orders/7"),
    (PREFIX, "https://api.example.com/v1?x=/../"),
    (PREFIX, "https://api.example.com/%76%31/x"),
    (PREFIX, "https://api.example.com/v1/a.b/..c/d../.e/..."),
    (PREFIX, "https://api.example.com/v1/a;b=c"),
    (PREFIX, "https://api.example.com/v1/%C3%A9"),
    (PREFIX, "https://api.example.com/v1/%20%3F%23"),
    ("https://api.example.com/v1/", "https://api.example.com/v1"),
    ("https://api.example.com/%76%31", "https://api.example.com/v1/x"),
    ("https://api.example.com/a%20b", "https://api.example.com/a%20b/c"),
    ("https://api.example.com/a%3Fb", "https://api.example.com/a%3fb"),
    ("https://api.example.com/caf\u00e9", "https://api.example.com/caf%C3%A9/x"),
    ("https://api.example.com/a%20", "https://api.example.com/a%20/x"),
    # international names
    ("bücher.example", "https://xn--bcher-kva.example/"),
    ("BÜCHER.example", "https://bücher.example/"),
    ("xn--bcher-kva.example", "https://Bücher.example/"),
    ("faß.example", "https://xn--fa-hia.example/"),
    ("例え.テスト", "https://xn--r8jz45g.xn--zckzah/"),
    ("api\u3002example\u3002com\u3002", "https://api.example.com/"),
    ("\uff41\uff50\uff49.example.com", "https://api.example.com/"),
    # addresses
    ("192.0.2.7", "http://192.0.2.7/"),
    ("192.0.2.7:8080", "http://192.0.2.7:8080/"),
    ("[2001:db8::1]", "http://[2001:db8::1]/"),
    ("[2001:DB8:0:0::1]", "http://[2001:db8::0001]/"),
    ("[::1]:8080", "http://[::1]:8080/"),
    ("https://[::1]:443/x", "https://[::1]/x"),
]

NOT_COVERED: list[tuple[str, str]] = [
    # another host
    (HOST, "https://example.com/"),
    (HOST, "https://api.example.com.evil.example/"),
    (HOST, "https://xapi.example.com/"),
    (HOST, "https://api.example.co/"),
    (HOST, "https://a.api.example.com/"),
    (HOST, "https://api.example.com../"),
    ("localhost", "http://localhost.localdomain/"),
    # another port
    (HOST, "https://api.example.com:8443/"),
    (HOST, "https://api.example.com:80/"),
    (HOST, "http://api.example.com:443/"),
    ("api.example.com:8443", "https://api.example.com/"),
    ("api.example.com:443", "http://api.example.com/"),
    ("api.example.com:80", "https://api.example.com/"),
    # not exactly one label
    ("*.example.com", "https://example.com/"),
    ("*.example.com", "https://a.b.example.com/"),
    ("*.example.com", "https://.example.com/"),
    ("*.example.com", "https://apiexample.com/"),
    ("*.example.com", "https://api.example.com.evil.example/"),
    ("*.example.com", "https://api.example.com:8443/"),
    ("*.example.com", "https://*.example.com/"),
    ("https://*.example.com", "http://api.example.com/"),
    # another origin
    ("https://api.example.com", "http://api.example.com/"),
    ("https://api.example.com", "http://api.example.com:443/"),
    ("http://api.example.com", "https://api.example.com/"),
    ("https://api.example.com:8443", "https://api.example.com/"),
    # not below the prefix
    (PREFIX, "https://api.example.com/"),
    (PREFIX, "https://api.example.com/v"),
    (PREFIX, "https://api.example.com/v10"),
    (PREFIX, "https://api.example.com/v1;x"),
    (PREFIX, "https://api.example.com/V1"),
    (PREFIX, "https://api.example.com/x/v1"),
    (PREFIX, "http://api.example.com/v1"),
    (PREFIX, "https://api.example.com:8443/v1"),
    # a path that two parties could read differently
    (PREFIX, "https://api.example.com/v1/../admin"),
    (PREFIX, "https://api.example.com/v1/.."),
    (PREFIX, "https://api.example.com/v1/."),
    (PREFIX, "https://api.example.com/v1/./x"),
    (PREFIX, "https://api.example.com/v1/..;/admin"),
    (PREFIX, "https://api.example.com/v1/.;x/admin"),
    (PREFIX, "https://api.example.com/v1/%2e%2e/admin"),
    (PREFIX, "https://api.example.com/v1/.%2E/admin"),
    (PREFIX, "https://api.example.com/v1/%2e%2e"),
    (PREFIX, "https://api.example.com/v1%2fx"),
    (PREFIX, "https://api.example.com/v1/..%2fadmin"),
    (PREFIX, "https://api.example.com/v1%2Fx"),
    (PREFIX, "https://api.example.com/v1//x"),
    (PREFIX, "https://api.example.com//v1"),
    (PREFIX, "https://api.example.com/v1/x//"),
    (PREFIX, "https://api.example.com/v1/..\\admin"),
    (PREFIX, "https://api.example.com/v1/%5cadmin"),
    (PREFIX, "https://api.example.com/v1/%252e%252e/admin"),
    (PREFIX, "https://api.example.com/v1/%252fx"),
    (PREFIX, "https://api.example.com/v1/%25252e"),
    (PREFIX, "https://api.example.com/v1/%"),
    (PREFIX, "https://api.example.com/v1/%zz"),
    (PREFIX, "https://api.example.com/v1/%00"),
    (PREFIX, "https://api.example.com/v1/%0d%0a"),
    (PREFIX, "https://api.example.com/v1/%7f"),
    (PREFIX, "https://api.example.com/v1/%ff"),
    (PREFIX, "https://api.example.com/v1/%c0%ae%c0%ae/"),
    (PREFIX, "https://api.example.com/v1/\ud800"),
    (PREFIX, "https://api.example.com"),
    # other names that look the same
    ("bücher.example", "https://bucher.example/"),
    ("faß.example", "https://fass.example/"),
    ("example.com", "https://\u0435\u0445ample.com/"),
    # addresses
    ("192.0.2.7", "http://192.0.2.8/"),
    ("192.0.2.7", "http://192.0.2.7:8080/"),
    ("[2001:db8::1]", "http://[2001:db8::2]/"),
    ("127.0.0.1", "http://0x7f.0.0.1/"),
    ("127.0.0.1", "http://2130706433/"),
    ("127.0.0.1", "http://127.1/"),
    ("127.0.0.1", "http://127.0.0.01/"),
    ("127.0.0.1", "http://[::ffff:127.0.0.1]/"),
    # Gatekey's own paths are no host
    ("@gatekey", "https://api.example.com/"),
    ("@gatekey", "https://@gatekey/"),
]


@pytest.mark.parametrize(("rule", "address"), COVERED)
def test_a_rule_covers_what_it_names(rule: str, address: str) -> None:
    """Both sides in any spelling."""
    rules = DomainRules.compile([canonical_domain(rule)])
    target = parse_target_url(address)
    assert target is not None
    assert rules.match(target, own_path=False)


@pytest.mark.parametrize(("rule", "address"), NOT_COVERED)
def test_a_rule_covers_nothing_else(rule: str, address: str) -> None:
    """Whatever has no one meaning is refused."""
    rules = DomainRules.compile([canonical_domain(rule)])
    assert not rules.match(parse_target_url(address), own_path=False)


# -- canonical form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("API.Example.com.", "api.example.com"),
        (" api.example.com\t", "api.example.com"),
        ("*.Example.com", "*.example.com"),
        ("api.example.com:443", "api.example.com:443"),
        ("https://api.example.com:443", "https://api.example.com"),
        ("http://api.example.com:80/", "http://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://api.example.com/%76%31", "https://api.example.com/v1"),
        ("https://api.example.com/a b", "https://api.example.com/a%20b"),
        ("https://api.example.com/a%3fb%23c", "https://api.example.com/a%3Fb%23c"),
        ("https://api.example.com/caf\u00e9", "https://api.example.com/caf%C3%A9"),
        ("https://api.example.com/:@!$&'()*+,;=~-._", "https://api.example.com/:@!$&'()*+,;=~-._"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[2001:DB8::0:1]:8443", "[2001:db8::1]:8443"),
        ("@GateKey ", "@gatekey"),
    ],
)
def test_a_rule_has_one_spelling(text: str, canonical: str) -> None:
    """Which is what is stored."""
    assert canonical_domain(text) == canonical
    assert canonical_domain(canonical) == canonical


NO_RULES = [
    "", " ", ".", "..", "*", "*.", "**.example.com", "*.*.example.com", "a.*.example.com", "api*.example.com", "a*",
    "*example.com", "*.192.0.2.7", "*.2.7", "*.[::1]", "-a.example.com", "a-.example.com", "a..example.com", ".example.com",
    "example.com..", "a b.example.com", "a,b", "a@b", "user@api.example.com", "https://user@api.example.com",
    "https://user:password@api.example.com", "api.example.com/v1", "/v1", "//api.example.com", "ftp://api.example.com",
    "://api.example.com", "https:api.example.com", "https:/api.example.com", "https://", "https:///v1", "https://?x",
    "https://api.example.com?x", "https://api.example.com/v1?x", "https://api.example.com/v1#x", "https://api.example.com/a//b",
    "https://api.example.com/../x", "https://api.example.com/a%2fb", "https://api.example.com/%",
    "https://api.example.com/a\\b", "https://api.example.com\\@evil.example", "https://api.example.com/\ud800",
    "https://api.example.com/%ff", "https://api.example.com/a\nb", "api.example.com:",
    "api.example.com:0", "api.example.com:65536",
    "api.example.com:x", "api.example.com:-1", "api.example.com:+1", "api.example.com:\u0661", "api.example.com:000443", "a:1:2",
    "256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "2130706433", "[::1", "::1", "[]", "[::1]x", "[::1]:", "[::g]",
    "[fe80::1%eth0]",
    "[fe80::1%25eth0]", "[::ffff:192.0.2.7]", "[192.0.2.7]", "a" * 64 + ".example.com", ".".join(["a" * 62] * 5), "x" * 300,
    "xn--\u00fc.example", "\u200d.example", "a\u0000.example", "\ud800.example", "\u2100.example", "@gatekey/x", "@other", "https://@gatekey",
    "https://api.example.com/" + "p" * 2048,
]  # fmt: skip


@pytest.mark.parametrize("text", NO_RULES)
def test_what_is_no_rule_is_refused_without_being_repeated(text: str) -> None:
    """The message says what a rule is."""
    with pytest.raises(ValueError, match=r"must|needs|is not") as caught:
        canonical_domain(text)
    assert len(text) < 8 or text not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["API.example.com", "api.example.com.", "https://api.example.com/", "https://a.example/%41", "bücher.example"],
)
def test_a_stored_rule_in_another_spelling_is_corrupt(text: str) -> None:
    """Somebody wrote it by hand; it must not mean something by chance."""
    with pytest.raises(ValueError, match="canonical"):
        DomainRules.compile(["api.example.com", text])


def test_rules_add_up() -> None:
    """One that covers is enough, also among several for the same host."""
    rules = DomainRules.compile(
        ["https://a.example/x", "https://a.example/y", "*.b.example", "https://*.b.example:8443", "c.example:81"]
    )
    covered = ["https://a.example/x", "https://a.example/y", "http://a.b.example", "https://a.b.example:8443"]
    refused = ["https://a.example/z", "http://a.b.example:8443", "http://c.example"]
    for address, expected in [*((text, True) for text in covered), *((text, False) for text in refused)]:
        assert rules.match(parse_target_url(address), own_path=False) is expected


def test_no_rules_cover_nothing() -> None:
    """Also on Gatekey's own paths."""
    rules = DomainRules.compile([])
    target = parse_target_url("https://api.example.com/")
    assert not rules.match(target, own_path=False)
    assert not rules.match(target, own_path=True)


def test_gatekeys_own_paths_are_covered_by_their_own_rule() -> None:
    """On every host, but not without a usable one; other paths are not."""
    rules = DomainRules.compile(["@gatekey"])
    for host in ("api.example.com", "127.0.0.1:8000", "[::1]"):
        target = parse_target(host, "http", "/v1/whoami")
        assert rules.match(target, own_path=True)
        assert not rules.match(target, own_path=False)
    assert not rules.match(None, own_path=True)


def test_a_hosts_rule_counts_on_gatekeys_own_paths_too() -> None:
    """They are paths of that host."""
    rules = DomainRules.compile(["api.example.com"])
    assert rules.match(parse_target("api.example.com", "https", "/v1/whoami"), own_path=True)
    assert not rules.match(parse_target("other.example.com", "https", "/v1/whoami"), own_path=True)


# -- targets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("api.example.com", "https", ("api.example.com", 443)),
        ("api.example.com", "http", ("api.example.com", 80)),
        (" API.example.com:8443\t", "http", ("api.example.com", 8443)),
        ("[::1]", "http", ("[::1]", 80)),
        ("[::1]:8080", "http", ("[::1]", 8080)),
        ("127.0.0.1:8000", "http", ("127.0.0.1", 8000)),
    ],
)
def test_a_host_header_is_a_target(host: str, scheme: str, expected: tuple[str, int]) -> None:
    """Canonical host, effective port, the path as it was sent."""
    target = parse_target(host, scheme, "/a//%2e")
    assert target is not None
    assert (target.scheme, target.host, target.port, target.path) == (scheme, *expected, "/a//%2e")


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a, b",
        "a,b",
        "a b",
        "a/b",
        "a@b",
        "a:b",
        "a:",
        "http://a",
        "a" * 300,
        "a\x00",
        "a\r\nb",
        "\ud800",
        "*.a",
    ],
)
def test_what_is_no_host_is_no_target(host: str) -> None:
    """Missing, doubled, malformed."""
    assert parse_target(host, "https", "/") is None


@pytest.mark.parametrize(
    "text", ["a.example/b", "ftp://a.example", "https://u@a.example", "https://", "https://a.example\\b"]
)
def test_what_is_neither_host_nor_url_is_no_target(text: str) -> None:
    """For ``domain`` of a verification."""
    assert parse_target_url(text) is None


# -- whatever else may come -----------------------------------------------------------------------------------------------

ODD = st.text(
    st.sampled_from([*string.printable, *"éßİ\u212a\u3002\uff0e\u2488\u200d\u202e\ud800\u0660\u0661"]), max_size=40
)
PARTS = st.lists(
    st.sampled_from(
        ["http", "https", "HTTPS", "://", "*.", "*", ".", "a", "example.com", "bücher", "[::1]", "127.0.0.1", ":", "443", "80",
         "/", "..", "%2e", "%2F", "%25", "%C3%A9", "%20", "?", "#", "@", "@gatekey", " ", "\\", "\u3002"]
    ),
    max_size=8,
).map("".join)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=300), ODD, PARTS, PARTS.map(lambda text: f"https://a.example/{text}"))


@given(TEXTS, TEXTS, TEXTS)
@example("\ud800", "https://a.example/%", "/\ud800")
def test_no_text_makes_the_parser_raise_anything_unexpected(host: str, address: str, path: str) -> None:
    """Anything can arrive; only ``canonical_domain`` raises, and only ``ValueError``."""
    rules = DomainRules.compile(["https://a.example/v1", "*.example.com", "@gatekey"])
    targets = [parse_target(host, "https", path), parse_target_url(address), parse_target("a.example", "https", path)]
    for target in targets:
        assert rules.match(target, own_path=False) in (True, False)
    try:
        canonical_domain(host)
    except UnicodeError:
        pytest.fail("a message would repeat the text")
    except ValueError:
        pass


@given(TEXTS)
def test_canonical_is_idempotent_and_means_itself(text: str) -> None:
    """What was stored once is accepted for ever, and covers the address that it names."""
    try:
        canonical = canonical_domain(text)
    except ValueError:
        return
    assert canonical_domain(canonical) == canonical
    rules: Any = DomainRules.compile([canonical])
    named = re.sub(r"^(https?://)?\*\.", r"\1label.", canonical)
    target = parse_target_url(named)
    if canonical == "@gatekey":
        assert target is None
    else:
        assert target is not None
        assert rules.match(target, own_path=False)
        assert not rules.match(parse_target(f"x{target.host}", target.scheme, "/"), own_path=False)
