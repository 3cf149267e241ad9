"""What no client should send: a clear 4xx in our shape, exactly one line in the log, never a 500."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.support import raw_http
from tests.support.cases import VERIFIER, VERIFIER_SECRET, five, pair
from tests.support.keys import DOMAIN

if TYPE_CHECKING:
    from tests.support.sides import FlaskSide, FrontSide, Side

OWN = (("Host", DOMAIN), ("X-Forwarded-Proto", "https"))
WHOAMI = "/v1/whoami"
FORWARD = "/auth/forward/default"
DOORS = (FORWARD, "/auth/nginx/default", "/auth/envoy/default")
BACK_END = (("Host", "gatekey.example"), *pair(VERIFIER, VERIFIER_SECRET))
GOOD_BODY: dict[str, Any] = {"api_key": "plain", "secret_token": "whatever-secret", "domain": DOMAIN}


def _check_refused(side: Side, answer: raw_http.RawResponse, status: int, reason: str = "") -> None:
    """Our shape, and one line: a decision's (``reason``), or that of a request that never became one."""
    assert answer.status == status
    body = answer.json()
    assert answer.header("content-type") == "application/problem+json"
    assert (body["status"], body["request_id"]) == (status, answer.header("x-request-id"))
    [line] = side.events()
    assert line["request_id"] == answer.header("x-request-id")
    if reason:
        assert (line["event"], line["reason"]) == ("auth.decision", reason)
    else:
        assert (line["event"], line["status"], line["level"]) == ("request_refused", status, "info")


@pytest.mark.parametrize(
    "host",
    [
        (),
        (("Host", ""),),
        (("Host", "a, b"),),
        (("Host", DOMAIN), ("Host", DOMAIN)),
        (("Host", DOMAIN), ("Host", "evil.example")),
        (("Host", f"{DOMAIN}, evil.example"),),
        (("Host", f"user@{DOMAIN}"),),
        (("Host", f"{DOMAIN}/path"),),
        (("Host", f"{DOMAIN}:0"),),
        (("Host", f"{DOMAIN}:port"),),
        (("Host", b"\xff\xfe"),),
        (("Host", "bücher.example".encode()),),
        (("Host", "999.999.999.999"),),
        (("Host", "[::1"),),
        (("Host", "$(id)"),),
        (("Host", "%61pi.example.com"),),
    ],
    ids=str,
)
def test_a_host_that_is_none_matches_no_key(side: Side, host: Any) -> None:
    """On our own paths the domain is the ``Host`` header; without a usable one no key is valid here."""
    answer = side.send("GET", WHOAMI, (*host, *pair()))
    _check_refused(side, answer, 401, "wrong_domain")
    assert answer.json()["code"] == "domain_not_allowed"


@pytest.mark.parametrize("host", ["a..b", "h" * 300, "a." * 150, "[" + "f" * 300 + "]", "x" * 64 + ".example"])
def test_an_impossible_host_is_refused_everywhere(side: Side, host: str) -> None:
    """Whoever reads it first says so, and at the doors it is the forwarded one that counts."""
    answer = side.send("GET", WHOAMI, (("Host", host), *pair()))
    assert answer.status in (400, 401)
    assert answer.json()["status"] == answer.status
    assert len(side.events()) == 1
    _check_refused(side, side.send("GET", FORWARD, (*OWN[:1], *five(host=host), *pair())), 403, "bad_context")


@pytest.mark.parametrize("path", [*DOORS, WHOAMI, "/v1/keys/verify", "/login", "/livez", "/nowhere"])
def test_over_16_kib_of_headers_are_431(side: Side, path: str) -> None:
    """Before anybody looks at them, in our shape; in one header, or in many."""
    one = (*OWN, *pair(), ("X-Long", "x" * 65_000))
    many = (*OWN, *pair(), *((f"X-Many-{number}", "x" * 1000) for number in range(17)))
    huge = (*OWN, *pair(), ("X-Long", "x" * 600_000))
    for lines in (one, many, huge):
        answer = side.send("GET", path, lines)
        _check_refused(side, answer, 431)
        assert answer.json()["code"] == "request_header_fields_too_large"


def test_just_under_16_kib_of_headers_are_fine(side: Side) -> None:
    """A long cookie is nobody's mistake."""
    assert side.send("GET", WHOAMI, (*OWN, *pair(), ("Cookie", "x" * 15_000))).status == 200


def test_a_browser_gets_a_page_for_what_is_no_decision(side: Side) -> None:
    """431, 404 and 405 take both shapes."""
    page = (("Accept", "text/html"),)
    for method, path, lines, status in (
        ("GET", FORWARD, (("X-Long", "x" * 20_000),), 431),
        ("GET", "/nowhere", (), 404),
        ("GET", "/auth/forward/default/", (), 404),
        ("HEAD", "/v1/keys/verify", (), 405),
    ):
        answer = side.send(method, path, (*OWN, *page, *lines))
        assert answer.status == status
        assert answer.header("content-type") == "text/html; charset=utf-8"
        [line] = side.events()
        assert (line["event"], line["status"], line["path"]) == ("request_refused", status, path)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", WHOAMI, 405, {"GET", "HEAD", "OPTIONS"}),
        ("BREW", WHOAMI, 405, {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/v1/keys/verify", 405, {"POST", "OPTIONS"}),
        ("POST", "/livez", 405, {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/v1", 404, None),
        ("GET", "/v1/whoami/", 404, None),
        ("GET", "//v1/whoami", 404, None),
        ("GET", "/v1//whoami", 404, None),
        ("GET", "/V1/whoami", 404, None),
        ("GET", "/v1/./whoami", 404, None),
        ("GET", "/%00", 404, None),
        ("GET", "/%0d%0aX: y", 404, None),
        ("GET", "/%ff%fe", 404, None),
        ("GET", "/" + "x" * 12_000, 404, None),
        ("GET", "/auth/%66orward/", 404, None),
    ],
)
def test_what_is_not_there_is_404_or_405(
    side: Side, method: str, path: str, status: int, allow: set[str] | None
) -> None:
    """With credentials or without them, never a redirect; the log cuts what is long and shows no control character."""
    answer = side.send(method, path.replace(" ", "%20"), (*OWN, *pair()))
    _check_refused(side, answer, status)
    assert (set(answer.header("allow").split(", ")) if answer.has("allow") else None) == allow


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b'{"api_key": "\xff"}', 400, "not JSON"),
        (b'{"api_key": "\\ud800"}', 400, "not JSON"),
        (b"\xef\xbb\xbf{}", 400, "not JSON"),
        (b"{} {}", 400, "not JSON"),
        (b"{'api_key': 1}", 400, "not JSON"),
        (b"NaN", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 422, "object"),
        (b"null", 422, "object"),
        (b'"text"', 422, "object"),
        (b"1e400", 400, "not JSON"),
        (b"{}", 422, "api_key"),
        ({**GOOD_BODY, "api_key": 5}, 422, "api_key"),
        ({**GOOD_BODY, "api_key": None}, 422, "api_key"),
        ({**GOOD_BODY, "api_key": "k" * 4097}, 422, "api_key"),
        ({**GOOD_BODY, "secret_token": ["s"]}, 422, "secret_token"),
        ({**GOOD_BODY, "domain": ""}, 422, "domain"),
        ({**GOOD_BODY, "domain": "a, b"}, 422, "domain"),
        ({**GOOD_BODY, "domain": "h" * 300}, 422, "domain"),
        ({**GOOD_BODY, "domain": "ftp://api.example.com"}, 422, "domain"),
        ({**GOOD_BODY, "domain": "https://user:password@api.example.com/"}, 422, "domain"),
        ({**GOOD_BODY, "domain": "api.example.com\x00"}, 422, "domain"),
        ({**GOOD_BODY, "domain": 7}, 422, "domain"),
        ({**GOOD_BODY, "scopes": "orders:read"}, 422, "scopes"),
        ({**GOOD_BODY, "scopes": [1]}, 422, "scopes"),
        ({**GOOD_BODY, "scopes": ["with space"]}, 422, "scopes"),
        ({**GOOD_BODY, "scopes": ["a"] * 33}, 422, "scopes"),
        ({**GOOD_BODY, "client_ip": "somewhere"}, 422, "client_ip"),
        ({**GOOD_BODY, "client_ip": 2130706433}, 422, "client_ip"),
        ({**GOOD_BODY, "origin": "o" * 1025}, 422, "origin"),
        ({**GOOD_BODY, "origin": {}}, 422, "origin"),
        ({**GOOD_BODY, "expires_at": "2026-02-30T25:61:00Z"}, 422, "expires_at"),
        ({**GOOD_BODY, "Api_Key": "plain"}, 422, "Api_Key"),
        ({**GOOD_BODY, "": 1}, 422, ""),
        ({**GOOD_BODY, "é" * 1000: 1}, 422, "(a name that is none)"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_used_names_the_field_and_never_the_value(
    side: Side, body: bytes | dict[str, Any], status: int, told: str
) -> None:
    """400 for what is not JSON, 422 for what is not the question; the back end's own decision is the one line."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = (*BACK_END, ("Content-Type", "application/json; charset=utf-8"), ("Content-Length", str(len(data))))
    answer = side.send("POST", "/v1/keys/verify", lines, data)
    _check_refused(side, answer, status, "ok")
    assert told in answer.json()["detail"]
    for value in ("whatever-secret", "orders:read", "somewhere", "2026-02-30", "password"):
        assert value not in answer.body.decode()


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"]
)
def test_another_media_type_is_415(side: Side, content_type: str | None) -> None:
    """Also JSON that says it is something else: what a form on a foreign page can send must not be a call."""
    data = orjson.dumps(GOOD_BODY)
    given = () if content_type is None else (("Content-Type", content_type),)
    answer = side.send("POST", "/v1/keys/verify", (*BACK_END, *given, ("Content-Length", str(len(data)))), data)
    _check_refused(side, answer, 415, "ok")


@pytest.mark.parametrize("path", ["/v1/keys/verify", WHOAMI, "/login", "/nowhere"])
def test_more_than_1_mib_is_413_before_it_is_read(side: Side, path: str) -> None:
    """By the announced length, and without asking who sends it."""
    answer = side.send("POST", path, (*BACK_END, ("Content-Length", str(1024 * 1024 + 1))))
    _check_refused(side, answer, 413)


@pytest.mark.parametrize(
    "lines",
    [
        (*pair("pl\x0bain"),),
        (*pair("plain", "a\x7fsecret-of-tests"),),
        (*pair(b"\xf0\x9f\x94\x91"),),
        (("x-api-key", "plain"), ("x-secret-token", "s" * 10_000)),
        (("authorization", "Basic " + "A" * 10_000),),
        (("authorization", b"Basic \xff\xff"),),
    ],
    ids=["vertical-tab", "delete", "emoji", "long-secret", "long-basic", "basic-bytes"],
)  # fmt: skip
def test_credentials_that_no_key_can_have_are_malformed_at_every_door(flask_side: FlaskSide, lines: Any) -> None:
    """Some of these a server's parser refuses itself; what reaches us is decided, once."""
    for target in (FORWARD, "/auth/envoy/default", WHOAMI):
        _check_refused(flask_side, flask_side.send("GET", target, (*OWN[:1], *five(), *lines)), 401, "malformed_key")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-Api-Key: a\0b\r\n\r\n",
        b"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-Api-Key: a\rb\r\n\r\n",
        b"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-Api\0-Key: a\r\n\r\n",
        b"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-Api-Key : a\r\n\r\n",
        b"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-Api-Key: a\r\n b\r\n\r\n",
        b"GET /v1/whoami HTTP/9.9\r\nHost: h\r\n\r\n",
        b"GET /v1/who ami HTTP/1.1\r\nHost: h\r\n\r\n",
        b"G@T /v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /v1/keys/verify HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/keys/verify HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /v1/keys/verify HTTP/1.1\r\nHost: h\r\nContent-Length: 0x2\r\n\r\n{}",
        b"POST /v1/keys/verify HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/whoami HTTP/1.1\r\nHost: h\r\n" + b"X: " + b"x" * 1_100_000 + b"\r\n\r\n",
    ],
)
def test_what_the_parser_refuses_is_a_bare_4xx_or_a_closed_connection(
    front_side: FrontSide, request_bytes: bytes
) -> None:
    """It never becomes a request, so it leaves no line, and the service goes on."""
    front_side.forget()
    answer = raw_http.exchange(front_side.front.port, request_bytes)
    assert answer.status == 0 or 400 <= answer.status < 500
    assert answer.status == 0 or answer.body == b""
    assert front_side.events() == []
    assert front_side.send("GET", WHOAMI, (*OWN, *pair())).status == 200


@pytest.mark.parametrize(
    "target", ["http://evil.example/v1/whoami", f"http://{DOMAIN}:8443/v1/whoami", "HTTP://evil.example/v1/whoami"]
)
def test_an_absolute_target_changes_nothing(front_side: FrontSide, target: str) -> None:
    """The domain is the ``Host`` header's, and the target's own host turns up nowhere."""
    front_side.forget()
    allowed = front_side.send("GET", target, (*OWN, *pair()))
    refused = front_side.send("GET", target, (("Host", "other.example.com"), *pair()))
    assert (allowed.status, refused.status) == (200, 401)
    assert [line["domain"] for line in front_side.events()] == [DOMAIN, "other.example.com"]
    for answer in (allowed, refused):
        assert "evil" not in f"{answer.headers}{answer.body!r}"


@pytest.mark.parametrize("target", ["*", "api.example.com:443", "?", "/?" + "q" * 10_000])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT"])
def test_a_strange_target_is_a_clear_4xx(front_side: FrontSide, method: str, target: str) -> None:
    """Asterisk form, authority form, nothing but a query."""
    answer = front_side.send(method, target, (*OWN, *pair()))
    assert 400 <= answer.status < 500


def test_headers_named_like_wsgi_variables_are_only_headers(side: Side) -> None:
    """``SCRIPT_NAME`` and its kin come from the server alone."""
    strange = [(name, "/v1/keys/verify") for name in ("Script-Name", "Path-Info", "Request-Method", "Wsgi.Url-Scheme")]
    strange += [("Remote-Addr", "198.51.100.7"), ("Raw-Uri", "/x"), ("Proxy", "http://evil.example")]
    answer = side.send("GET", WHOAMI, (*OWN, *pair(), *strange))
    assert (answer.status, answer.json()["organization_id"]) == (200, "acme")
    [line] = side.events()
    assert (line["path"], line["client_ip"]) == (WHOAMI, "127.0.0.1")


def test_headers_named_exactly_like_wsgi_variables_are_dropped(front_side: FrontSide) -> None:
    """A name with an underscore never gets past the bridge."""
    front_side.forget()
    strange = [
        (name, "/v1/keys/verify") for name in ("SCRIPT_NAME", "PATH_INFO", "HTTP_HOST", "REMOTE_ADDR", "REQUEST_METHOD")
    ]
    assert front_side.send("GET", WHOAMI, (*OWN, *pair(), *strange)).status == 200
    [line] = front_side.events()
    assert (line["path"], line["client_ip"], line["domain"]) == (WHOAMI, "127.0.0.1", DOMAIN)


def test_what_a_client_says_about_itself_is_cut_and_escaped_in_the_log(side: Side) -> None:
    """User agent, path and policy are a client's text; a line never breaks and never grows."""
    lines = (
        ("Host", DOMAIN),
        *five(uri="/" + "p" * 5000),
        ("User-Agent", "a" * 900),
    )
    side.send("GET", "/auth/forward/" + "%1b" * 50, lines)
    [line] = side.events()
    assert line["reason"] == "unknown_policy"
    assert len(line["policy"]) <= 256
    assert len(line["user_agent"]) <= 128
    assert all(character.isprintable() for character in line["policy"] + line["user_agent"])


@pytest.mark.parametrize(
    ("line", "status"),
    [(("Content-Length", str(2**21)), 413), (("X-Long", "x" * 20_000), 431)],
    ids=["body", "headers"],
)
def test_what_the_front_refuses_ends_the_connection(front_side: FrontSide, line: tuple[str, str], status: int) -> None:
    """The rest of the request is not read, so it must not be taken for the next one."""
    with raw_http.RawConnection(front_side.front.port) as connection:
        connection.send(raw_http.render("POST", "/v1/keys/verify", (*OWN, line)))
        answer = connection.receive()
        assert (answer.status, answer.header("connection")) == (status, "close")
        assert connection.is_closed()


def test_an_http_1_0_client_without_a_host_is_answered(front_side: FrontSide) -> None:
    """Health checks of old load balancers ask like that."""
    data = raw_http.render("GET", "/livez", version="HTTP/1.0")
    assert raw_http.exchange(front_side.front.port, data).status == 200
