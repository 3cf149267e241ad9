"""What a Redis URL may say, and that no error repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.factory import create_store
from backends.redis import RedisKeyStore
from backends.redis_url import RedisOptions, parse_url
from tests.support import leaks

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "pass-word-of-the-redis-url"
leaks.register(PASSWORD)

GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "a host": ("redis://keys.example", {"host": "keys.example"}),
    "a port": ("redis://keys.example:6380", {"host": "keys.example", "port": 6380}),
    "a database": ("redis://keys.example/3", {"host": "keys.example", "db": 3}),
    "an empty path": ("redis://keys.example/", {"host": "keys.example"}),
    "IPv6": ("redis://[::1]:7000/1", {"host": "::1", "port": 7000, "db": 1}),
    "a password": (f"redis://:{PASSWORD}@h", {"host": "h", "password": PASSWORD}),
    "a user": (f"redis://gate%40key:{PASSWORD}@h", {"host": "h", "username": "gate@key", "password": PASSWORD}),
    "an encoded password": ("redis://u:p%23%2F%3A%20@h", {"host": "h", "username": "u", "password": "p#/: "}),
    "options": ("redis://h?prefix=my.keys:1&pool_size=5", {"host": "h", "prefix": "my.keys:1", "pool_size": 5}),
    "TLS": ("rediss://h", {"host": "h", "tls": {}}),
    "TLS without the name": (
        "rediss://h?ssl_check_hostname=false",
        {"host": "h", "tls": {"ssl_check_hostname": False}},
    ),
}


@pytest.mark.parametrize(("url", "expected"), GOOD.values(), ids=GOOD)
def test_a_url_says_what_it_says(url: str, expected: dict[str, Any]) -> None:
    """Whatever is left out has its default."""
    assert parse_url(url) == RedisOptions(**expected)


def test_the_files_of_tls_are_named_in_the_url(tmp_path: Path) -> None:
    """As the driver names them."""
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    for name in names:
        (tmp_path / name).touch()
    query = "&".join(f"{name}={tmp_path / name}" for name in names)
    assert parse_url(f"rediss://h?{query}").tls == {name: str(tmp_path / name) for name in names}


BAD = {
    "no host": ("redis://", "names no host"),
    "no host but a password": (f"redis://:{PASSWORD}@", "names no host"),
    "a port that is none": (f"redis://h:{PASSWORD}", "port"),
    "a port out of range": ("redis://h:99999", "port"),
    "a bracket": (f"redis://u:{PASSWORD}@[h", "host"),
    "a fragment, as an unencoded password makes one": (f"redis://u:#{PASSWORD}@h", "port|host|fragment"),
    "a fragment": (f"redis://h/0#{PASSWORD}", "fragment"),
    "a database that is none": (f"redis://h/{PASSWORD}", "path"),
    "a negative database": ("redis://h/-1", "path"),
    "an unknown option": ("redis://h?socket_timeout=9", "unknown option socket_timeout; known: pool_size"),
    "an option without a value": (f"redis://h?{PASSWORD}", r"unknown option \(not shown\)"),
    "an option of odd letters": (f"redis://h?{PASSWORD}%=1", r"unknown option \(not shown\)"),
    "an option twice": ("redis://h?pool_size=1&pool_size=2", "pool_size stands twice"),
    "a pool of nothing": ("redis://h?pool_size=0", "value of the option pool_size"),
    "a pool of words": (f"redis://h?pool_size={PASSWORD}", "value of the option pool_size"),
    "an empty prefix": ("redis://h?prefix=", "value of the option prefix"),
    "a prefix with braces": ("redis://h?prefix=a{b}", "value of the option prefix"),
    "a prefix with a blank": ("redis://h?prefix=a%20b", "value of the option prefix"),
    "a file that is not there": (f"rediss://h?ssl_ca_certs=/{PASSWORD}", "value of the option ssl_ca_certs"),
    "a switch that is none": (f"rediss://h?ssl_check_hostname={PASSWORD}", "value of the option ssl_check_hostname"),
    "TLS without TLS": ("redis://h?ssl_check_hostname=no", "ssl_check_hostname is for rediss"),
    "checks that may not be left out": ("rediss://h?ssl_cert_reqs=none", "unknown option ssl_cert_reqs"),
}


@pytest.mark.parametrize(("url", "text"), BAD.values(), ids=BAD)
def test_a_url_that_is_wrong_says_why_and_never_itself(url: str, text: str) -> None:
    """Its parts may be a password, wherever they stand."""
    with pytest.raises(ValueError, match=text) as caught:
        create_store(url)
    assert PASSWORD not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_factory_makes_the_store_for_both_schemes() -> None:
    """And shows no password."""
    for scheme in ("redis", "rediss"):
        store = create_store(f"{scheme}://u:{PASSWORD}@127.0.0.1:1/0")
        assert isinstance(store, RedisKeyStore)
        assert store.name == "redis"
        assert PASSWORD not in f"{store!r} {vars(store)!r}"


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    """Nothing else comes out of the parser."""
    for url in (f"redis://{text}", f"rediss://h{text}", f"redis://h?{text}"):
        try:
            assert parse_url(url).host
        except ValueError as error:
            assert str(error).startswith("redis: ")  # noqa: PT017 - either is right
