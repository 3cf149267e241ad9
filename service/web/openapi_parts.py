"""Parts of the API's description that many operations share: parameters, headers, ways to authenticate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from service.auth.key_fields import KEY_ID, SLUG
from service.web.schemas.key_answers import IssuedKeyView, KeyView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.routing import Rule

    from service.web.openapi_operation import Operation

__all__ = ["HEADERS", "PARAMETERS", "SECURITY", "TAGS", "headers_of", "parameters_of", "security_of"]

TAGS: Final[Mapping[str, str]] = {
    "Organizations": "Tenants that own keys.",
    "Keys": "Credentials of an organization's clients.",
    "Usage and audit": "What keys did, and what was done to them.",
    "Credentials": "What credentials are worth.",
}
"""What operations are grouped by, in the order in which they are shown."""

SECURITY: Final[Mapping[str, dict[str, Any]]] = {
    "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "Together with x-secret-token."},
    "secret_token": {
        "type": "apiKey",
        "in": "header",
        "name": "x-secret-token",
        "description": "Together with x-api-key.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "`<api_key>.<secret_token>`, joined by a dot."},
    "basic": {"type": "http", "scheme": "basic", "description": "The api_key as user, the secret_token as password."},
}
_TEXT: Final = {"type": "string"}

HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Request-Id": {"description": "The caller's, or a new one; it is in the log line too.", "schema": _TEXT},
    "ETag": {"description": 'The key\'s version, such as `"7"`.', "schema": _TEXT},
    "Location": {"description": "Where the answer's object is found.", "schema": _TEXT},
    "Idempotent-Replayed": {
        "description": "`true`: this is the answer that the same request got before, without the secret.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "WWW-Authenticate": {"description": "The challenge.", "schema": _TEXT},
    "Allow": {"description": "What the address takes.", "schema": _TEXT},
}

PARAMETERS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "key_id": (
        "path",
        {
            "description": "The key's public identifier.",
            "schema": {"type": "string", "pattern": f"^{KEY_ID}$"},
        },
    ),
    "organization_id": ("path", {"schema": {"type": "string", "pattern": f"^{SLUG}$"}}),
    "if_match": (
        "header",
        {"name": "If-Match", "description": "Do it only if this is still the key's ETag; else 412.", "schema": _TEXT},
    ),
    "if_none_match": (
        "header",
        {"name": "If-None-Match", "description": "304 if this is still the key's ETag.", "schema": _TEXT},
    ),
    "idempotency_key": (
        "header",
        {
            "name": "Idempotency-Key",
            "description": "Any text of the caller's, new for each request that is meant anew. The same request with the "
            "same text within 24 hours is not carried out again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        },
    ),
}

_OF_STATUS: Final = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}


def security_of(scope: str) -> list[dict[str, list[str]]]:
    """The ways to authenticate, any one of them; the first needs two headers."""
    scopes = [scope] if scope else []
    return [{"api_key": scopes, "secret_token": scopes}, {"bearer": scopes}, {"basic": scopes}]


def headers_of(status: int, operation: Operation | None = None) -> dict[str, Any]:
    """The headers of an answer, by name."""
    names = ["X-Request-Id"]
    if status in _OF_STATUS:
        names.append(_OF_STATUS[status])
    if operation is not None:
        if operation.answers_with(KeyView):
            names.append("ETag")
        if status in (201, 302) or operation.answers_with(IssuedKeyView):
            names.append("Location")
        if operation.idempotent:
            names.append("Idempotent-Replayed")
    return {name: name for name in names}


def parameters_of(rule: Rule, operation: Operation, *, method: str) -> list[Any]:
    """What an operation takes beside its body: names of ``PARAMETERS``, and its query."""
    named = sorted(rule.arguments)
    if operation.versioned:
        named.append("if_match")
    if 304 in operation.answers:  # noqa: PLR2004 - a status
        named.append("if_none_match")
    if operation.idempotent and method == "POST":
        named.append("idempotency_key")
    return [*named, *_query(operation)]


def _query(operation: Operation) -> list[dict[str, Any]]:
    schema = operation.query.model_json_schema()
    found = []
    for name, field in schema.get("properties", {}).items():
        shape = _not_null(field)
        parameter = {"in": "query", "name": name, "schema": shape}
        description = field.get("description") or shape.pop("description", "")
        if description:
            shape.pop("description", None)
            parameter["description"] = description
        found.append(parameter)
    return found


def _not_null(field: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out; it cannot be ``null``."""
    shape = {name: value for name, value in field.items() if name not in ("title", "anyOf", "default")}
    for choice in field.get("anyOf", ()):
        if choice.get("type") != "null":
            shape |= choice
    if field.get("default") is not None:
        shape["default"] = field["default"]
    return shape
