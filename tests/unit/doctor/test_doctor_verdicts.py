from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.doctor.messages import Ask, Reply, Silence, SilenceKind
from service.doctor.verdicts import (
    Result,
    Seen,
    Verdict,
    code_of,
    describe,
    failed,
    is_gatekeys,
    is_login_redirect,
    is_refusal,
    passed,
    worst,
)

PROBLEM = (("content-type", "application/problem+json; charset=utf-8"),)


def problem(status: int, code: object, **members: object) -> Reply:
    body = json.dumps({"code": code, "request_id": "r1", **members}).encode()
    return Reply(status=status, headers=PROBLEM, body=body)


def redirect(location: str, status: int = 302) -> Reply:
    return Reply(status=status, headers=(("location", location),))


CLOSED = Silence(SilenceKind.CLOSED, "closed the connection")
LOGIN = "https://api.example.com/login?next=abc"


@pytest.mark.parametrize(
    ("seen", "refusal", "gatekeys"),
    [
        (problem(401, "missing_credentials"), True, True),
        (problem(403, "insufficient_scope"), True, True),
        (problem(404, "not_found"), True, True),
        (problem(429, "throttled"), True, True),
        (problem(503, "temporarily_unavailable"), False, True),
        (problem(200, "missing_credentials"), False, False),
        (Reply(status=401, headers=(("www-authenticate", 'Bearer realm="gatekey"'),)), True, True),
        (Reply(status=401), True, False),
        (redirect(LOGIN), True, True),
        (redirect(LOGIN, 303), True, True),
        (redirect(LOGIN, 301), False, False),
        (redirect("https://api.example.com/orders/"), False, False),
        (redirect("https://[/?next=a"), False, False),
        (Reply(status=400), True, False),
        (Reply(status=403), True, False),
        (Reply(status=405), True, False),
        (Reply(status=421), True, False),
        (Reply(status=501), True, False),
        (Reply(status=404), False, False),
        (Reply(status=101), False, False),
        (Reply(status=204), False, False),
        (Reply(status=500), False, False),
        (Reply(status=502), False, False),
        (CLOSED, True, False),
        (Silence(SilenceKind.TIMEOUT, "no answer within 5 s"), False, False),
        (Silence(SilenceKind.GARBLED, "?"), False, False),
        (Silence(SilenceKind.UNREACHABLE, "connection refused"), False, False),
    ],
)
def test_who_refused_is_told_apart_from_who_answered(seen: Seen, *, refusal: bool, gatekeys: bool) -> None:
    """A 404, a redirect that is no sign-in and a server error may be the application's: they are no refusal."""
    assert (is_refusal(seen), is_gatekeys(seen)) == (refusal, gatekeys)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (problem(401, "missing_credentials"), "401 missing_credentials"),
        (redirect(LOGIN), "302 to https://api.example.com/login"),
        (redirect("/a b\x1b[31m"), "302"),
        (Reply(status=200, body=b"doctor-verdict-secret"), "200"),
        (problem(401, "doctor\nverdict"), "401"),
        (problem(401, ["missing_credentials"]), "401"),
        (CLOSED, "closed the connection"),
    ],
)
def test_an_answer_is_described_without_its_text(seen: Seen, words: str) -> None:
    """Status, public code and where a redirect leads; nothing else of it reaches the operator's terminal."""
    assert describe(seen) == words


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"code": 1}'])
def test_a_body_that_is_no_problem_has_no_code(body: bytes) -> None:
    """Whatever its content type says."""
    assert code_of(Reply(status=401, headers=PROBLEM, body=body)) == ""


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_no_location_breaks_the_judgement(location: str) -> None:
    """It is a stranger's text."""
    seen = redirect(location)
    assert describe(seen).isprintable()
    assert isinstance(is_login_redirect(seen), bool)


def test_the_first_failure_is_the_verdict() -> None:
    """And nothing more is sent after it."""
    sent: list[str] = []

    def send(ask: Ask) -> Seen:
        sent.append(ask.target)
        return Reply(status=int(ask.target))

    def judge(_: Ask, seen: Seen) -> Verdict:
        return passed(describe(seen)) if is_refusal(seen) else failed(describe(seen))

    verdict = worst([Ask(target=target) for target in ("401", "403", "200", "500")], send, judge)
    assert (verdict, sent) == (Verdict(Result.FAIL, "200"), ["401", "403", "200"])


def test_without_a_failure_everything_seen_is_told_once() -> None:
    """In the order in which it was seen."""
    answers = iter([401, 400, 401])
    verdict = worst(
        [Ask(target="/")] * 3, lambda _: Reply(status=next(answers)), lambda _, seen: passed(describe(seen))
    )
    assert verdict == Verdict(Result.PASS, "401, 400")
