"""Every failed request to the Flask application ends in the shared handler: JSON for a program, a page for a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Response, abort, request
from werkzeug.exceptions import MethodNotAllowed, TooManyRequests, default_exceptions

from service import api_key_required
from service.web.answers import ApiError
from tests.support.app import running_app
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

API = {"Accept": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = {**BROWSER, "Content-Type": "application/x-www-form-urlencoded"}
KEY = {"x-api-key": "operator", "x-secret-token": SECRET}
SITE = f"https://{DOMAIN}"
STORE_ADDRESS = "redis://user:store-password-of-the-tests@10.0.0.9/0"


def with_views(app: Flask) -> Flask:
    """Views that fail in every way that a view can."""

    @app.get("/raises")
    def raises() -> str:
        raise RuntimeError(f"cannot reach {STORE_ADDRESS}")

    @app.get("/raises-async")
    async def raises_async() -> str:
        raise RuntimeError(f"cannot reach {STORE_ADDRESS}")

    @app.get("/abort/<int:code>")
    def aborts(code: int) -> str:
        abort(code, description=f"secret words about {STORE_ADDRESS}")

    @app.get("/own-response")
    def own_response() -> str:
        abort(Response("my own words", status=418, headers={"X-Own": "yes"}))

    @app.get("/own-headers/<name>")
    def own_headers(name: str) -> str:
        raise {"allow": MethodNotAllowed(["PATCH"]), "retry": TooManyRequests(retry_after=77)}[name]

    @app.get("/api-error")
    def api_error() -> str:
        raise ApiError(409, detail="The name is taken.")

    @app.post("/echo")
    def echo() -> bytes:
        return request.get_data()

    @app.route("/protected", methods=["GET", "HEAD", "POST", "PUT"])
    @api_key_required
    def protected() -> str:
        return "inside"

    @app.get("/for-people")
    @api_key_required(client="browser")
    def for_people() -> str:
        return "inside"

    @app.get("/for-programs")
    @api_key_required(client="api")
    async def for_programs() -> str:
        return "inside"

    return app


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    line = key_line("operator", organization_id="gatekey", domains=["@gatekey", DOMAIN], scopes=["gatekey:verify"])
    with running_app([line]) as app:
        yield with_views(app).test_client()


def check_problem(answer: TestResponse, status: int) -> dict[str, Any]:
    """The JSON shape, with all that belongs to it."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.get_json(force=True)
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "code", "request_id", "message"}
    assert (body["status"], body["message"]) == (status, body["detail"])
    assert body["request_id"] == answer.headers["X-Request-Id"]
    check_headers(answer)
    return body


def check_page(answer: TestResponse, status: int) -> str:
    """The page for people."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert f"Error {status}" in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    check_headers(answer)
    return answer.text


def check_headers(answer: TestResponse) -> None:
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Sec-Fetch-Mode" in answer.headers["Vary"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    doubled = [name for name in answer.headers.keys() if len(answer.headers.getlist(name)) > 1]  # noqa: SIM118 - no dictionary
    assert doubled == []
    assert not re.search(r"Traceback|RuntimeError|redis|store-password|werkzeug|\.py\b", answer.text)


def test_an_unknown_path_is_404_in_both_shapes(client: FlaskClient) -> None:
    """And the path is not repeated."""
    path = "/no/such/<script>path?x=<b>"
    assert check_problem(client.get(path, headers=API), 404)["code"] == "not_found"
    assert "script" not in check_page(client.get(path, headers=BROWSER), 404)


def test_a_wrong_method_is_405_and_names_the_right_ones(client: FlaskClient) -> None:
    """RFC 9110 15.5.6 demands the Allow header."""
    answer = client.post("/livez", headers=API)
    check_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    page = client.post("/livez", headers=FORM)
    check_page(page, 405)
    assert "GET" in page.headers["Allow"]


def test_a_method_that_nobody_knows_is_405(client: FlaskClient) -> None:
    """Not 500, and not the server's own page."""
    check_problem(client.open("/livez", method="BREW", headers=API), 405)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (415, {"Content-Type": "text/plain"}, b"{}"),
        (415, {}, b"{}"),
        (400, {"Content-Type": "application/json"}, b"{"),
        (400, {"Content-Type": "application/json"}, b""),
        (400, {"Content-Type": "application/json"}, b"\xff\x00"),
        (422, {"Content-Type": "application/json"}, b"[]"),
        (422, {"Content-Type": "application/json"}, b"{}"),
        (422, {"Content-Type": "application/json"}, b'{"api_key":"a","secret_token":"b","domain":"c","more":1}'),
    ],
)
def test_a_body_that_cannot_be_used_is_a_clear_4xx(
    client: FlaskClient, status: int, headers: dict[str, str], body: bytes
) -> None:
    """In words of our own that say what to change."""
    problem = check_problem(
        client.post("/v1/keys/verify", data=body, headers={**headers, **KEY}, base_url=SITE), status
    )
    assert len(problem["detail"]) > len("Bad request")


@pytest.mark.parametrize("headers", [API, BROWSER])
def test_a_body_above_the_limit_is_413(client: FlaskClient, headers: dict[str, str]) -> None:
    """Also for a view of the application's own."""
    body = b"x" * (1024 * 1024 + 1)
    answer = client.post("/echo", data=body, headers={"Content-Type": "text/plain", **headers})
    check_page(answer, 413) if headers is BROWSER else check_problem(answer, 413)
    assert client.post("/echo", data=body[:-1], headers=API).status_code == 200


@pytest.mark.parametrize("headers", [API, BROWSER])
def test_headers_above_the_limit_are_431(client: FlaskClient, headers: dict[str, str]) -> None:
    """Whatever the path; under any WSGI server."""
    answer = client.get("/livez", headers={**headers, "X-Big": "x" * 17_000})
    check_page(answer, 431) if headers is BROWSER else check_problem(answer, 431)
    assert client.get("/livez", headers={"X-Big": "x" * 15_000}).status_code == 200


@pytest.mark.parametrize("path", ["/raises", "/raises-async"])
def test_a_view_that_raises_is_500_without_a_word_about_why(client: FlaskClient, path: str) -> None:
    """No traceback, no store's address; the request id leads to the log line that has them."""
    assert check_problem(client.get(path, headers=API), 500)["code"] == "internal_server_error"
    check_page(client.get(path, headers=BROWSER), 500)


@pytest.mark.parametrize("code", sorted(set(default_exceptions) - {401}))
def test_every_http_exception_of_a_view_takes_the_two_shapes(client: FlaskClient, code: int) -> None:
    """Whichever status it has; the view's words about it may hold anything, so they stay inside."""
    assert "secret words" not in check_problem(client.get(f"/abort/{code}", headers=API), code)["detail"]
    assert "secret words" not in check_page(client.get(f"/abort/{code}", headers=BROWSER), code)


def test_a_views_own_401_is_answered_like_a_refusal(client: FlaskClient) -> None:
    """The challenge for a program, the login page for a person."""
    answer = client.get("/abort/401", headers=API)
    check_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gatekey"'
    redirect = client.get("/abort/401", headers=BROWSER)
    assert (redirect.status_code, urlsplit(redirect.headers["Location"]).path) == (302, "/login")


def test_a_view_that_aborts_with_a_response_of_its_own_is_left_alone(client: FlaskClient) -> None:
    """That is what it asked for."""
    answer = client.get("/own-response", headers=BROWSER)
    assert (answer.status_code, answer.text, answer.headers["X-Own"]) == (418, "my own words", "yes")
    assert answer.headers["X-Request-Id"]


def test_headers_that_belong_to_a_views_error_are_kept(client: FlaskClient) -> None:
    """Allow and Retry-After."""
    allow = client.get("/own-headers/allow", headers=API)
    check_problem(allow, 405)
    assert allow.headers["Allow"] == "PATCH"
    retry = client.get("/own-headers/retry", headers=API)
    check_problem(retry, 429)
    assert retry.headers["Retry-After"] == "77"


def test_gatekeys_own_words_about_an_error_are_shown(client: FlaskClient) -> None:
    """They are written for the caller."""
    assert check_problem(client.get("/api-error", headers=API), 409)["detail"] == "The name is taken."
    assert "The name is taken." in check_page(client.get("/api-error", headers=BROWSER), 409)


@pytest.mark.parametrize("path", ["/no/such/path", "/raises", "/protected"])
@pytest.mark.parametrize("headers", [API, BROWSER])
def test_head_gets_the_headers_of_get_and_no_body(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    """RFC 9110 9.3.2."""
    head, get = client.head(path, headers=headers), client.get(path, headers=headers)
    assert head.status_code == get.status_code >= 300
    assert head.data == b""
    for name in ("Content-Type", "WWW-Authenticate", "Cache-Control"):
        assert head.headers.get(name) == get.headers.get(name)


def test_a_callers_request_id_is_kept_and_an_unsafe_one_replaced(client: FlaskClient) -> None:
    """In the header and in the body."""
    kept = check_problem(client.get("/x", headers={**API, "X-Request-Id": "Abc-1._z"}), 404)
    assert kept["request_id"] == "Abc-1._z"
    replaced = check_problem(client.get("/x", headers={**API, "X-Request-Id": "<script>"}), 404)
    assert re.fullmatch(r"[0-9a-f]{32}", replaced["request_id"])


def test_a_browser_that_presents_a_credential_is_an_api_client(client: FlaskClient) -> None:
    """Also on an error that has nothing to do with it, and also with a broken credential; an unlisted scheme is none."""
    for credential in ({"x-api-key": "some-key"}, {"x-api-key": ""}, {"Authorization": "Bearer broken"}):
        check_problem(client.get("/no/such/path", headers={**BROWSER, **credential}), 404)
    check_page(client.get("/no/such/path", headers={**BROWSER, "Authorization": "Digest username=x"}), 404)


def test_a_refused_program_gets_the_challenge_and_no_redirect(client: FlaskClient) -> None:
    """With ``invalid_token`` once it has presented something."""
    nothing = client.get("/protected", headers=API)
    assert check_problem(nothing, 401)["code"] == "missing_credentials"
    assert nothing.headers["WWW-Authenticate"] == 'Bearer realm="gatekey"'
    wrong = client.get("/protected", headers={**API, "x-api-key": "nobody", "x-secret-token": "wrong-secret"})
    assert check_problem(wrong, 401)["code"] == "invalid_credentials"
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="gatekey", error="invalid_token"'
    assert "Location" not in wrong.headers


def destination_of(answer: TestResponse, own_origin: str, client: FlaskClient) -> str | None:
    """Where the redirect's signed ``next`` leads."""
    [value] = parse_qs(urlsplit(answer.headers["Location"]).query)["next"]
    found: str | None = client.application.extensions["gatekey"].next_urls.accept(value, own_origin=own_origin)
    return found


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/protected", "/protected"),
        ("/protected?a=b&c=%2Fd%20e", "/protected?a=b&c=%2Fd%20e"),
        ("/protected?next=//evil.example", "/protected?next=//evil.example"),
        ("/protected?a=" + "b" * 3000, "/"),
    ],
)
def test_a_refused_browser_is_sent_to_the_login_page_and_may_come_back(
    client: FlaskClient, path: str, expected: str
) -> None:
    """302 with a signed ``next`` for exactly the address it asked for, unless that is too long to be carried."""
    answer = client.get(path, headers=BROWSER, base_url=SITE)
    assert (answer.status_code, answer.data) == (302, b"")
    assert answer.headers["Location"].startswith("/login?next=")
    assert destination_of(answer, SITE, client) == SITE + expected
    assert "WWW-Authenticate" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


def test_bytes_of_the_address_that_no_url_may_hold_come_back_encoded(client: FlaskClient) -> None:
    """Old programs send them raw; the browser must land on the same address."""
    environ = {"QUERY_STRING": "q=caf\xc3\xa9 \\x", "RAW_URI": "/protected?q=caf\xc3\xa9"}
    answer = client.get("/protected", headers=BROWSER, base_url=SITE, environ_overrides=environ)
    assert destination_of(answer, SITE, client) == f"{SITE}/protected?q=caf%C3%A9%20%5Cx"


def test_a_refused_form_is_sent_to_the_login_page_and_lands_on_the_root(client: FlaskClient) -> None:
    """303; what it posted is lost, so nobody is sent back to where it went."""
    answer = client.post("/protected", data="a=b", headers=FORM, base_url=SITE)
    assert answer.status_code == 303
    assert destination_of(answer, SITE, client) == f"{SITE}/"


def test_a_host_that_makes_no_sense_is_a_redirect_and_a_next_that_is_dropped(client: FlaskClient) -> None:
    """Never a 500, whatever stands in the Host header."""
    for host in ("a, b", "evil.example@x", "[", "x" * 300, "a b", "é"):
        answer = client.get("/protected", headers={**BROWSER, "Host": host})
        assert answer.status_code in (302, 400)
        if answer.status_code == 302:
            assert destination_of(answer, SITE, client) is None


def test_a_route_may_say_who_its_callers_are(client: FlaskClient) -> None:
    """``client="browser"`` and ``client="api"`` come before every header."""
    assert client.get("/for-people", headers=API).status_code == 302
    check_problem(client.get("/for-programs", headers=BROWSER), 401)
    presented = {**API, "x-api-key": "nobody", "x-secret-token": "wrong-secret"}
    check_problem(client.get("/for-people", headers=presented), 401)


@pytest.mark.parametrize("unsure", ["api", "browser"])
def test_the_unsure_setting_reaches_every_answer(unsure: str) -> None:
    """A client that says nothing gets what the operator decided, on a refusal and on an error."""
    with running_app(environ={"GATEKEY_UNSURE_CLIENT": unsure}) as app:
        client = with_views(app).test_client()
        refused, lost = client.get("/protected"), client.get("/no/such/path")
    assert refused.status_code == (401 if unsure == "api" else 302)
    assert lost.headers["Content-Type"].startswith("application/" if unsure == "api" else "text/html")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"GATEKEY_LOGIN_URL": "/sign-in?theme=dark"}, "/sign-in?theme=dark&next="),
        ({"GATEKEY_LOGIN_URL": "https://id.example.com/in"}, "https://id.example.com/in?next="),
        ({"GATEKEY_PUBLIC_URL": "https://gate.example.com"}, "https://gate.example.com/login?next="),
        ({"GATEKEY_PUBLIC_URL": "https://gate.example.com:8443/"}, "https://gate.example.com:8443/login?next="),
        (
            {"GATEKEY_PUBLIC_URL": "https://gate.example.com", "GATEKEY_LOGIN_URL": "https://id.example.com/in"},
            "https://id.example.com/in?next=",
        ),
    ],
)
def test_the_login_page_is_where_the_settings_say(environ: dict[str, str], expected: str) -> None:
    """GATEKEY_LOGIN_URL (a path or absolute) and GATEKEY_PUBLIC_URL."""
    with running_app(environ=environ) as app:
        answer = with_views(app).test_client().get("/protected", headers=BROWSER)
    assert answer.headers["Location"].startswith(expected)


def test_the_forwarded_scheme_of_a_trusted_proxy_is_the_one_to_come_back_to(client: FlaskClient) -> None:
    """A browser that came by https is not sent back by http; a stranger's word does not count."""
    headers = {**BROWSER, "X-Forwarded-Proto": "https"}
    trusted = client.get("/protected", headers=headers, base_url=f"http://{DOMAIN}")
    assert destination_of(trusted, SITE, client) == f"{SITE}/protected"
    stranger = client.get(
        "/protected", headers=headers, base_url=f"http://{DOMAIN}", environ_overrides={"REMOTE_ADDR": "192.0.2.1"}
    )
    assert destination_of(stranger, f"http://{DOMAIN}", client) == f"http://{DOMAIN}/protected"
