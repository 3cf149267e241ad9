"""One table, every door, both ways of serving: the same decision everywhere, and the answer that each proxy can carry."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest
from flask import Blueprint
from werkzeug.routing import Rule

from service import api_key_required
from service.app import create_app
from tests.support import raw_http
from tests.support.case_doors import (
    PLAIN_POLICIES,
    PROXY_DOORS,
    decorator_lines,
    door_lines,
    door_target,
    verify_body,
    verify_lines,
    whoami_lines,
)
from tests.support.case_table import CASES
from tests.support.cases import CONTRACT, KEYS, import_lines, policies_toml
from tests.support.in_process import ask, logged_gatekey
from tests.support.serving import running_front

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from tests.support.cases import Case, Lines
    from tests.support.raw_http import RawResponse

    Send = Callable[[str, str, Lines, bytes], RawResponse]

IDENTITY = ("organization", "key-id", "scopes", "subject", "method")
FLAVORS = ("async", "decorated-async", "sync", "blueprint")


@dataclass
class Answers:
    """What came back, by case and door, and what was logged about it."""

    responses: dict[tuple[str, str], RawResponse] = field(default_factory=dict)
    decisions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def logged(self, case: Case, door: str) -> list[dict[str, Any]]:
        return self.decisions.get(_id(case, door), [])

    def keep_log(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self.decisions.setdefault(event.get("request_id", ""), []).append(event)


def _id(case: Case, door: str) -> str:
    return f"case-{CASES.index(case):03}-{door:_<8}"


def _body(case: Case) -> bytes:
    if not case.body_lines or case.body_lines[0][1] == "0":
        return b""
    return b"{}" if case.body_lines[0][0] == "content-length" else b"2\r\n{}\r\n0\r\n\r\n"


def _ask_everywhere(answers: Answers, send: Send) -> None:
    """Put every case to the proxy doors, to nginx's second address where it was denied, and to the JSON API."""
    for case in CASES:
        for door in PROXY_DOORS:
            lines = door_lines(case, _id(case, door))
            answers.responses[case.name, door] = send("GET", door_target(door, case), lines, _body(case))
        ticket = answers.responses[case.name, "nginx"].header("x-gatekey-denial")
        if ticket:
            denied = (("Host", "auth.internal.example"), ("X-Gatekey-Denial", ticket))
            answers.responses[case.name, "denied"] = send("GET", f"/auth/nginx/{case.policy}/denied", denied, b"")
        body = verify_body(case)
        if body is not None:
            lines = verify_lines(case, body, _id(case, "verify"))
            answers.responses[case.name, "verify"] = send("POST", "/v1/keys/verify", lines, body)
        whoami = whoami_lines(case, _id(case, "whoami"))
        if whoami is not None:
            answers.responses[case.name, "whoami"] = send("GET", "/v1/whoami", whoami, b"")


@pytest.fixture(scope="module")
def front_answers() -> Answers:
    answers = Answers()
    with running_front(import_lines(), policies=policies_toml()) as front:
        _ask_everywhere(answers, lambda *request: raw_http.request(front.port, *request))
        answers.keep_log(front.events())
    return answers


@pytest.fixture(scope="module")
def flask_answers() -> Answers:
    answers = Answers()
    with logged_gatekey(import_lines(), policies=policies_toml()) as logged:
        _ask_everywhere(answers, lambda *request: ask(logged.app, *request))
        for flavor in FLAVORS:
            apps = {policy: _decorated(create_app(gatekey=logged.gatekey), flavor, policy) for policy in PLAIN_POLICIES}
            for case in CASES:
                lines = decorator_lines(case, _id(case, flavor))
                if lines is not None:
                    answers.responses[case.name, flavor] = ask(apps[case.policy], case.method, case.uri, lines)
        answers.keep_log(logged.events())
    return answers


def _decorated(app: Flask, flavor: str, policy: str) -> Flask:
    """The application with a view at every address and for every method that demands the policy's scopes."""
    scopes = PLAIN_POLICIES[policy]
    app.url_map.add(Rule("/<anything:rest>", endpoint="views.everything" if flavor == "blueprint" else "everything"))
    if "async" in flavor:

        @api_key_required(scopes=scopes)
        async def view_async(rest: str) -> str:
            return f"passed {len(rest) > 0}"

        @wraps(view_async)
        async def decorated(rest: str) -> Any:
            return await view_async(rest)

        app.view_functions["everything"] = view_async if flavor == "async" else decorated
        return app

    def view(rest: str) -> str:
        return f"passed {len(rest) > 0}"

    if flavor == "sync":
        app.view_functions["everything"] = api_key_required(scopes=scopes)(view)
        return app
    views = api_key_required(Blueprint("views", __name__), scopes=scopes)
    app.register_blueprint(views)
    app.view_functions["views.everything"] = view
    return app


@pytest.fixture(params=["flask", "front"])
def answers(request: pytest.FixtureRequest) -> Answers:
    """What both ways of serving answered: the Flask views, and the RSGI front in a real process."""
    found: Answers = request.getfixturevalue(f"{request.param}_answers")
    return found


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))


def test_the_table_is_large_and_names_each_case_once() -> None:
    """A table that shrinks, or a case that hides another, must not go unnoticed."""
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
    asked_alike = {dataclasses.replace(case, name="", reason="ok") for case in CASES}
    assert len(asked_alike) == len(CASES)


@each_case
def test_forward_and_envoy_answer_with_the_client_s_answer(answers: Answers, case: Case) -> None:
    """200, empty, with all identity headers; or the refusal as JSON, page or redirect, as the shared handler makes it."""
    for door in ("forward", "envoy"):
        response = answers.responses[case.name, door]
        _check_decision(answers, case, door)
        _check_common(response, _id(case, door))
        assert (response.header("connection") == "close") == ("bad_request" in (case.reason, case.shadowed))
        if case.outcome == "allow":
            _check_allow(response, case)
            continue
        _check_refusal(response, case)
        assert not response.has("x-gatekey-denial")
        if case.kind == "redirect":
            assert response.header("location").startswith(f"{case.scheme}://{case.host}/login?next=")


@each_case
def test_nginx_gets_what_auth_request_understands_and_a_ticket(answers: Answers, case: Case) -> None:
    """200, 401 or 403 alone, without a body, a challenge or a redirect; the ticket becomes the forward door's answer."""
    response = answers.responses[case.name, "nginx"]
    _check_decision(answers, case, "nginx")
    _check_common(response, _id(case, "nginx"))
    if case.outcome == "allow":
        _check_allow(response, case)
        assert (case.name, "denied") not in answers.responses
        return
    assert response.status == (401 if case.status == 401 else 403)
    assert response.body == b""
    assert not response.has("www-authenticate")
    assert not response.has("location")
    denied = answers.responses[case.name, "denied"]
    assert denied.header("x-request-id") == _id(case, "nginx")
    assert _plain(denied, _id(case, "nginx")) == _plain(answers.responses[case.name, "forward"], _id(case, "forward"))


@pytest.mark.parametrize("case", [case for case in CASES if verify_body(case) is not None], ids=lambda case: case.name)
def test_verify_decides_the_same_about_a_pair_in_json(answers: Answers, case: Case) -> None:
    """Two lines, the caller's and the key's; the body says what the doors would have decided."""
    response = answers.responses[case.name, "verify"]
    assert response.status == 200
    caller, verified = answers.logged(case, "verify")
    assert (caller["door"], caller["reason"]) == ("api", "ok")
    assert (verified["door"], verified["outcome"], verified["reason"]) == ("verify", case.outcome, case.reason)
    body = response.json()
    if case.reason != "ok":
        assert body == {"valid": False, "code": case.code}
        return
    api_key = dict(case.credentials)["x-api-key"]
    fields = KEYS.get(str(api_key), {})
    assert set(body) == {"valid", "organization_id", "key_id", "scopes", "expires_at"}
    assert (body["valid"], body["organization_id"]) == (True, fields.get("organization_id", "acme"))
    assert (body["scopes"], body["expires_at"]) == (fields.get("scopes", []), fields.get("expires_at"))
    assert body["key_id"] == verified["key_id"]


@pytest.mark.parametrize("case", [case for case in CASES if whoami_lines(case, "")], ids=lambda case: case.name)
def test_a_protected_view_of_ours_decides_the_same(answers: Answers, case: Case) -> None:
    """``/v1/whoami`` is behind the decorator, through the bridge as well as under WSGI."""
    response = answers.responses[case.name, "whoami"]
    [line] = answers.logged(case, "whoami")
    assert (line["door"], line["reason"], line["status"]) == ("api", case.reason, case.status)
    if case.outcome == "allow":
        assert response.status == 200
        assert response.json()["key_id"] == line["key_id"]
    else:
        _check_refusal(response, case)


@pytest.mark.parametrize("case", [case for case in CASES if decorator_lines(case, "")], ids=lambda case: case.name)
def test_the_decorator_decides_the_same(flask_answers: Answers, case: Case) -> None:
    """An async view, also below somebody else's decorator, a sync view and a blueprint decide like the doors."""
    for flavor in FLAVORS:
        response = flask_answers.responses[case.name, flavor]
        [line] = flask_answers.logged(case, flavor)
        assert (line["door"], line["outcome"], line["reason"]) == ("app", case.outcome, case.reason)
        assert line["status"] == case.status
        if case.outcome == "allow":
            assert (response.status, response.body) == (200, b"passed True")
        else:
            _check_refusal(response, case)


def _check_decision(answers: Answers, case: Case, door: str) -> None:
    """One line in the log for the question, with the case's outcome and reason and the status that was answered."""
    [line] = answers.logged(case, door)
    assert (line["event"], line["door"], line["policy"]) == ("auth.decision", door, case.policy)
    assert (line["outcome"], line["reason"], line.get("shadow_reason", "")) == (
        case.outcome,
        case.reason,
        case.shadowed,
    )
    assert line["status"] == answers.responses[case.name, door].status


def _check_common(response: RawResponse, request_id: str) -> None:
    assert response.header("x-request-id") == request_id
    assert response.header("cache-control") == "no-store"
    assert response.has("vary")


def _check_allow(response: RawResponse, case: Case) -> None:
    assert (response.status, response.body) == (200, b"")
    identity = {name: response.header(f"x-gatekey-{name}") for name in IDENTITY}
    assert all(response.has(f"x-gatekey-{name}") for name in IDENTITY)
    if case.reason != "ok":
        assert set(identity.values()) == {""}
        return
    assert (identity["subject"], identity["method"]) == ("", "api-key")
    assert identity["organization"] in ("acme", "globex")
    assert identity["key-id"].startswith("key_")


def _check_refusal(response: RawResponse, case: Case) -> None:
    if case.kind == "redirect":
        assert response.status == (303 if case.method == "POST" else 302)
        assert (response.body, response.has("www-authenticate")) == (b"", False)
        return
    assert response.status == case.status
    if case.kind == "page":
        assert response.header("content-type").startswith("text/html")
        return
    body = response.json()
    assert response.header("content-type") == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id", "message"}
    assert (body["status"], body["code"], body["message"]) == (case.status, case.code, body["detail"])
    assert body["request_id"] == response.header("x-request-id")
    challenge = response.header("www-authenticate")
    presented = bool(case.credentials) and case.code != "missing_credentials"
    if case.status == 401 and presented:
        assert challenge == 'Bearer realm="gatekey", error="invalid_token"'
    elif case.status == 401:
        assert challenge.startswith('Bearer realm="gatekey"')
    elif case.reason == "insufficient_scope":
        assert challenge == 'Bearer realm="gatekey", error="insufficient_scope"'
    else:
        assert challenge == ""
    listed = case.policy == "cors" and ("origin", "https://app.example.com") in case.extra
    assert (response.header("access-control-allow-origin") == "https://app.example.com") == listed


def _plain(response: RawResponse, request_id: str) -> tuple[int, list[tuple[str, str]], str]:
    """What two answers to the same question must have in common: all but identifiers, signatures and the connection."""
    own = ("date", "server", "connection", "x-request-id")
    headers = sorted((name, _unsigned(value)) for name, value in response.headers if name not in own)
    return response.status, headers, response.body.decode().replace(request_id, "")


def _unsigned(value: str) -> str:
    return re.sub(r"(next=[\w%.-]+?)\.[\w-]+\.[\w-]+$", r"\1", value)


def test_every_reason_of_the_contract_is_in_the_log_or_named_as_to_come() -> None:
    """What the table cannot cause is caused by tests of its own, or needs parts that this version does not have."""
    in_table = {case.reason for case in CASES} | {case.shadowed for case in CASES}
    with_a_broken_store = {"store_unavailable", "store_corrupt", "overloaded", "internal"}
    from_elsewhere = {"untrusted_peer"}
    to_come = {"csrf", "rate_limited", "quota_exceeded", "throttled"}
    assert CONTRACT.keys() == (in_table - {""}) | with_a_broken_store | from_elsewhere | to_come


def test_no_line_of_the_log_belongs_to_the_rendering_of_a_ticket(answers: Answers) -> None:
    """``/denied`` decides nothing, so each request that was asked has exactly the lines that the tests above look at."""
    asked = {_id(case, door) for case in CASES for door in (*PROXY_DOORS, "verify", "whoami", *FLAVORS)}
    others = {name: events for name, events in answers.decisions.items() if name not in asked}
    assert not [events for name, events in others.items() if name], json.dumps(others)[:500]
