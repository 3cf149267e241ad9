"""Addresses as peers and proxies write them, and what must not be remembered of them."""

from __future__ import annotations

import pytest

from service.doors import peers
from service.doors.peers import parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("192.0.2", None),
        ("192.0.2.1:x", None),
        ("[2001:db8::1", None),
        ("[2001:db8::1]x", None),
        ("fe80::1%eth0", None),
        ("192.0.2.1" + " " * 100, None),
    ],
)
def test_an_address_with_or_without_a_port_is_one_or_nothing(text: str, address: str | None) -> None:
    """An IPv4 address mapped into IPv6 is the IPv4 address; a zone means something on one machine only."""
    found = parse_address(text)
    assert (None if found is None else str(found)) == address


def test_long_texts_are_not_remembered() -> None:
    """Strangers choose them: thousands of megabytes would fit into a memory of thousands of entries."""
    before = peers._parse_short.cache_info().currsize
    assert all(parse_address(f"{number}" * 100) is None for number in range(10, 60))
    assert peers._parse_short.cache_info().currsize == before
