"""Gatekey's own tokens: form, entropy and checksum, the latter computed here once more, in another way."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth.secret import Secret
from service.auth.tokens import (
    api_key_problem,
    checksum,
    generate_api_key,
    generate_key_id,
    generate_secret_token,
    secret_problem,
)

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NOW = datetime(2026, 1, 2, 3, 4, 5, 6789, UTC)


def value_of(digits: str) -> int:
    return sum(BASE62.index(digit) * 62**place for place, digit in enumerate(reversed(digits)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "000000"),
        ("a", "4GEHKN"),
        ("gatekey", "1rRrTz"),
        ("gk_live_" + "0" * 22, "2eMs5e"),
        ("gks_" + "z" * 43, "2m4nyg"),
    ],
)
def test_the_checksum_of_a_text_is_fixed_for_ever(text: str, expected: str) -> None:
    """Tokens outlive versions; the values were computed apart from the code."""
    assert checksum(text) == expected


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60))
def test_the_checksum_is_the_crc32_in_six_base62_digits(text: str) -> None:
    """Of all characters before it."""
    assert re.fullmatch(r"[0-9A-Za-z]{6}", checksum(text))
    assert value_of(checksum(text)) == zlib.crc32(text.encode())


def test_a_small_checksum_is_padded_on_the_left() -> None:
    """Six digits, always."""
    text = next(text for text in map(str, range(100_000)) if zlib.crc32(text.encode()) < 62**4)
    assert checksum(text).startswith("00")
    assert value_of(checksum(text)) == zlib.crc32(text.encode())


@pytest.mark.parametrize("env", ["live", "test"])
def test_an_api_key_has_its_form(env: str) -> None:
    """``gk_<env>_<22 base62><6 checksum>``."""
    api_key = generate_api_key(env)  # type: ignore[arg-type]  # one of the two
    match = re.fullmatch(rf"(gk_{env}_[0-9A-Za-z]{{22}})([0-9A-Za-z]{{6}})", api_key)
    assert match is not None
    assert value_of(match[2]) == zlib.crc32(match[1].encode())
    assert api_key_problem(api_key) is None


def test_a_secret_token_has_its_form() -> None:
    """``gks_<43 base62><6 checksum>``, and cannot be printed."""
    secret = generate_secret_token()
    assert isinstance(secret, Secret)
    match = re.fullmatch(r"(gks_[0-9A-Za-z]{43})([0-9A-Za-z]{6})", secret.reveal())
    assert match is not None
    assert value_of(match[2]) == zlib.crc32(match[1].encode())
    assert value_of(match[1][4:]) < 2**256
    assert secret_problem(secret.reveal()) is None


def test_tokens_are_random_in_every_digit() -> None:
    """No two alike; every base62 digit comes up at every place of a secret but the first, which is short of 2^256."""
    keys = {generate_api_key("live") for _ in range(500)}
    secrets = {generate_secret_token().reveal() for _ in range(2_000)}
    assert (len(keys), len(secrets)) == (500, 2_000)
    for place in range(1, 43):
        assert len(Counter(secret[4 + place] for secret in secrets)) == 62


def test_a_secret_uses_all_of_its_256_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number and the smallest still make 43 digits."""
    for number in (2**256 - 1, 0, 1):
        monkeypatch.setattr("service.auth.tokens.secrets.randbits", lambda bits, number=number: number % 2**bits)
        token = generate_secret_token().reveal()
        assert value_of(token[4:47]) == number
        assert secret_problem(token) is None


def test_key_ids_sort_by_the_time_of_their_making() -> None:
    """And differ within the same millisecond."""
    made = [generate_key_id(NOW + timedelta(milliseconds=number)) for number in range(100)]
    assert made == sorted(made)
    assert len({generate_key_id(NOW) for _ in range(100)}) == 100
    assert all(re.fullmatch(r"key_[0-9a-f]{32}", key_id) for key_id in made)


GOOD_KEY = generate_api_key("live")
GOOD_SECRET = generate_secret_token().reveal()


@pytest.mark.parametrize(
    "text",
    ["k", "k" * 256, "key:with.dots", "GK_live_x", "gk", "gkx_1", "xgk_live_1", "!#$%&'*+-./:;<=>?@[\\]^_`{|}~\"()"],
)
def test_an_imported_key_may_be_almost_anything(text: str) -> None:
    """Printable ASCII without space or comma, 1 to 256; only Gatekey's own prefix is checked further."""
    assert api_key_problem(text) is None
    assert secret_problem(text) is None


@pytest.mark.parametrize(
    "text", ["", "k" * 257, "a b", "a,b", "a\tb", "a\n", "\x00", "\x7f", "é", "\u202e", "\ud800", " a", "a "]
)
def test_nothing_else_may_exist(text: str) -> None:
    """As a key or as a secret."""
    assert api_key_problem(text) == "must be 1 to 256 characters of printable ASCII without space or comma"
    assert secret_problem(text) == "must be 1 to 256 characters of printable ASCII without space or comma"


@pytest.mark.parametrize(
    "text",
    [
        "gk_",
        "gk_live_",
        GOOD_KEY[:-1],
        GOOD_KEY + "0",
        "gk_prod_" + GOOD_KEY[8:],
        "gk_LIVE_" + GOOD_KEY[8:],
        GOOD_KEY[:20] + "-" + GOOD_KEY[21:],
    ],
    ids=["prefix", "environment", "cut", "lengthened", "another environment", "capitals", "another character"],
)
def test_what_looks_like_our_key_must_have_its_form(text: str) -> None:
    """Cut, lengthened, another environment, another character."""
    assert api_key_problem(text) == "begins with gk_ but has not that form"


@pytest.mark.parametrize(
    "text",
    ["gks_", GOOD_SECRET[:-1], GOOD_SECRET + "0", GOOD_SECRET[:9] + "." + GOOD_SECRET[10:]],
    ids=["prefix", "cut", "lengthened", "another character"],
)
def test_what_looks_like_our_secret_must_have_its_form(text: str) -> None:
    """Likewise."""
    assert secret_problem(text) == "begins with gks_ but has not that form"


@given(st.integers(8, 35), st.sampled_from(BASE62))
def test_any_one_mistyped_character_of_a_key_is_noticed(place: int, other: str) -> None:
    """CRC-32 finds every burst of up to 32 bits."""
    mistyped = GOOD_KEY[:place] + other + GOOD_KEY[place + 1 :]
    assert api_key_problem(mistyped) == (None if mistyped == GOOD_KEY else "its checksum is wrong")


@given(st.integers(4, 52), st.sampled_from(BASE62))
def test_any_one_mistyped_character_of_a_secret_is_noticed(place: int, other: str) -> None:
    """Likewise."""
    mistyped = GOOD_SECRET[:place] + other + GOOD_SECRET[place + 1 :]
    assert secret_problem(mistyped) == (None if mistyped == GOOD_SECRET else "its checksum is wrong")


def test_the_prefix_is_part_of_the_checksum() -> None:
    """A test key does not become a live key by its name."""
    assert api_key_problem(generate_api_key("test").replace("gk_test_", "gk_live_")) == "its checksum is wrong"


def test_a_problem_never_repeats_what_it_is_about() -> None:
    """It ends up in messages."""
    for text in (GOOD_SECRET[:-1], GOOD_SECRET[:-1] + "!", "sécret-of-somebody", "a secret"):
        problem = secret_problem(text)
        assert problem is not None
        assert text not in problem
