"""Contract 3, line by line: what a proxy door takes, what it answers, and what it never does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import raw_http
from tests.support.cases import five, pair
from tests.support.in_process import ask, logged_gatekey
from tests.support.servers import key_line

if TYPE_CHECKING:
    from tests.support.raw_http import RawResponse
    from tests.support.sides import FlaskSide, FrontSide, Side

HOST = (("Host", "auth.internal.example"),)
ALLOWED = (*HOST, *five(), *pair())
DENIED = (*HOST, *five())
NAVIGATION = (("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
DOORS = ("/auth/forward/default", "/auth/nginx/default", "/auth/envoy/default")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW", "get"]
)
def test_a_door_takes_every_method(side: Side, door: str, method: str) -> None:
    """The proxy's own method means nothing; the client's is in ``X-Forwarded-Method``."""
    assert side.send(method, door, ALLOWED).status == 200
    assert side.send(method, door, DENIED).status == 401
    assert [event["reason"] for event in side.events()] == ["ok", "missing_credentials"]


@pytest.mark.parametrize(
    "path",
    [
        "/auth/forward/default/",
        "/auth/forward//default",
        "/auth//forward/default",
        "//auth/forward/default",
        "/Auth/forward/default",
        "/auth/Forward/default",
        "/auth/forward",
        "/auth/forward/",
        "/auth/nginx/default/",
        "/auth/nginx/default/Denied",
        "/auth/nginx/default/denied/",
        "/auth/nginx//denied",
        "/auth/envoy",
        "/auth/envoy/",
        "/auth/traefik/default",
        "/auth/",
        "/auth",
        "/x/../auth/forward/default",
    ],
)
def test_a_door_matches_its_path_exactly_and_never_redirects_on_it(side: Side, path: str) -> None:
    """Anything but the exact path is nothing at all: a 404 in our shape, and one line that is no decision."""
    answer = side.send("GET", path, ALLOWED)
    assert (answer.status, answer.has("location")) == (404, False)
    assert answer.json()["code"] == "not_found"
    [line] = side.events()
    assert (line["event"], line["status"]) == ("request_refused", 404)


@pytest.mark.parametrize(
    "tail",
    ["", "/", "/orders", "/..", "/../../v1/whoami", "//", "//x//", "/%2f%2e%2e/", "/%0a%0d", "/%00", "/%ff", "/denied"],
)
def test_the_path_that_envoy_appends_is_opaque(side: Side, tail: str) -> None:
    """The policy is all that counts; the client's address comes in ``X-Forwarded-Uri``."""
    answer = side.send("GET", f"/auth/envoy/default{tail}", ALLOWED)
    assert (answer.status, answer.body) == (200, b"")
    assert side.send("GET", f"/auth/envoy/default{tail}", DENIED).status == 401
    assert [line["path"] for line in side.events()] == ["/orders", "/orders"]


@pytest.mark.parametrize("query", ["?policy=trial", "?scopes=", "?x-api-key=plain&x-secret-token=anything", "?/denied"])
def test_nothing_comes_from_the_query(side: Side, query: str) -> None:
    """Neither a policy nor credentials: a proxy may append its client's query."""
    for door in DOORS:
        assert side.send("GET", door + query, DENIED).status == 401
    assert {line["policy"] for line in side.events()} == {"default"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a", True),
        ("A-Z_0.9-abc", True),
        ("r" * 128, True),
        ("r" * 129, False),
        ("", False),
        ("with space", False),
        ("a,b", False),
        ("a/b", False),
        ("é".encode(), False),
    ],
)
def test_the_caller_s_request_id_is_kept_only_in_its_safe_form(side: Side, value: str | bytes, kept: bool) -> None:  # noqa: FBT001 - a column of the table
    """Everywhere: on an allow, on a refusal, on nginx's bare answers, and on what is no door."""
    for target, lines in (
        (DOORS[0], ALLOWED),
        (DOORS[0], DENIED),
        (DOORS[1], DENIED),
        ("/nowhere", HOST),
        ("/livez", HOST),
    ):
        answer = side.send("GET", target, (*lines, ("X-Request-Id", value)))
        request_id = answer.header("x-request-id")
        assert (request_id == value) == kept
        assert request_id
    assert all(line["request_id"] for line in side.events())


def test_two_request_ids_are_none(side: Side) -> None:
    """Nobody could say which of two is the caller's."""
    lines = (*ALLOWED, ("X-Request-Id", "one"), ("X-Request-Id", "two"))
    assert side.send("GET", DOORS[0], lines).header("x-request-id") not in ("one", "two", "one,two")


@pytest.mark.parametrize("door", DOORS)
def test_an_allow_overwrites_all_that_a_client_forged(side: Side, door: str) -> None:
    """All five identity headers, once each, also where a value is empty; nothing of the client's own comes back."""
    forged = tuple(
        (f"X-Gatekey-{name}", "forged") for name in ("Organization", "Key-Id", "Scopes", "Subject", "Method")
    )
    answer = side.send("GET", door, (*ALLOWED, *forged))
    identity = [(name, value) for name, value in answer.headers if name.startswith("x-gatekey-")]
    assert sorted(name for name, _ in identity) == [
        "x-gatekey-key-id",
        "x-gatekey-method",
        "x-gatekey-organization",
        "x-gatekey-scopes",
        "x-gatekey-subject",
    ]
    assert "forged" not in dict(identity).values()
    assert dict(identity)["x-gatekey-organization"] == "acme"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "lines", [(("Content-Length", "5"),), (("Transfer-Encoding", "chunked"),)], ids=["length", "chunked"]
)
@pytest.mark.parametrize("path", [*DOORS, "/auth/nginx/default/denied"])
def test_a_body_ends_the_connection(front_side: FrontSide, method: str, lines: Any, path: str) -> None:
    """Nobody reads it, so whatever stands in it must not be taken for the next request."""
    front_side.forget()
    with raw_http.RawConnection(front_side.front.port) as connection:
        connection.send(raw_http.render(method, path, (*ALLOWED, *lines), b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"))
        answer = connection.receive(head=method == "HEAD")
        assert answer.status == {"/auth/nginx/default": 403, "/auth/nginx/default/denied": 503}.get(path, 400)
        assert answer.header("connection") == "close"
        assert connection.is_closed()
    assert [line["reason"] for line in front_side.events()] == ([] if path.endswith("/denied") else ["bad_request"])


def test_a_connection_without_a_body_stays_open(front_side: FrontSide) -> None:
    """A proxy asks thousands of questions over one connection, refused ones too."""
    with raw_http.RawConnection(front_side.front.port) as connection:
        for lines, status in (
            (ALLOWED, 200),
            (DENIED, 401),
            ((*ALLOWED, ("Content-Length", "0")), 200),
            (ALLOWED, 200),
        ):
            connection.send(raw_http.render("GET", DOORS[0], lines))
            assert connection.receive().status == status


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "unknown", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("door", DOORS)
def test_only_a_trusted_peer_may_ask(flask_side: FlaskSide, door: str, peer: str) -> None:
    """Whoever else reaches a door could describe any request; what it says about the client counts for nothing."""
    answer = ask(flask_side.logged.app, "GET", door, ALLOWED, peer=peer)
    assert answer.status == 403
    [line] = flask_side.events()
    assert (line["reason"], line["client_ip"], line["domain"]) == ("untrusted_peer", peer, "")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_loopback_and_a_unix_socket_are_trusted(flask_side: FlaskSide, peer: str) -> None:
    """The default: whoever may open the socket is decided by its file's permissions."""
    assert ask(flask_side.logged.app, "GET", DOORS[0], ALLOWED, peer=peer).status == 200


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.1.2.3, 10.9.9.9"], "192.0.2.1"),
        (["203.0.113.9", "192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        (["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        (["spoofed, 192.0.2.1"], "192.0.2.1"),
        (["[2001:db8::1]:4711, 10.0.0.1"], "2001:db8::1"),
        (["2001:DB8:0::1"], "2001:db8::1"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1:80"], "192.0.2.1"),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_not_trusted(hops: list[str], client: str) -> None:
    """What stands to the left of it was written by the client itself."""
    with logged_gatekey([key_line("plain")], environ={"GATEKEY_TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"}) as logged:
        lines = (*HOST, *five()[:4], *(("X-Forwarded-For", hop) for hop in hops), *pair())
        assert ask(logged.app, "GET", DOORS[0], lines).status == 200
        assert [line["client_ip"] for line in logged.decisions()] == [client]


def test_elsewhere_a_stranger_s_forwarded_headers_count_for_nothing(flask_side: FlaskSide) -> None:
    """``/v1/whoami`` asked directly: the peer is the client, and the scheme is the connection's."""
    lines = (("Host", "api.example.com"), *five(client="192.0.2.77"), *pair("https-origin"))
    assert ask(flask_side.logged.app, "GET", "/v1/whoami", lines, peer="198.51.100.1").status == 401
    assert ask(flask_side.logged.app, "GET", "/v1/whoami", lines, peer="127.0.0.1").status == 200
    stranger, proxied = flask_side.events()
    assert (stranger["client_ip"], stranger["reason"]) == ("198.51.100.1", "wrong_domain")
    assert (proxied["client_ip"], proxied["reason"]) == ("192.0.2.77", "ok")


@pytest.mark.parametrize("alias", ["X_Api_Key", "x_api_key", "X-Api_Key"])
def test_a_name_with_an_underscore_is_never_the_real_header(front_side: FrontSide, alias: str) -> None:
    """Neither alone nor beside the real one, at the doors and behind the bridge."""
    key, secret = pair()
    for target, status in ((DOORS[0], 401), ("/v1/whoami", 401)):
        lines = (("Host", "api.example.com"), *five(proto="http"), (alias, "plain"), secret)
        assert front_side.send("GET", target, lines).status == status
        assert front_side.send("GET", target, (*lines, ("X-Api-Key", "plain"))).status == 200
        assert front_side.send("GET", target, (*lines[:-2], (alias, "nobody"), key, secret)).status == 200


def test_a_forwarded_header_with_underscores_is_never_the_real_one(front_side: FrontSide) -> None:
    """A client's ``X_Forwarded_Host`` must not say which domain it calls."""
    aliases = tuple((name.replace("-", "_"), value) for name, value in five())
    assert front_side.send("GET", DOORS[0], (*HOST, *aliases, *pair())).status == 403
    foreign = five(host="other.example.com")
    assert (
        front_side.send("GET", DOORS[0], (*HOST, *foreign, ("X_Forwarded_Host", "api.example.com"), *pair())).status
        == 401
    )


@pytest.mark.parametrize("door", ["forward", "envoy", "nginx"])
@pytest.mark.parametrize(
    ("environ", "login"),
    [
        ({}, "https://api.example.com/login?next="),
        ({"GATEKEY_PUBLIC_URL": "https://gatekey.example.com/"}, "https://gatekey.example.com/login?next="),
        ({"GATEKEY_LOGIN_URL": "/sign-in?from=api"}, "https://api.example.com/sign-in?from=api&next="),
        ({"GATEKEY_LOGIN_URL": "https://id.example.com/login"}, "https://id.example.com/login?next="),
    ],
)
def test_a_browser_is_sent_to_an_absolute_login_address(environ: dict[str, str], login: str, door: str) -> None:
    """On Gatekey's public address, or on the application's own host, which shipped configurations route to Gatekey."""
    with logged_gatekey(environ=environ) as logged:
        answer = _final(logged.app, door, (*HOST, *five(), *NAVIGATION))
        assert (answer.status, answer.body) == (302, b"")
        assert answer.header("location").startswith(login)
        value = answer.header("location").removeprefix(login)
        accepted = logged.gatekey.next_urls.accept(value, own_origin="https://api.example.com")
        assert accepted == "https://api.example.com/orders"


def _final(app: Any, door: str, lines: Any) -> RawResponse:
    """What the client behind the proxy gets in the end."""
    answer = ask(app, "GET", f"/auth/{door}/default", lines)
    if door != "nginx":
        return answer
    return ask(app, "GET", "/auth/nginx/default/denied", [("X-Gatekey-Denial", answer.header("x-gatekey-denial"))])


@pytest.mark.parametrize("unsure", ["api", "browser"])
def test_a_client_that_says_nothing_is_what_the_setting_says(unsure: str) -> None:
    """``GATEKEY_UNSURE_CLIENT``."""
    with logged_gatekey(environ={"GATEKEY_UNSURE_CLIENT": unsure}) as logged:
        assert ask(logged.app, "GET", DOORS[0], DENIED).status == (302 if unsure == "browser" else 401)


@pytest.mark.parametrize("role", ["all", "doors", "app"])
def test_a_role_serves_only_its_paths(role: str) -> None:
    """Pages never slow the doors, and the doors stay off the internet; health is everywhere."""
    with logged_gatekey([key_line("plain")], environ={"GATEKEY_ROLE": role}) as logged:
        statuses = [ask(logged.app, "GET", path, ALLOWED).status for path in (DOORS[0], "/login", "/livez", "/readyz")]
        assert statuses == [404 if role == "app" else 200, 404 if role == "doors" else 200, 200, 200]


def test_shadow_mode_of_the_installation_allows_at_the_doors_and_not_at_the_api() -> None:
    """A running API goes on while the log shows what would be refused; Gatekey's own paths stay closed."""
    with logged_gatekey(environ={"GATEKEY_MODE": "shadow"}) as logged:
        for door in DOORS:
            answer = ask(logged.app, "GET", door, DENIED)
            assert (answer.status, answer.header("x-gatekey-organization"), answer.has("x-gatekey-key-id")) == (
                200,
                "",
                True,
            )
        assert ask(logged.app, "GET", "/v1/whoami", HOST).status == 401
        lines = logged.decisions()
        assert [line["reason"] for line in lines] == ["shadow"] * 3 + ["missing_credentials"]
        assert {line.get("shadow_reason") for line in lines} == {"missing_credentials", None}
        assert {line.get("mode") for line in lines} == {"shadow", None}
