from __future__ import annotations

import pytest

from service.auth.secret import Secret
from service.doctor.site import Key, Situation, parse_address, parse_path, parse_site


@pytest.mark.parametrize(
    ("url", "origin", "path", "connect"),
    [
        ("http://api.example.com", "http://api.example.com", "/", ("api.example.com", 80)),
        ("https://API.example.com/v1/orders", "https://api.example.com", "/v1/orders", ("api.example.com", 443)),
        ("https://api.example.com:443/", "https://api.example.com", "/", ("api.example.com", 443)),
        ("https://api.example.com:8443/", "https://api.example.com:8443", "/", ("api.example.com", 8443)),
        ("http://[::1]:8000/x", "http://[::1]:8000", "/x", ("::1", 8000)),
        ("http://b\xfccher.example/", "http://xn--bcher-kva.example", "/", ("xn--bcher-kva.example", 80)),
        ("http://127.0.0.1/%7Ea;b=c", "http://127.0.0.1", "/%7Ea;b=c", ("127.0.0.1", 80)),
    ],
)
def test_an_address_is_taken_apart(url: str, origin: str, path: str, connect: tuple[str, int]) -> None:
    """Host, port and path, as a client would send them."""
    site = parse_site(url)
    assert (site.origin, site.path, site.connect) == (origin, path, connect)


def test_the_socket_may_go_elsewhere() -> None:
    """The name stays in the request, whatever address is connected to."""
    site = parse_site("https://api.example.com/", ("127.0.0.1", 8443))
    assert (site.authority, site.connect) == ("api.example.com", ("127.0.0.1", 8443))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "ftp://api.example.com/",
        "http:///orders",
        "http://user:doctor-url-secret@api.example.com/",
        "http://api.example.com/?doctor-url-secret",
        "http://api.example.com/#doctor-url-secret",
        "http://api.example.com/a b",
        "http://api.example.com/caf\xe9",
        "http://api.example.com:99999/",
        "http://[::1/",
        "http://api,example.com/",
        "http://a..b\xfc.example/",
    ],
)
def test_another_address_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ValueError, match="it") as caught:
        parse_site(url)
    assert "doctor-url-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:8443", ("::1", 8443)), ("proxy.internal:1", ("proxy.internal", 1))],
)
def test_where_to_connect_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    """A name or an address, and always a port."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "proxy", "proxy:", "proxy:0", "proxy:65536", "proxy:\u0661", ":80", "a b:80"])
def test_anything_else_to_connect_to_is_refused(text: str) -> None:
    """Before a socket is opened."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("path", ["", "orders", "/a?b", "/a#b", "/a b", "/a\r\nX: y", "/\x7f"])
def test_a_path_that_would_break_the_request_line_is_refused(path: str) -> None:
    """Odd targets are the probes' business, not the operator's."""
    with pytest.raises(ValueError, match="path"):
        parse_path(path)


def test_the_key_of_a_situation_is_not_shown() -> None:
    """Neither the handle nor the secret; without a key there is none to ask for."""
    site = parse_site("http://api.example.com")
    situation = Situation(site=site, key=Key(api_key="doctor-site-key", secret=Secret("doctor-site-secret")))
    assert "doctor-site" not in repr(situation)
    with pytest.raises(LookupError):
        _ = Situation(site=site).valid_key
