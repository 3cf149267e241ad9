"""The shared handler: every reason and every status, in both shapes, with the headers that belong to it."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

import pytest

from service.answers.denial import Denial
from service.answers.http_errors import HTTP_ERRORS
from service.answers.responder import Responder
from service.auth.reasons import REASONS, Outcome, Reason

if TYPE_CHECKING:
    from service.answers.answer import Answer

REFUSALS = [reason for reason in Reason if REASONS[reason].outcome is not Outcome.ALLOW]
UNAUTHORIZED = [reason for reason in REFUSALS if REASONS[reason].status == 401]
STATUSES = [400, 403, 404, 405, 409, 412, 413, 415, 422, 429, 431, 500, 503]
LOGIN = "https://app.example.com/login?next=abc"
RESPONDER = Responder()


def header(answer: Answer, name: str) -> str | None:
    values = [value for key, value in answer.headers if key == name]
    assert len(values) <= 1, f"{name} is doubled"
    return values[0] if values else None


def problem(answer: Answer) -> dict[str, object]:
    assert header(answer, "content-type") == "application/problem+json"
    body: dict[str, object] = json.loads(answer.body)
    return body


def of_http(status: int, *, browser: bool = False, **options: object) -> Answer:
    return RESPONDER.http_error(status, browser=browser, request_id="req-1", **options)  # type: ignore[arg-type]  # options of any kind


def check_page(answer: Answer, title: str, detail: str) -> None:
    assert header(answer, "content-type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in (header(answer, "content-security-policy") or "")
    page = html.unescape(answer.body.decode())
    assert f"<h1>{title}</h1>" in page
    assert f"<p>{detail}</p>" in page
    assert "req-1" in page


def check_common(answer: Answer) -> None:
    """What every answer of the handler has."""
    assert header(answer, "x-request-id") == "req-1"
    assert header(answer, "cache-control") == "no-store"
    assert header(answer, "x-content-type-options") == "nosniff" or answer.status in (302, 303)
    vary = {name.strip().lower() for name in (header(answer, "vary") or "").split(",")}
    assert {"accept", "authorization", "cookie", "origin", "sec-fetch-mode", "sec-fetch-dest", "x-api-key"} <= vary
    for name, value in answer.headers:
        assert name == name.lower()
        assert value.isascii()
        assert value.isprintable()


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_of_an_api_client_is_a_problem(reason: Reason) -> None:
    """RFC 9457, and ``message`` for clients of older handlers."""
    answer = RESPONDER.denial(Denial(reason, request_id="req-1"))
    info = REASONS[reason]
    assert answer.status == info.status
    assert problem(answer) == {
        "type": "about:blank",
        "title": info.title,
        "status": info.status,
        "detail": info.detail,
        "code": info.code,
        "request_id": "req-1",
        "message": info.detail,
    }
    assert info.detail
    check_common(answer)


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_of_a_browser_is_a_redirect_or_a_page(reason: Reason) -> None:
    """Sign-in helps against 401 and against nothing else."""
    answer = RESPONDER.denial(Denial(reason, browser=True, request_id="req-1", login_location=LOGIN))
    info = REASONS[reason]
    if info.status == 401:
        assert (answer.status, header(answer, "location"), answer.body) == (302, LOGIN, b"")
        assert header(answer, "www-authenticate") is None
    else:
        assert answer.status == info.status
        assert header(answer, "location") is None
        check_page(answer, info.title, info.detail)
    check_common(answer)


@pytest.mark.parametrize("reason", UNAUTHORIZED)
def test_a_refused_form_is_answered_with_see_other(reason: Reason) -> None:
    """303: the browser must get the login page, not post the form to it."""
    denial = Denial(reason, browser=True, form_post=True, request_id="req-1", login_location=LOGIN)
    assert (RESPONDER.denial(denial).status, header(RESPONDER.denial(denial), "location")) == (303, LOGIN)


@pytest.mark.parametrize("reason", REFUSALS)
def test_an_api_client_is_never_redirected(reason: Reason) -> None:
    """Even where somebody knows the login page."""
    answer = RESPONDER.denial(Denial(reason, request_id="req-1", login_location=LOGIN))
    assert (answer.status, header(answer, "location")) == (REASONS[reason].status, None)
    assert of_http(401, login_location=LOGIN).status == 401


@pytest.mark.parametrize("reason", UNAUTHORIZED)
def test_a_browser_without_a_login_page_sees_why(reason: Reason) -> None:
    """Never a redirect to nowhere."""
    answer = RESPONDER.denial(Denial(reason, browser=True, request_id="req-1"))
    assert (answer.status, header(answer, "location")) == (401, None)
    check_page(answer, REASONS[reason].title, REASONS[reason].detail)


@pytest.mark.parametrize("reason", REFUSALS)
@pytest.mark.parametrize("presented", [True, False])
@pytest.mark.parametrize("browser", [True, False])
def test_the_challenge_fits_the_refusal(
    reason: Reason,
    presented: bool,  # noqa: FBT001 - a column of the table
    browser: bool,  # noqa: FBT001 - likewise
) -> None:
    """RFC 6750: ``invalid_token`` only for a credential that was sent, ``insufficient_scope`` for a missing scope."""
    answer = RESPONDER.denial(Denial(reason, browser=browser, request_id="req-1", credential_presented=presented))
    expected: str | None = None
    if REASONS[reason].status == 401:
        expected = 'Bearer realm="gatekey"' + (', error="invalid_token"' if presented else "")
    elif reason is Reason.INSUFFICIENT_SCOPE:
        expected = 'Bearer realm="gatekey", error="insufficient_scope"'
    assert header(answer, "www-authenticate") == expected


def test_what_is_not_told_apart_outside_gets_the_same_answer() -> None:
    """To the byte: a wrong secret, an unknown key, a malformed one, another organization's."""
    reasons = [Reason.MALFORMED_KEY, Reason.UNKNOWN_KEY, Reason.BAD_SECRET, Reason.WRONG_ORGANIZATION]
    for browser in (True, False):
        answers = [
            RESPONDER.denial(Denial(reason, browser=browser, request_id="req-1", credential_presented=True))
            for reason in reasons
        ]
        assert len({(answer.status, tuple(answer.headers), answer.body) for answer in answers}) == 1


@pytest.mark.parametrize("reason", REFUSALS)
@pytest.mark.parametrize("browser", [True, False])
def test_retry_after_comes_with_429_and_503_alone(
    reason: Reason,
    browser: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """In whole seconds."""
    value = header(RESPONDER.denial(Denial(reason, browser=browser, request_id="req-1")), "retry-after")
    assert (value is not None and value.isdecimal()) == (REASONS[reason].status in (429, 503))


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_denial_names_the_policys_origin_for_scripts(reason: Reason) -> None:
    """So that an application in a browser can read why; without an origin of the policy nothing is said."""
    answer = RESPONDER.denial(Denial(reason, request_id="req-1", cors_origin="https://spa.example.com"))
    assert header(answer, "access-control-allow-origin") == "https://spa.example.com"
    assert "Retry-After" in (header(answer, "access-control-expose-headers") or "")
    silent = RESPONDER.denial(Denial(reason, request_id="req-1"))
    assert not [name for name, _ in silent.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("status", STATUSES)
def test_every_other_error_takes_the_same_two_shapes(status: int) -> None:
    """With words of our own, none of them twice."""
    said = HTTP_ERRORS[status]
    answer, page = of_http(status), of_http(status, browser=True)
    assert answer.status == page.status == status
    body = problem(answer)
    assert (body["status"], body["title"], body["code"]) == (status, said.title, said.code)
    assert body["detail"] == body["message"] == said.detail
    check_page(page, said.title, said.detail)
    for one in (answer, page):
        check_common(one)
        assert (header(one, "retry-after") is not None) == (status in (429, 503))
        assert header(one, "www-authenticate") is None
        assert header(one, "location") is None


def test_the_codes_of_errors_are_names_that_programs_can_rely_on() -> None:
    """Lower case with underscores, each for one status, and 503 as for a decision."""
    codes = [said.code for said in HTTP_ERRORS.values()]
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []
    assert HTTP_ERRORS[503].code == REASONS[Reason.STORE_UNAVAILABLE].code


@pytest.mark.parametrize("status", [402, 418, 451, 499, 507, 599])
def test_a_status_without_words_of_its_own_gets_general_ones(status: int) -> None:
    """A view may raise whatever it likes."""
    assert problem(of_http(status))["code"] == "error"
    assert of_http(status, browser=True).status == status


def test_our_own_words_replace_the_general_ones() -> None:
    """What a body lacks, for instance."""
    body = problem(of_http(422, detail="domain: must be a host name"))
    assert body["detail"] == body["message"] == "domain: must be a host name"
    assert body["code"] == "unprocessable_content"


def test_words_in_a_page_are_escaped() -> None:
    """Whoever wrote them."""
    page = of_http(422, browser=True, detail="<script>alert('x')</script>").body.decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_headers_that_belong_to_a_status_are_kept() -> None:
    """Allow with 405; a Retry-After that somebody knows better is not doubled."""
    assert header(of_http(405, extra=[("Allow", "GET, HEAD")]), "allow") == "GET, HEAD"
    assert header(of_http(429, extra=[("Retry-After", "120")]), "retry-after") == "120"


def test_a_views_own_401_is_answered_like_a_refusal() -> None:
    """With the challenge for an API client, with the login page for a browser."""
    assert header(of_http(401), "www-authenticate") == 'Bearer realm="gatekey"'
    assert "invalid_token" in (header(of_http(401, credential_presented=True), "www-authenticate") or "")
    redirect = of_http(401, browser=True, login_location=LOGIN)
    assert (redirect.status, header(redirect, "location")) == (302, LOGIN)
    assert of_http(401, browser=True, login_location=LOGIN, form_post=True).status == 303
    assert of_http(401, browser=True).status == 401


def test_no_error_page_or_problem_names_a_thing_of_the_inside() -> None:
    """No traceback, no store, no setting's value: the words are fixed, and here they are searched."""
    for reason in REFUSALS:
        for browser in (True, False):
            text = RESPONDER.denial(Denial(reason, browser=browser, request_id="req-1")).body.decode().lower()
            assert not re.search(r"traceback|\.py\b|redis|postgres|sqlite|memory://|exception", text)
    for status in HTTP_ERRORS:
        assert not re.search(r"traceback|\.py\b|redis|postgres|sqlite|exception", of_http(status).body.decode().lower())


def test_the_login_page_says_that_sign_in_is_not_set_up() -> None:
    """200 and a page, whoever asks."""
    answer = RESPONDER.login_page("req-1")
    assert answer.status == 200
    assert header(answer, "content-type") == "text/html; charset=utf-8"
    assert b"not set up" in answer.body
    check_common(answer)
