"""Shadow mode: decides, logs and counts as always, and lets everything pass at the doors and the decorator, only there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from flask import Blueprint

from backends.errors import StoreUnavailable
from service import api_key_required, current_key
from tests.support.in_process import LoggedGatekey, ask, logged_gatekey
from tests.support.keys import DOMAIN, SECRET
from tests.support.raw_http import request
from tests.support.servers import gatekey as serving
from tests.support.servers import key_line
from tests.support.stores import GatedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.raw_http import RawResponse

KEYS = (
    key_line("good", scopes=["orders:read"]),
    key_line("off", is_active=False),
    key_line("over", expires_at="2020-01-01T00:00:00Z"),
    key_line("bound", origins=["https://app.example.com"]),
    key_line("local", networks=["10.0.0.0/8"]),
    key_line("operator", domains=["@gatekey"], scopes=["gatekey:verify"]),
)
POLICIES = """
[policy.acme]
scopes = ["orders:read"]
[policy.other]
organization = "other"
[policy.trying]
scopes = ["orders:read"]
mode = "shadow"
[policy.trying-other]
organization = "other"
mode = "shadow"
"""
IDENTITY = ("organization", "key-id", "scopes", "subject", "method")
SHADOW = {"GATEKEY_MODE": "shadow"}

CONTEXT = {
    "x-forwarded-method": "GET",
    "x-forwarded-proto": "https",
    "x-forwarded-host": DOMAIN,
    "x-forwarded-uri": "/orders?page=2",
    "x-forwarded-for": "192.0.2.1",
}
CASES: list[tuple[str, str, dict[str, str]]] = [
    ("missing_credentials", "acme", {}),
    ("malformed_key", "acme", {"x-api-key": "gk_live_nonsense", "x-secret-token": SECRET}),
    ("unknown_key", "acme", {"x-api-key": "nobody", "x-secret-token": SECRET}),
    ("bad_secret", "acme", {"x-api-key": "good", "x-secret-token": "wrong"}),
    ("wrong_organization", "other", {"x-api-key": "good", "x-secret-token": SECRET}),
    ("wrong_domain", "acme", {"x-api-key": "good", "x-secret-token": SECRET, "x-forwarded-host": "else.example.com"}),
    ("inactive", "acme", {"x-api-key": "off", "x-secret-token": SECRET}),
    ("expired", "acme", {"x-api-key": "over", "x-secret-token": SECRET}),
    ("origin_not_allowed", "acme", {"x-api-key": "bound", "x-secret-token": SECRET, "origin": "https://evil.example"}),
    ("network_not_allowed", "acme", {"x-api-key": "local", "x-secret-token": SECRET}),
    (
        "insufficient_scope",
        "acme",
        {"x-api-key": "bound", "x-secret-token": SECRET, "origin": "https://app.example.com"},
    ),
    ("bad_context", "acme", {"x-api-key": "good", "x-secret-token": SECRET, "x-forwarded-proto": "gopher"}),
]
DOORS = {"forward": "/auth/forward/{}", "nginx": "/auth/nginx/{}", "envoy": "/auth/envoy/{}/the/clients/path"}


def knock(running: LoggedGatekey, path: str, headers: dict[str, str], **options: Any) -> RawResponse:
    """One question of a proxy."""
    return ask(running.app, "GET", path, [*{**CONTEXT, **headers}.items()], **options)


def counted(running: LoggedGatekey, family: str) -> dict[str, float]:
    """The decision series that are not 0, by reason."""
    samples = (
        sample
        for metric in running.gatekey.metrics.registry.collect()
        if metric.name == f"gatekey_{family}"
        for sample in metric.samples
    )
    return {
        sample.labels["reason"]: sample.value for sample in samples if sample.name.endswith("_total") and sample.value
    }


def assert_passed_without_identity(answer: RawResponse) -> None:
    assert (answer.status, answer.body) == (200, b"")
    assert [answer.header(f"x-gatekey-{name}") for name in IDENTITY] == [""] * 5
    assert all(answer.has(f"x-gatekey-{name}") for name in IDENTITY)


@pytest.fixture(scope="module")
def enforcing() -> Iterator[LoggedGatekey]:
    with logged_gatekey(KEYS, policies=POLICIES) as running:
        yield running


@contextmanager
def shadowing(by: str) -> Iterator[tuple[LoggedGatekey, dict[str, str]]]:
    """A service in shadow mode, by its setting or by its policies, and the names that the policies have there."""
    if by == "setting":
        with logged_gatekey(KEYS, policies=POLICIES, environ=SHADOW) as running:
            yield running, {"acme": "acme", "other": "other"}
    else:
        with logged_gatekey(KEYS, policies=POLICIES) as running:
            yield running, {"acme": "trying", "other": "trying-other"}


@pytest.mark.parametrize("by", ["setting", "policy"])
@pytest.mark.parametrize("door", DOORS)
def test_what_would_be_refused_passes_without_identity_and_says_so_in_log_and_metric(
    by: str, door: str, enforcing: LoggedGatekey
) -> None:
    """Every reason that a client can cause, at every door: the same decision as in earnest, marked, and let through."""
    with shadowing(by) as (running, names):
        for number, (reason, policy, headers) in enumerate(CASES, start=1):
            enforced = knock(enforcing, DOORS[door].format(policy), headers)
            (in_earnest,) = enforcing.decisions()
            assert (enforced.status != 200, in_earnest["reason"]) == (True, reason)
            assert "mode" not in in_earnest

            assert_passed_without_identity(knock(running, DOORS[door].format(names[policy]), headers))
            (line,) = running.decisions()
            assert (line["outcome"], line["reason"], line["status"]) == ("allow", "shadow", 200)
            assert (line["mode"], line["shadow_outcome"], line["shadow_reason"]) == ("shadow", "deny", reason)
            same = ("organization_id", "key_id", "domain", "client_ip", "method", "path", "door")
            assert [line[name] for name in same] == [in_earnest[name] for name in same]

            assert counted(running, "decisions") == {"shadow": number}
            assert counted(running, "shadow_decisions")[reason] == 1


@pytest.mark.parametrize("door", DOORS)
def test_a_stranger_who_asks_a_door_passes_too(door: str) -> None:
    """While the proxy's address is not yet among the trusted ones, nothing breaks; the log tells it."""
    with logged_gatekey(KEYS, policies=POLICIES, environ=SHADOW) as running:
        assert_passed_without_identity(knock(running, DOORS[door].format("acme"), {}, peer="203.0.113.9"))
        (line,) = running.decisions()
        assert line["shadow_reason"] == "untrusted_peer"


def test_an_outage_of_the_store_breaks_nothing_either() -> None:
    """An error is no decision to enforce: it passes, and counts as what it is."""
    store = GatedStore()
    store.error = StoreUnavailable("down")
    with logged_gatekey(policies=POLICIES, environ=SHADOW, store=store) as running:
        credentials = {"x-api-key": "good", "x-secret-token": SECRET}
        assert_passed_without_identity(knock(running, "/auth/forward/acme", credentials))
        (line,) = running.decisions()
        assert (line["shadow_outcome"], line["shadow_reason"]) == ("error", "store_unavailable")
        assert counted(running, "shadow_decisions") == {"store_unavailable": 1}


def test_who_would_pass_anyway_passes_as_always() -> None:
    """With identity: nothing about the answer is different from earnest, and the line says that shadow mode was on."""
    with logged_gatekey(KEYS, policies=POLICIES, environ=SHADOW) as running:
        answer = knock(running, "/auth/forward/acme", {"x-api-key": "good", "x-secret-token": SECRET})
        assert answer.status == 200
        assert answer.header("x-gatekey-organization") == "acme"
        (line,) = running.decisions()
        assert (line["outcome"], line["reason"]) == ("allow", "ok")
        assert line["mode"] == "shadow"
        assert "shadow_reason" not in line
        assert counted(running, "decisions") == {"ok": 1}
        assert counted(running, "shadow_decisions") == {}


def test_a_policy_in_shadow_mode_leaves_the_others_in_earnest() -> None:
    """One API at a time can be put behind Gatekey."""
    with logged_gatekey(KEYS, policies=POLICIES) as running:
        assert knock(running, "/auth/forward/trying", {}).status == 200
        assert knock(running, "/auth/forward/acme", {}).status == 401
        assert knock(running, "/auth/forward/default", {}).status == 401


def test_mistakes_in_the_proxys_configuration_break_no_client_and_are_told() -> None:
    """A policy that does not exist passes, and so does a body at a door, whose connection is still closed unread."""
    with logged_gatekey(KEYS, policies=POLICIES, environ=SHADOW) as running:
        assert_passed_without_identity(knock(running, "/auth/forward/nonsense", {}))
        answer = knock(running, "/auth/forward/acme", {}, body=b"x")
        assert_passed_without_identity(answer)
        assert answer.header("connection") == "close"
        assert [line["shadow_reason"] for line in running.decisions()] == ["unknown_policy", "bad_request"]
        assert counted(running, "shadow_decisions") == {"unknown_policy": 1, "bad_request": 1}


def test_gatekeys_own_paths_are_never_in_shadow_mode() -> None:
    """Its API and its metrics stay closed; a key verified for a back end is judged in earnest."""
    with logged_gatekey(KEYS, policies=POLICIES, environ=SHADOW) as running:
        operator = [("x-api-key", "operator"), ("x-secret-token", SECRET), ("host", "gatekey.internal")]
        assert ask(running.app, "GET", "/v1/whoami", [("host", "gatekey.internal")]).status == 401
        assert ask(running.app, "POST", "/v1/keys/verify", [("host", "gatekey.internal")]).status == 401
        body = b'{"api_key":"good","secret_token":"wrong","domain":"api.example.com"}'
        verified = ask(running.app, "POST", "/v1/keys/verify", [*operator, ("content-type", "application/json")], body)
        assert verified.json() == {"valid": False, "code": "invalid_credentials"}
        assert ask(running.app, "GET", "/metrics", [("host", "gatekey.internal")], peer="203.0.113.9").status == 404
        assert counted(running, "shadow_decisions") == {}
        assert all("mode" not in line for line in running.decisions())


@pytest.mark.parametrize("path", ["/waiting", "/plain", "/blue/print"])
def test_a_protected_view_runs_for_everybody_and_sees_nobody(path: str) -> None:
    """``current_key`` is empty for whoever would have been refused, and the key's for the others."""
    with logged_gatekey(KEYS, policies=POLICIES, environ=SHADOW) as running:
        app, blueprint = running.app, Blueprint("blue", __name__, url_prefix="/blue")

        @app.get("/waiting")
        @api_key_required(scopes=["orders:read"])
        async def waiting() -> dict[str, Any]:
            return {"organization": current_key.organization_id, "method": current_key.method}

        @app.get("/plain")
        @api_key_required(scopes=["orders:read"])
        def plain() -> dict[str, Any]:
            return {"organization": current_key.organization_id, "method": current_key.method}

        @blueprint.get("/print")
        def printed() -> dict[str, Any]:
            return {"organization": current_key.organization_id, "method": current_key.method}

        app.register_blueprint(api_key_required(blueprint, scopes=["orders:read"]))
        nobody = {"organization": "", "method": ""}
        host = ("host", DOMAIN)
        assert ask(app, "GET", path, [host]).json() == nobody
        refused = [host, ("x-api-key", "off"), ("x-secret-token", SECRET)]
        assert ask(app, "GET", path, refused).json() == nobody
        known = [host, ("x-api-key", "good"), ("x-secret-token", SECRET)]
        assert ask(app, "GET", path, known).json() == {"organization": "acme", "method": "api-key"}
        assert [line.get("shadow_reason") for line in running.decisions()] == ["missing_credentials", "inactive", None]


def test_the_served_doors_shadow_too_and_the_start_says_so(tmp_path: Path) -> None:
    """The same through `gatekey serve`, whose doors are answered in front of Flask."""
    file = tmp_path / "keys.jsonl"
    file.write_bytes(KEYS[0])
    with serving("--import", str(file), env=SHADOW, cwd=tmp_path) as server:
        answer = request(server.port, "GET", "/auth/forward/default", CONTEXT.items())
        assert_passed_without_identity(answer)
        (line,) = server.decisions(1)
        assert (line["mode"], line["shadow_reason"], line["door"]) == ("shadow", "missing_credentials", "forward")
        assert any(line.startswith("gatekey: GATEKEY_MODE=shadow") for line in server.lines)
