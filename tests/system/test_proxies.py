"""Every shipped proxy configuration, in the real proxy, before a real application and a real Gatekey: one table."""

from __future__ import annotations

import uuid
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
import pytest

from tests.support.keys import SECRET
from tests.support.proxies import HOST, PROXIES, Behind, Reply, behind_proxy, need_proxy, running_proxy, send
from tests.support.proxy_cases import (
    BASIC,
    CASES,
    CONTEXT,
    IDENTITY,
    KEY,
    KEYS,
    PAGE,
    WEBSOCKET,
    Case,
    Denied,
    Passed,
    Redirected,
    Refused,
)
from tests.support.proxy_facts import FACTS
from tests.support.servers import free_port, gatekey, key_line
from tests.support.upstream import upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.servers import GatekeyServer
    from tests.support.upstream import Received, Upstream


@pytest.fixture(scope="module")
def fleet() -> Iterator[Callable[[str], Behind]]:
    """Each proxy with its own Gatekey and application, started at first use."""
    running: dict[str, Behind] = {}
    with ExitStack() as stack:

        def start(name: str) -> Behind:
            if name not in running:
                env = {"GATEKEY_LOG_SUMMARIZE": "off"}  # every decision is looked at
                running[name] = stack.enter_context(behind_proxy(name, keys=KEYS, env=env))
            return running[name]

        yield start


@pytest.fixture(params=PROXIES)
def name(request: pytest.FixtureRequest) -> str:
    """Each proxy that is installed."""
    proxy: str = request.param
    need_proxy(proxy, require_all=request.getfixturevalue("require_all"))
    return proxy


@pytest.fixture
def behind(name: str, fleet: Callable[[str], Behind]) -> Behind:
    """The proxy with all behind it, the application's memory empty."""
    found = fleet(name)
    found.upstream.requests.clear()
    return found


@contextmanager
def another_proxy(behind: Behind, **options: Any) -> Iterator[str]:
    """A second proxy of the same kind before the same Gatekey and application; its address."""
    gatekey_port, app_port = behind.gatekey.port, behind.upstream.port
    with running_proxy(behind.name, gatekey_port=gatekey_port, app_port=app_port, **options) as proxy:
        yield proxy.base


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_request_fares_as_the_table_says(behind: Behind, case: Case) -> None:
    """Each case of the table, through each proxy: the client's answer, what the application got, what was decided."""
    request_id = uuid.uuid4().hex
    policies = behind.policies(f"[policy.default]\n{case.policy}\n") if case.policy else nullcontext()
    with policies:
        reply = behind.send(
            case.target,
            method=case.method,
            host=case.host,
            headers=(*case.headers, ("X-Request-Id", request_id), ("User-Agent", "table/1")),
            body=case.body,
            chunked=case.chunked,
        )
    expected = case.but.get(behind.name, case.expect)
    match expected:
        case Passed():
            assert reply.status == 200, reply.body
            [received] = behind.upstream.requests
            _check_received(received, case, expected.target)
            assert received.value("x-request-id") == request_id
        case Denied():
            assert behind.upstream.requests == []
            _check_denied(reply, expected, request_id, head=case.method == "HEAD")
        case Redirected():
            assert behind.upstream.requests == []
            assert reply.status == expected.status
            assert (reply.header("location") or "").startswith(f"http://{HOST}/login?next=")
        case Refused():
            assert behind.upstream.requests == []
            assert reply.status == expected.status
            return
    [decision] = behind.gatekey.decisions(1, request_id=request_id)
    assert decision["method"] == case.method
    assert decision["client_ip"] == "127.0.0.1"
    assert decision["user_agent"] == "table/1"
    if expected != CONTEXT:
        assert decision["domain"].removesuffix(":8443") == HOST
    if isinstance(expected, Passed):  # the application has the very path that was decided about
        assert decision["path"] == expected.target.partition("?")[0]


def _check_received(received: Received, case: Case, target: str) -> None:
    assert received.method == case.method
    assert received.target == target
    assert received.body == case.body
    assert (received.value("host") or "").lower().removesuffix(":80") == HOST
    names = received.names
    assert not names & {"x-api-key", "x-secret-token", "authorization"}
    everything = "\n".join(f"{name}: {value}" for name, value in received.headers)
    assert SECRET not in everything
    assert "forged" not in everything
    assert "evil.example" not in [value for name, value in received.headers if name.lower().startswith("x-forwarded")]
    assert not [name for name in names if not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")]
    assert {name for name in names if name.startswith("x-gatekey")} <= IDENTITY
    anonymous = "preflight" in case.policy or "shadow" in case.policy
    assert (received.value("x-gatekey-organization") or "") == ("" if anonymous else "acme")
    assert (received.value("x-gatekey-method") or "") == ("" if anonymous else "api-key")
    assert bool(received.value("x-gatekey-key-id")) is not anonymous
    assert not received.value("x-gatekey-subject")
    assert received.value("x-forwarded-for") == "127.0.0.1"
    assert received.value("x-forwarded-proto") == "http"
    assert not names & {"x-forwarded-method", "x-forwarded-uri"}
    assert "x-" not in (received.value("connection") or "").lower()  # nothing for the next hop to drop


def _check_denied(reply: Reply, expected: Denied, request_id: str, *, head: bool) -> None:
    assert reply.status == expected.status
    assert reply.values("x-request-id") == [request_id]
    assert reply.header("cache-control") == "no-store"
    assert reply.header("x-gatekey-denial") is None
    challenges = reply.values("www-authenticate")
    if expected.status == 401:
        assert len(challenges) == 1
        assert challenges[0].startswith('Bearer realm="gatekey"')
    if head:
        assert reply.body == b""
        return
    assert reply.header("content-type") == "application/problem+json"
    problem = orjson.loads(reply.body)
    assert problem["status"] == expected.status
    assert problem["code"] == expected.code
    assert problem["request_id"] == request_id


def test_a_redirected_browser_lands_on_the_login_page_through_the_proxy(behind: Behind) -> None:
    """The Location is absolute, names the application's own host, and the proxy routes it to Gatekey."""
    location = urlsplit(behind.send("/v1/orders?a=b", headers=PAGE).header("location") or "")
    assert (location.scheme, location.netloc, location.path) == ("http", HOST, "/login")
    page = behind.send(f"{location.path}?{location.query}", headers=PAGE)
    assert page.status == 200
    assert b"Sign in" in page.body
    assert behind.upstream.requests == []


@pytest.mark.parametrize("path", ["/login", "/logout", "/login/oidc"])
def test_the_sign_in_addresses_belong_to_gatekey(behind: Behind, path: str) -> None:
    """They never reach the application, by whichever method, not even with a key that would open it."""
    for method in ("GET", "POST"):
        reply = behind.send(path, method=method, headers=KEY, body=b"a=b" * (method == "POST"))
        assert reply.header("x-request-id")  # Gatekey's; the application sends none
    assert behind.upstream.requests == []


def test_the_application_gets_the_request_id_of_the_decision(behind: Behind) -> None:
    """Where the client sends none, or one that could spoil a log, Gatekey's own goes on."""
    for sent in ((), (("X-Request-Id", "not an id"),)):
        behind.upstream.requests.clear()
        behind.send("/v1/orders", headers=KEY + sent)
        [received] = behind.upstream.requests
        assert behind.gatekey.decisions(1, request_id=received.value("x-request-id"))


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/readyz",
        "/console",
        "/v1/whoami",
        "/v1/keys/verify",
        "/login/x",
        "/auth/forward/default",
        "/auth/nginx/default/denied",
        "/_gatekey/other",
    ],
)
def test_nothing_else_of_gatekey_is_reached_from_outside(behind: Behind, path: str) -> None:
    """Gatekey's other addresses are the application's here, and need a key like all of its own."""
    assert behind.send(path).status == 401
    assert behind.upstream.requests == []
    assert behind.send(path, headers=KEY).status == 200
    assert [request.target for request in behind.upstream.requests] == [path]


@pytest.mark.parametrize("path", ["/_gatekey/check", "/_gatekey/denied"])
@pytest.mark.parametrize("name", ["nginx"], indirect=True)
def test_the_internal_addresses_of_nginx_are_closed(behind: Behind, path: str) -> None:
    """The locations between nginx and Gatekey answer 404 to a client."""
    assert behind.send(path, headers=KEY).status == 404


def test_a_websocket_passes_with_a_key(behind: Behind) -> None:
    """The upgrade reaches the application with the identity, and its first frame reaches the client."""
    reply = behind.send("/v1/live", headers=KEY + WEBSOCKET)
    assert reply.status == 101
    [received] = behind.upstream.requests
    assert (received.value("upgrade") or "").lower() == "websocket"
    assert received.value("x-gatekey-organization") == "acme"
    assert "x-api-key" not in received.names


def test_a_websocket_without_a_key_is_answered_in_json(behind: Behind) -> None:
    """No upgrade, no redirect."""
    reply = behind.send("/v1/live", headers=WEBSOCKET)
    assert reply.status == 401
    assert reply.header("content-type") == "application/problem+json"
    assert behind.upstream.requests == []


def test_a_script_of_another_origin_can_read_the_refusal(behind: Behind) -> None:
    """The CORS headers of a policy's origins are on its denials."""
    with behind.policies('[policy.default]\ncors_origins = ["https://app.example"]\n'):
        allowed = behind.send("/v1/orders", headers=(("origin", "https://app.example"),))
        other = behind.send("/v1/orders", headers=(("origin", "https://other.example"),))
    assert allowed.header("access-control-allow-origin") == "https://app.example"
    assert other.header("access-control-allow-origin") is None


def test_a_trace_goes_on_in_the_decision_log(behind: Behind) -> None:
    """``traceparent`` reaches Gatekey."""
    trace_id = uuid.uuid4().hex
    behind.send("/v1/orders", headers=(*KEY, ("traceparent", f"00-{trace_id}-b7ad6b7169203331-01")))
    assert behind.gatekey.decisions(1, trace_id=trace_id)


def test_an_unknown_header_that_looks_like_identity_is_removed(behind: Behind) -> None:
    """``X-Gatekey-`` of any name is Gatekey's; one proxy cannot remove names that it does not know."""
    assert behind.send("/v1/orders", headers=(*KEY, ("X-Gatekey-Role", "admin"))).status == 200
    [received] = behind.upstream.requests
    assert ("x-gatekey-role" in received.names) is FACTS[behind.name].unknown_identity


def test_an_authorization_of_another_scheme_stays_the_applications(behind: Behind) -> None:
    """Gatekey reads Basic and Bearer only, so nothing else is consumed."""
    assert behind.send("/v1/orders", headers=(*KEY, ("Authorization", "Digest username=x"))).status == 200
    [received] = behind.upstream.requests
    assert received.value("authorization") == "Digest username=x"


REMOVED_FOR_HEADERS_ONLY = {
    "caddy": {"\t\trequest_header @consumed -Authorization\n": ""},
    "envoy": {"                          request_headers_to_remove: [authorization]\n": ""},
    "haproxy": {"    http-request del-header Authorization if": "    #"},
    "nginx": {"proxy_set_header Authorization  $gatekey_authorization;\n": ""},
    "traefik": {"[gatekey, no-credentials, no-authorization]": "[gatekey, no-credentials]"},
}
"""The lines that the configurations mark as not for policies with ``credentials = ["headers"]``."""


def test_an_application_can_keep_bearer_tokens_of_its_own(behind: Behind) -> None:
    """With ``credentials = ["headers"]`` and the marked lines removed, Authorization is neither read nor removed."""
    own = ("Authorization", "Bearer token-of-the-application")
    edit = REMOVED_FOR_HEADERS_ONLY[behind.name]
    with behind.policies('[policy.default]\ncredentials = ["headers"]\n'), another_proxy(behind, edit=edit) as base:
        reply = send(base, "/v1/orders", headers=(*KEY, own))
    assert reply.status == 200
    [received] = behind.upstream.requests
    assert received.value("authorization") == own[1]
    assert "x-api-key" not in received.names


def test_a_policy_that_is_not_there_lets_nobody_in(behind: Behind) -> None:
    """A misspelled policy is 404 for everyone, good key or not."""
    with another_proxy(behind, policy="misspelled") as base:
        reply = send(base, "/v1/orders", headers=KEY)
    assert behind.upstream.requests == []
    assert reply.status == 404
    assert orjson.loads(reply.body)["code"] == "unknown_policy"


@pytest.fixture(scope="module")
def wsgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatekeyServer, Upstream]]:
    """Gatekey on the WSGI interface, which takes ``X_Api_Key`` for ``X-Api-Key``."""
    key_file = tmp_path_factory.mktemp("wsgi") / "keys.jsonl"
    key_file.write_bytes(key_line("key-one"))
    with upstream() as application, gatekey("--import", str(key_file), "--interface", "wsgi") as server:
        yield server, application


def test_aliases_are_dropped_before_a_server_that_reads_them(wsgi: tuple[GatekeyServer, Upstream], name: str) -> None:
    """Neither a key nor a context nor a doubled header comes of names with underscores or dots."""
    server, application = wsgi
    application.requests.clear()
    with running_proxy(name, gatekey_port=server.port, app_port=application.port) as proxy:
        for sep in "_.":
            aliases = tuple((key.replace("-", sep), value) for key, value in KEY)
            assert send(proxy.base, "/v1/orders", headers=aliases).status == 401
            assert application.requests == []
            context = (f"X{sep}Forwarded{sep}Host", "evil.example"), (f"X{sep}Api{sep}Key", "other")
            assert send(proxy.base, "/v1/orders", headers=KEY + context).status == 200
            application.requests.clear()


def test_no_proxy_logs_a_secret_when_the_application_is_down(behind: Behind) -> None:
    """What the proxy prints about a failed request is searched for all secrets when it stops."""
    with running_proxy(behind.name, gatekey_port=behind.gatekey.port, app_port=free_port()) as proxy:
        assert send(proxy.base, "/v1/orders", headers=KEY + BASIC).status in (502, 503)
