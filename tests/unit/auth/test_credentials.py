"""Reading credentials: one table of everything a client can send."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth.credentials import Credentials, Form, read_credentials
from service.auth.reasons import Reason
from service.auth.tokens import generate_api_key, generate_secret_token

ALL = frozenset(Form)
OWN_KEY = generate_api_key("test")
OWN_SECRET = generate_secret_token().reveal()
MISSING, MALFORMED = Reason.MISSING_CREDENTIALS, Reason.MALFORMED_KEY


def basic(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return "Basic " + base64.b64encode(data).decode()


def flipped(token: str) -> str:
    return token[:-1] + ("0" if token[-1] != "0" else "1")


Headers = tuple[list[str], list[str], list[str]]
PAIR = ("key", "secret")

CASES: list[tuple[str, Headers, tuple[str, str] | Reason, bool]] = [
    ("nothing", ([], [], []), MISSING, False),
    ("headers", (["key"], ["secret"], []), PAIR, True),
    ("own form", ([OWN_KEY], [OWN_SECRET], []), (OWN_KEY, OWN_SECRET), True),
    ("key alone", (["key"], [], []), MISSING, True),
    ("secret alone", ([], ["secret"], []), MISSING, True),
    ("empty key alone", ([""], [], []), MISSING, True),
    ("doubled key alone", (["a", "b"], [], []), MISSING, True),
    ("joined key alone", (["a,b"], [], []), MISSING, True),
    ("empty secret alone", ([], [""], []), MISSING, True),
    ("basic", ([], [], [basic("key:secret")]), PAIR, True),
    ("basic, lower-case scheme", ([], [], [basic("key:secret").replace("Basic", "basic")]), PAIR, True),
    ("basic, secret with colon", ([], [], [basic("key:sec:ret")]), ("key", "sec:ret"), True),
    ("bearer", ([], [], ["Bearer key.secret"]), PAIR, True),
    ("bearer, own form", ([], [], [f"Bearer {OWN_KEY}.{OWN_SECRET}"]), (OWN_KEY, OWN_SECRET), True),
    ("bearer, secret with dots", ([], [], ["bearer key.sec.ret"]), ("key", "sec.ret"), True),
    ("same pair twice", (["key"], ["secret"], ["Bearer key.secret"]), PAIR, True),
    ("two pairs", (["key"], ["secret"], ["Bearer other.secret"]), MALFORMED, True),
    ("half a pair and a whole one", (["key"], [], ["Bearer key.secret"]), MALFORMED, True),
    ("two key lines", (["key", "key"], ["secret"], []), MALFORMED, True),
    ("two secret lines", (["key"], ["secret", "secret"], []), MALFORMED, True),
    ("joined key lines", (["key,key"], ["secret"], []), MALFORMED, True),
    ("joined secret lines", (["key"], ["secret, secret"], []), MALFORMED, True),
    ("empty key", ([""], ["secret"], []), MALFORMED, True),
    ("empty secret", (["key"], [""], []), MALFORMED, True),
    ("space inside", (["k ey"], ["secret"], []), MALFORMED, True),
    ("tab inside", (["k\tey"], ["secret"], []), MALFORMED, True),
    ("control character", (["k\x01ey"], ["secret"], []), MALFORMED, True),
    ("final newline", (["key\n"], ["secret"], []), MALFORMED, True),
    ("not ASCII", (["clé"], ["secret"], []), MALFORMED, True),
    ("surrogate", (["\ud800"], ["secret"], []), MALFORMED, True),
    ("256 characters", (["k" * 256], ["secret"], []), ("k" * 256, "secret"), True),
    ("257 characters", (["k" * 257], ["secret"], []), MALFORMED, True),
    ("a wrong key checksum", ([flipped(OWN_KEY)], [OWN_SECRET], []), MALFORMED, True),
    ("a wrong secret checksum", ([OWN_KEY], [flipped(OWN_SECRET)], []), MALFORMED, True),
    ("a short own key", (["gk_live_short"], [OWN_SECRET], []), MALFORMED, True),
    ("an unknown environment", (["gk_prod" + OWN_KEY[7:]], [OWN_SECRET], []), MALFORMED, True),
    ("unlisted scheme", ([], [], ["Digest username=x"]), MISSING, False),
    ("unlisted scheme with parameters", ([], [], ['Digest username="x", realm="bearer"']), MISSING, False),
    ("two unlisted schemes", ([], [], ["Digest x", "Negotiate y"]), MISSING, False),
    ("unlisted scheme before bearer", ([], [], ["Digest x", "Bearer key.secret"]), MALFORMED, True),
    ("bearer before an unlisted scheme", ([], [], ["Bearer key.secret", "Digest x"]), MALFORMED, True),
    ("unlisted scheme joined with basic", ([], [], ["Digest x, " + basic("key:secret")]), MALFORMED, True),
    ("pair, unlisted scheme and bearer", (["key"], ["secret"], ["Digest x", "Bearer key.secret"]), MALFORMED, True),
    ("no scheme", ([], [], ["key.secret"]), MISSING, False),
    ("empty Authorization", ([], [], [""]), MISSING, False),
    ("pair and unlisted scheme", (["key"], ["secret"], ["Digest x"]), PAIR, True),
    ("bearer alone", ([], [], ["Bearer"]), MALFORMED, True),
    ("bearer and nothing", ([], [], ["Bearer "]), MALFORMED, True),
    ("bearer without dot", ([], [], ["Bearer keysecret"]), MALFORMED, True),
    ("bearer with two spaces", ([], [], ["Bearer  key.secret"]), MALFORMED, True),
    ("bearer with a tab", ([], [], ["Bearer\tkey.secret"]), MISSING, False),
    ("bearer not ASCII", ([], [], ["Bearer clé.secret"]), MALFORMED, True),
    ("two Authorization lines", ([], [], ["Bearer key.secret", "Bearer key.secret"]), MALFORMED, True),
    ("joined Authorization lines", ([], [], ["Bearer key.secret,Bearer key.secret"]), MALFORMED, True),
    ("basic without colon", ([], [], [basic("keysecret")]), MALFORMED, True),
    ("basic not base64", ([], [], ["Basic !!!!"]), MALFORMED, True),
    ("basic with wrong padding", ([], [], ["Basic a2V5OnNlY3JldA="]), MALFORMED, True),
    ("basic not ASCII", ([], [], [basic(b"key:s\xe9cret")]), MALFORMED, True),
    ("basic with an empty secret", ([], [], [basic("key:")]), MALFORMED, True),
    ("basic with NUL", ([], [], [basic("key:sec\x00ret")]), MALFORMED, True),
]


@pytest.mark.parametrize(
    ("headers", "expected", "presented"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_what_a_client_sends_is_one_pair_or_a_reason(
    headers: Headers,
    expected: tuple[str, str] | Reason,
    presented: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The whole grammar of contract 2."""
    result, was_presented = read_credentials(*headers, ALL)
    pair = (result.api_key, result.secret.reveal()) if isinstance(result, Credentials) else result
    assert (pair, was_presented) == (expected, presented)


@pytest.mark.parametrize(
    ("forms", "headers", "expected"),
    [
        ({Form.HEADERS}, (["key"], ["secret"], ["Bearer an.application.token"]), PAIR),
        ({Form.HEADERS}, ([], [], ["Bearer key.secret"]), MISSING),
        ({Form.BASIC}, (["other"], ["x"], [basic("key:secret")]), PAIR),
        ({Form.BASIC}, ([], [], ["Bearer key.secret"]), MISSING),
        ({Form.BASIC}, ([], [], ["Bearer a.b", "Bearer c.d"]), MISSING),
        ({Form.HEADERS}, (["key"], ["secret"], ["Bearer a.b", basic("c:d")]), PAIR),
        ({Form.BEARER}, ([], [], [basic("key:secret")]), MISSING),
    ],
)
def test_a_form_that_is_not_listed_is_neither_read_nor_counted(
    forms: set[Form], headers: Headers, expected: tuple[str, str] | Reason
) -> None:
    """So that an application's own Authorization can pass."""
    result, _ = read_credentials(*headers, frozenset(forms))
    assert ((result.api_key, result.secret.reveal()) if isinstance(result, Credentials) else result) == expected


@given(st.lists(st.text(), max_size=2), st.lists(st.text(), max_size=2), st.lists(st.text(), max_size=2))
def test_no_text_makes_the_parser_raise(keys: list[str], secrets: list[str], authorizations: list[str]) -> None:
    """Anything can arrive."""
    result, _ = read_credentials(keys, secrets, authorizations, ALL)
    assert isinstance(result, Credentials) or result in (MISSING, MALFORMED)


def test_credentials_cannot_be_printed() -> None:
    """Neither half of the pair, in no form."""
    result, _ = read_credentials(["the-key"], ["the-secret"], [], ALL)
    shown = f"{result!r} {result}"
    assert "the-key" not in shown
    assert "the-secret" not in shown
