"""How a case is put to each door, and to which doors it can be put at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.support.cases import ACME_VERIFIER, KEYS, POLICIES, VERIFIER, VERIFIER_SECRET, pair

if TYPE_CHECKING:
    from tests.support.cases import Case, Lines

PROXY_DOORS = ("forward", "nginx", "envoy")
PLAIN_POLICIES = {
    "default": (),
    "read": ("orders:read",),
    "both": ("orders:read", "orders:write"),
    "own-scope": ("gatekey:read",),
}
"""Policies that the decorator can express, by the scopes that they demand."""

_LONGEST = 4096  # characters of a field; beyond it the body has the wrong shape
_ENVOY_TAILS = ("", "/", "/orders", "/../..", "//x", "/%2f%2e%2e", "/denied", "/?policy=trial")


def door_target(door: str, case: Case) -> str:
    """The address of a proxy door; what Envoy appends changes from case to case and never matters."""
    tail = _ENVOY_TAILS[len(case.name) % len(_ENVOY_TAILS)] if door == "envoy" else ""
    return f"/auth/{door}/{case.policy}{tail}"


def door_lines(case: Case, request_id: str) -> Lines:
    """The header lines that a proxy sends for the case."""
    return (
        ("Host", "auth.internal.example"),
        ("X-Request-Id", request_id),
        *case.context_lines,
        *case.credentials,
        *case.extra,
        *case.body_lines,
    )


def verify_body(case: Case) -> bytes | None:
    """The case as the body of ``POST /v1/keys/verify``, ``None`` where JSON cannot say it."""
    policy = POLICIES.get(case.policy, {})
    if not case.is_pair or case.context is not None or case.body_lines or case.reason == "unknown_policy":
        return None
    if policy.keys() - {"organization", "scopes"} or policy.get("organization") == "globex":
        return None
    values = {name.lower(): value for name, value in case.credentials}
    api_key, secret = values["x-api-key"], values["x-secret-token"]
    if any(_is_trimmed(value) or len(value) > _LONGEST for value in (api_key, secret)) or "," in case.client_ip:
        return None
    fields: dict[str, Any] = {
        "api_key": _text(api_key),
        "secret_token": _text(secret),
        "domain": f"{case.scheme}://{case.host}{case.uri}",
        "scopes": policy.get("scopes", []),
        "client_ip": case.client_ip,
    }
    origin = next((value for name, value in case.extra if name == "origin"), None)
    if origin is not None:
        fields["origin"] = _text(origin)
    return orjson.dumps(fields)


def verify_lines(case: Case, body: bytes, request_id: str) -> Lines:
    """The header lines of that call: the back end of the policy's organization, or the operator's."""
    caller = ACME_VERIFIER if POLICIES.get(case.policy, {}).get("organization") == "acme" else VERIFIER
    return (
        ("Host", "gatekey.internal.example"),
        ("X-Request-Id", request_id),
        *pair(caller, VERIFIER_SECRET),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    )


def decorator_lines(case: Case, request_id: str) -> Lines | None:
    """The header lines of the client's own request, ``None`` where no decorated view can stand for the policy."""
    if case.policy not in PLAIN_POLICIES or case.context is not None or case.body_lines:
        return None
    if case.kind == "redirect" and case.method == "POST":
        return None  # a landing page follows; told apart in a test of its own
    return (
        ("Host", case.host),
        ("X-Request-Id", request_id),
        ("X-Forwarded-Proto", case.scheme),
        ("X-Forwarded-For", case.client_ip),
        *case.credentials,
        *case.extra,
    )


def whoami_lines(case: Case, request_id: str) -> Lines | None:
    """The same for ``/v1/whoami``, a decorated view without scopes at an address of its own."""
    if case.policy != "default" or case.method not in ("GET", "get"):
        return None
    presented = {value for name, value in case.credentials if name.lower() == "x-api-key"}
    own = {"own-paths", *(name for name, fields in KEYS.items() if "/v1" in "".join(fields.get("domains", ())))}
    return None if presented & own or case.method != "GET" else decorator_lines(case, request_id)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _is_trimmed(value: str | bytes) -> bool:
    return _text(value) != _text(value).strip(" \t")
