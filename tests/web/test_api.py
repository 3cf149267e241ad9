"""``POST /v1/keys/verify`` and ``GET /v1/whoami``: what a back end and a caller learn, and what they never do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.support import leaks
from tests.support.cases import basic, bearer, pair
from tests.support.in_process import ask, logged_gatekey
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

HOST = (("Host", "gatekey.internal.example"),)
OPERATOR, BACK_END, NO_SCOPE = "operator-key", "acme-back-end", "acme-reader"
NAVIGATION = (("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
LINES = [
    key_line(OPERATOR, organization_id="gatekey", domains=["@gatekey"], scopes=["gatekey:verify"]),
    key_line(BACK_END, domains=["@gatekey"], scopes=["gatekey:verify", "orders:*"]),
    key_line(NO_SCOPE, domains=["@gatekey"], scopes=["orders:*"]),
    key_line("client", scopes=["orders:read"], name="Büro", expires_at="2099-01-02T03:04:05.678901+01:00"),
    key_line("globex-client", organization_id="globex"),
    key_line("bound", origins=["https://app.example.com"], networks=["192.0.2.0/24"]),
    key_line("placed", domains=[f"https://{DOMAIN}:8443/v1"]),
]
CLIENT = {"api_key": "client", "secret_token": SECRET, "domain": DOMAIN}


@pytest.fixture
def logged() -> Iterator[LoggedGatekey]:
    with logged_gatekey(LINES) as found:
        yield found


def _verify(logged: LoggedGatekey, *, caller: str = OPERATOR, **fields: Any) -> RawResponse:
    body = orjson.dumps({**CLIENT, **fields})
    lines = (*HOST, *pair(caller), ("Content-Type", "application/json"))
    return ask(logged.app, "POST", "/v1/keys/verify", lines, body)


def test_a_valid_key_is_told_with_all_that_a_back_end_needs(logged: LoggedGatekey) -> None:
    """And with nothing else: no name, no metadata, no rule."""
    answer = _verify(logged)
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.has("vary")
    body = answer.json()
    assert body.pop("key_id").startswith("key_")
    assert body == {
        "valid": True,
        "organization_id": "acme",
        "scopes": ["orders:read"],
        "expires_at": "2099-01-02T02:04:05.678901Z",
    }


def test_two_decisions_are_logged_and_counted(logged: LoggedGatekey) -> None:
    """The caller's, and the key's with the client that the back end names; one request id ties them together."""
    answer = _verify(
        logged, caller=BACK_END, client_ip="2001:DB8::7", domain="https://API.example.com:443/v1/orders?secret=x"
    )
    caller, verified = logged.decisions()
    assert (caller["door"], caller["reason"], caller["status"]) == ("api", "ok", 200)
    assert (caller["client_ip"], caller["path"]) == ("127.0.0.1", "/v1/keys/verify")
    assert (verified["door"], verified["reason"], verified["status"]) == ("verify", "ok", 200)
    assert (verified["client_ip"], verified["domain"], verified["key_id"]) == (
        "2001:db8::7",
        DOMAIN,
        answer.json()["key_id"],
    )
    assert caller["request_id"] == verified["request_id"] == answer.header("x-request-id")
    count = logged.gatekey.metrics.registry.get_sample_value(
        "gatekey_decisions_total", {"outcome": "allow", "reason": "ok"}
    )
    assert count == 2


@pytest.mark.parametrize(
    ("caller", "status", "code", "reason"),
    [
        (NO_SCOPE, 403, "insufficient_scope", "insufficient_scope"),
        ("client", 401, "domain_not_allowed", "wrong_domain"),
        ("nobody", 401, "invalid_credentials", "unknown_key"),
        ("", 401, "invalid_credentials", "malformed_key"),
    ],
)
def test_only_a_key_with_the_scope_may_ask(
    logged: LoggedGatekey, caller: str, status: int, code: str, reason: str
) -> None:
    """The caller's refusal is the only decision; nothing is said about the key that was asked for."""
    answer = _verify(logged, caller=caller)
    assert (answer.status, answer.json()["code"]) == (status, code)
    [line] = logged.decisions()
    assert (line["door"], line["reason"]) == ("api", reason)


def test_a_caller_s_refusal_is_json_even_for_a_browser(logged: LoggedGatekey) -> None:
    """Nobody navigates here."""
    answer = ask(logged.app, "POST", "/v1/keys/verify", (*HOST, *NAVIGATION), b"{}")
    assert (answer.status, answer.json()["code"]) == (401, "missing_credentials")


@pytest.mark.parametrize(
    ("caller", "api_key", "reason"),
    [
        (OPERATOR, "client", "ok"),
        (OPERATOR, "globex-client", "ok"),
        (BACK_END, "client", "ok"),
        (BACK_END, "globex-client", "wrong_organization"),
        (BACK_END, "nobody", "unknown_key"),
    ],
)
def test_a_back_end_reaches_its_own_organization_and_the_operator_all(
    logged: LoggedGatekey, caller: str, api_key: str, reason: str
) -> None:
    """A foreign key and one that does not exist look the same."""
    body = _verify(logged, caller=caller, api_key=api_key).json()
    assert body["valid"] == (reason == "ok")
    assert reason == "ok" or body == {"valid": False, "code": "invalid_credentials"}
    assert logged.decisions()[-1]["reason"] == reason


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"domain": f"{DOMAIN}:443"}, None),
        ({"domain": f"http://{DOMAIN}"}, None),
        ({"domain": f"{DOMAIN}:80"}, "domain_not_allowed"),
        ({"domain": "other.example.com"}, "domain_not_allowed"),
        ({"domain": "@gatekey"}, "422"),
        ({"api_key": "placed", "domain": f"https://{DOMAIN}:8443/v1/orders"}, None),
        ({"api_key": "placed", "domain": f"https://{DOMAIN}:8443/v2"}, "domain_not_allowed"),
        ({"api_key": "placed", "domain": f"{DOMAIN}:8443"}, "domain_not_allowed"),
        ({"scopes": []}, None),
        ({"scopes": ["orders:read"]}, None),
        ({"scopes": ["orders:read", "orders:write"]}, "insufficient_scope"),
        ({"scopes": ["gatekey:verify"]}, "insufficient_scope"),
        ({"api_key": BACK_END, "domain": "gatekey.internal.example"}, "domain_not_allowed"),
        ({"api_key": "bound"}, "origin_not_allowed"),
        ({"api_key": "bound", "origin": None}, "origin_not_allowed"),
        ({"api_key": "bound", "origin": "https://app.example.com"}, "network_not_allowed"),
        ({"api_key": "bound", "origin": "https://app.example.com", "client_ip": None}, "network_not_allowed"),
        ({"api_key": "bound", "origin": "https://app.example.com", "client_ip": "198.51.100.1"}, "network_not_allowed"),
        ({"api_key": "bound", "origin": "https://app.example.com", "client_ip": "192.0.2.1"}, None),
        ({"secret_token": "a-secret-that-no-key-has"}, "invalid_credentials"),
        ({"secret_token": ""}, "invalid_credentials"),
        ({"api_key": "clïent"}, "invalid_credentials"),
        ({"api_key": "client,client"}, "invalid_credentials"),
        ({"api_key": "gk_live_0000000000000000000000AAAAAA"}, "invalid_credentials"),
    ],
)
def test_every_field_narrows_the_answer(logged: LoggedGatekey, fields: dict[str, Any], code: str | None) -> None:
    """A host is meant by https; what is left out demands nothing, and satisfies no rule of the key."""
    answer = _verify(logged, **fields)
    if code == "422":
        assert answer.status == 422
        return
    assert answer.status == 200
    body = answer.json()
    assert body == {"valid": False, "code": code} if code else body["valid"] is True


def test_shadow_mode_changes_nothing_here() -> None:
    """Neither for the caller nor in what a back end is told."""
    with logged_gatekey(LINES, environ={"GATEKEY_MODE": "shadow"}) as logged:
        assert _verify(logged, caller=NO_SCOPE).status == 403
        assert _verify(logged, domain="other.example.com").json() == {"valid": False, "code": "domain_not_allowed"}


def test_an_installation_for_one_organization_lets_only_its_keys_pass() -> None:
    """``GATEKEY_ORGANIZATION_ID``: even the operator's key of another installation is none here."""
    with logged_gatekey(LINES, environ={"GATEKEY_ORGANIZATION_ID": "acme"}) as logged:
        assert _verify(logged, caller=OPERATOR).json()["code"] == "invalid_credentials"
        assert _verify(logged, caller=BACK_END).json()["valid"] is True
        assert [line["reason"] for line in logged.decisions()] == ["wrong_organization", "ok", "ok"]


def test_no_secret_comes_back_or_into_the_log(logged: LoggedGatekey) -> None:
    """The fixture looks for every registered secret in the log; here is the answer."""
    leaks.register("presented-to-verify-in-a-test")
    for fields in ({"secret_token": "presented-to-verify-in-a-test"}, {"presented-to-verify-in-a-test": 1}):
        answer = _verify(logged, **fields)
        assert answer.status in (200, 422)
    leaks.check(_verify(logged).body.decode(), "an answer of verify")


@pytest.mark.parametrize(
    "credentials", [pair("client"), basic("client"), bearer("client")], ids=["headers", "basic", "bearer"]
)
def test_whoami_tells_a_caller_who_it_is(logged: LoggedGatekey, credentials: Any) -> None:
    """By whichever form, at a host that the key is for."""
    answer = ask(logged.app, "GET", "/v1/whoami", (("Host", DOMAIN), *credentials))
    assert answer.header("cache-control") == "no-store"
    body = answer.json()
    assert body.pop("key_id").startswith("key_")
    assert body == {"organization_id": "acme", "name": "Büro", "scopes": ["orders:read"], "method": "api-key"}


def test_whoami_takes_a_key_for_our_own_paths_at_every_host(logged: LoggedGatekey) -> None:
    """``@gatekey`` stands for every host, but only of a request that has one."""
    for host, status in (("a.example", 200), ("[::1]:8000", 200), ("a, b", 401), ("", 401)):
        assert ask(logged.app, "GET", "/v1/whoami", (("Host", host), *pair(OPERATOR))).status == status


def test_whoami_sends_a_browser_to_the_login_page(logged: LoggedGatekey) -> None:
    """A page of ours on our own host, so the address is a path."""
    answer = ask(logged.app, "GET", "/v1/whoami?x=1", (*HOST, *NAVIGATION))
    assert answer.status == 302
    location = answer.header("location")
    assert location.startswith("/login?next=")
    accepted = logged.gatekey.next_urls.accept(
        location.removeprefix("/login?next="), own_origin="http://gatekey.internal.example"
    )
    assert accepted == "http://gatekey.internal.example/v1/whoami?x=1"
