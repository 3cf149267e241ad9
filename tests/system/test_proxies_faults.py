"""What each proxy makes of Gatekey's answers, and of none: nothing but an allow lets a request through."""

from __future__ import annotations

import socket
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from service.app import create_app
from service.auth.decision import Decision
from service.auth.reasons import REASONS, Outcome, Reason
from tests.support.app import running_gatekey
from tests.support.keys import SECRET
from tests.support.proxies import HOST, PROXIES, Reply, find_program, need_proxy, running_proxy, send
from tests.support.proxy_facts import FACTS
from tests.support.servers import free_port
from tests.support.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.auth.decision import AccessRequest

REFUSALS = [reason for reason, info in REASONS.items() if info.outcome is not Outcome.ALLOW]
PAGE = (("accept", "text/html"),)
FORGED = tuple((f"X-Gatekey-{name}", "forged") for name in ("Organization", "Key-Id", "Scopes", "Subject", "Method"))

WEBSOCKET = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
)


class Decides:
    """Stands where the decision is made, so that every reason can be had: doors, answers and tickets are the real ones."""

    reason = Reason.MISSING_CREDENTIALS

    def decide_cached(self, _request: AccessRequest) -> Decision:
        return Decision(self.reason)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the base class's names
        """Print nothing."""


@pytest.fixture(params=PROXIES)
def name(request: pytest.FixtureRequest) -> str:
    """Each proxy that is installed."""
    proxy: str = request.param
    need_proxy(proxy, require_all=request.getfixturevalue("require_all"))
    return proxy


@contextmanager
def deciding_gatekey() -> Iterator[tuple[Decides, int]]:
    """A Gatekey whose decisions the test chooses, and its port."""
    decides = Decides()
    with running_gatekey(environ={"GATEKEY_LOG_SUMMARIZE": "off"}) as gatekey, ThreadPoolExecutor(1) as pool:
        gatekey.doors.authenticator = decides  # type: ignore[assignment]  # has the one method that doors call
        server = make_server("127.0.0.1", 0, create_app(gatekey=gatekey), threaded=True, request_handler=_Quiet)
        serving = pool.submit(server.serve_forever, poll_interval=0.02)
        try:
            yield decides, server.port
        finally:
            server.shutdown()
            serving.result()
            server.server_close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One proxy before the Gatekey of a test."""

    name: str
    base: str
    upstream: Upstream


@contextmanager
def sites(gatekey_port: int) -> Iterator[Callable[[str], Site]]:
    """Any proxy by its name, started at first use, all before one application."""
    running: dict[str, Site] = {}
    with ExitStack() as stack:
        application = stack.enter_context(upstream())

        def site(name: str) -> Site:
            if name not in running:
                proxy = stack.enter_context(running_proxy(name, gatekey_port=gatekey_port, app_port=application.port))
                running[name] = Site(name=name, base=proxy.base, upstream=application)
            application.requests.clear()
            return running[name]

        yield site


@pytest.fixture(scope="module")
def deciding() -> Iterator[tuple[Decides, Callable[[str], Site]]]:
    with deciding_gatekey() as (decides, port), sites(port) as site:
        yield decides, site


@pytest.fixture(scope="module")
def canned() -> Iterator[tuple[Upstream, Callable[[str], Site]]]:
    """Something that is not Gatekey where Gatekey should be; it answers whatever a test tells it to."""
    with upstream() as other, sites(other.port) as site:
        yield other, site


@pytest.fixture(scope="module", autouse=True)
def silence() -> Iterator[dict[str, Future[tuple[Reply, int]]]]:
    """The answers of all proxies before a Gatekey that never answers, asked for at once: Traefik alone waits for 30 s."""

    def ask(name: str, port: int) -> tuple[Reply, int]:
        with upstream() as application, running_proxy(name, gatekey_port=port, app_port=application.port) as proxy:
            reply = send(proxy.base, "/v1/orders", headers=(("x-api-key", "key-one"), ("x-secret-token", SECRET)))
            return reply, len(application.requests)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener, ThreadPoolExecutor(len(PROXIES)) as pool:
        port = listener.getsockname()[1]
        yield {name: pool.submit(ask, name, port) for name in PROXIES if find_program(name)}


@pytest.mark.parametrize("reason", REFUSALS)
def test_an_api_client_gets_every_refusal_whole(
    deciding: tuple[Decides, Callable[[str], Site]], name: str, reason: Reason
) -> None:
    """Status, problem, request id and Retry-After of each reason reach the client; one proxy rewords a 503."""
    decides, find = deciding
    site, info = find(name), REASONS[reason]
    decides.reason = reason
    reply = send(site.base, "/v1/orders", headers=(("X-Request-Id", "asked-1"),))
    assert site.upstream.requests == []
    assert reply.status == info.status
    assert reply.header("content-type") == "application/problem+json"
    assert reply.values("x-request-id") == ["asked-1"]
    assert reply.values("cache-control") == ["no-store"]
    assert (reply.header("retry-after") is not None) is (info.status in (429, 503))
    problem = orjson.loads(reply.body)
    assert (problem["status"], problem["code"], problem["request_id"]) == (info.status, info.code, "asked-1")
    if not (FACTS[name].rewords_503 and info.status == 503):
        assert problem["detail"] == info.detail


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_browser_gets_every_refusal_as_a_page_or_redirect(
    deciding: tuple[Decides, Callable[[str], Site]], name: str, reason: Reason
) -> None:
    """A 401 becomes a redirect to the login page, all else a page; the proxy that rewords a 503 does so in JSON."""
    decides, find = deciding
    site, info = find(name), REASONS[reason]
    decides.reason = reason
    reply = send(site.base, "/v1/orders", headers=PAGE)
    assert site.upstream.requests == []
    if info.status == 401:
        assert reply.status == 302
        assert (reply.header("location") or "").startswith(f"http://{HOST}/login?next=")
        return
    assert reply.status == info.status
    if not (FACTS[name].rewords_503 and info.status == 503):
        assert reply.header("content-type") == "text/html; charset=utf-8"
        assert "frame-ancestors 'none'" in (reply.header("content-security-policy") or "")
        assert b"<!doctype html>" in reply.body


def test_nobody_passes_while_gatekey_is_down(name: str) -> None:
    """With nobody listening where Gatekey should, a request with good credentials gets a 5xx and goes no further."""
    with sites(free_port()) as find:
        site = find(name)
        reply = send(site.base, "/v1/orders", headers=(("x-api-key", "key-one"), ("x-secret-token", SECRET)))
        assert site.upstream.requests == []
    assert reply.status == FACTS[name].down
    _check_own_problem(name, reply)


def test_nobody_passes_while_gatekey_is_silent(
    silence: dict[str, Future[tuple[Reply, int]]],
    name: str,
) -> None:
    """When Gatekey takes the question and never answers, the client gets a 5xx and the application nothing."""
    reply, passed = silence[name].result()
    assert passed == 0
    assert reply.status == FACTS[name].silent
    _check_own_problem(name, reply)


def _check_own_problem(name: str, reply: Reply) -> None:
    if FACTS[name].own_problem:
        assert reply.header("content-type") == "application/problem+json"
        assert reply.header("retry-after") == "1"
        assert reply.header("cache-control") == "no-store"
        assert orjson.loads(reply.body)["code"] == "temporarily_unavailable"


@pytest.mark.parametrize("status", [204, 301, 302, 400, 404, 418, 429, 500, 502])
def test_no_other_answer_lets_a_request_through(
    canned: tuple[Upstream, Callable[[str], Site]], name: str, status: int
) -> None:
    """What is not Gatekey's answer refuses, except that some proxies take any 2xx for an allow."""
    other, find = canned
    site = find(name)
    other.answer.status, other.answer.headers[:] = status, []
    send(site.base, "/v1/orders")
    passed = status == 204 and FACTS[name].other_success
    assert len(site.upstream.requests) == int(passed)


def test_forged_identity_never_passes_when_the_answer_has_none(
    canned: tuple[Upstream, Callable[[str], Site]], name: str
) -> None:
    """An allow without any identity header (not Gatekey's, then) still does not let a client's own through."""
    other, find = canned
    site = find(name)
    other.answer.status, other.answer.headers[:] = 200, [("X-Request-Id", "not-gatekey")]
    assert send(site.base, "/v1/orders", headers=FORGED).status == 200
    [received] = site.upstream.requests
    assert "forged" not in [value for _, value in received.headers]


def test_headers_of_an_allow_do_not_reach_the_client(canned: tuple[Upstream, Callable[[str], Site]], name: str) -> None:
    """The application's answer is the client's; a cookie or limit that came with the allow is not in it."""
    other, find = canned
    site = find(name)
    added = [("X-Request-Id", "one"), ("Set-Cookie", "a=b"), ("RateLimit", '"day";r=1')]
    other.answer.status, other.answer.headers[:] = 200, added
    reply = send(site.base, "/v1/orders")
    assert reply.status == 200
    assert reply.header("set-cookie") is None
    assert reply.header("ratelimit") is None


def test_all_headers_of_a_refusal_reach_the_client(canned: tuple[Upstream, Callable[[str], Site]], name: str) -> None:
    """Cookies and challenges pass, also two of a kind (nginx repeats a challenge of the check, so Gatekey sends none there)."""
    other, find = canned
    site = find(name)
    other.answer.status = 401
    other.answer.headers[:] = [
        ("X-Request-Id", "one"),
        ("X-Gatekey-Denial", "ticket"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("WWW-Authenticate", "Bearer"),
        ("WWW-Authenticate", "Other"),
    ]
    reply = send(site.base, "/v1/orders")
    assert site.upstream.requests == []
    assert reply.status == 401
    assert sorted(reply.values("set-cookie")) == ["a=1", "b=2"]
    assert set(", ".join(reply.values("www-authenticate")).split(", ")) == {"Bearer", "Other"}


CONTEXT = {
    "x-forwarded-method": "POST",
    "x-forwarded-proto": "http",
    "x-forwarded-host": HOST,
    "x-forwarded-uri": "/v1/orders?a=b",
    "x-forwarded-for": "127.0.0.1",
}
READ = {
    "x-api-key": "key-one",
    "x-secret-token": SECRET,
    "authorization": "Digest x",
    "cookie": "a=b; c=d",
    "accept": "text/html;q=0.5, application/json",
    "content-type": "application/json",
    "sec-fetch-mode": "cors",
    "sec-fetch-dest": "empty",
    "sec-fetch-site": "same-origin",
    "sec-purpose": "prefetch",
    "purpose": "prefetch",
    "x-requested-with": "XMLHttpRequest",
    "hx-request": "true",
    "origin": "https://app.example",
    "access-control-request-method": "PUT",
    "user-agent": "agent/1",
    "x-request-id": "asked-2",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
ELSE = {"x-other": "1", "forwarded": "for=203.0.113.9", "x-original-url": "/public", "x-gatekey-denial": "forged"}


def test_gatekey_is_told_what_it_reads(canned: tuple[Upstream, Callable[[str], Site]], name: str) -> None:
    """The context comes from the proxy, once each; what Gatekey reads comes from the client unchanged; never the body."""
    other, find = canned
    site = find(name)
    other.requests.clear()
    other.answer.status, other.answer.headers[:] = 200, [("X-Request-Id", "one")]
    forged = tuple((header, "forged") for header in CONTEXT)
    headers = (*READ.items(), *ELSE.items(), *forged)
    send(site.base, "/v1/orders?a=b", method="POST", headers=headers, body=b"secret body")
    [asked] = other.requests
    door = {"nginx": "/auth/nginx/default", "envoy": "/auth/envoy/default/v1/orders?a=b"}
    assert asked.target == door.get(name, "/auth/forward/default")
    assert asked.body == b""
    assert asked.value("content-length") in (None, "0")
    assert asked.value("transfer-encoding") is None
    assert {header: asked.value(header) for header in CONTEXT} == CONTEXT
    assert {header: asked.value(header) for header in READ} == READ
    if not FACTS[name].tells_all:
        assert not asked.names & set(ELSE)


def test_gatekey_is_told_of_a_websocket(canned: tuple[Upstream, Callable[[str], Site]], name: str) -> None:
    """A websocket is recognizable, so that it is never answered with a redirect; one proxy hides it."""
    other, find = canned
    site = find(name)
    other.requests.clear()
    other.answer.status, other.answer.headers[:] = 403, []
    send(site.base, "/v1/orders", headers=WEBSOCKET)
    asked = other.requests[0]
    assert asked.value("upgrade") == ("websocket" if FACTS[name].tells_websocket else None)
