"""The management API as a test asks it: with somebody's key, and every answer held to ``/openapi.json``."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
from openapi_schema_validator import OAS31Validator

from service.web.openapi import describe_api
from tests.support import leaks
from tests.support.in_process import ask
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flask import Flask

    from tests.support.raw_http import RawResponse

OPERATOR = "operator"
OPERATOR_READER = "operator-reader"
OPERATOR_WRITER = "operator-writer"
ACME = "acme-admin"
ACME_READER = "acme-reader"
ACME_WRITER = "acme-writer"
ACME_PLAIN = "acme-plain"
GLOBEX = "globex-admin"
NOBODY = ""

READ, WRITE = "gatekey:read", "gatekey:write"
HOST = "gatekey.internal.example"
LINES = [
    key_line(name, organization_id=organization, domains=["@gatekey"], scopes=scopes, key_id=f"key_{name}")
    for name, organization, scopes in (
        (OPERATOR, "gatekey", [READ, WRITE, "gatekey:verify"]),
        (OPERATOR_READER, "gatekey", [READ]),
        (OPERATOR_WRITER, "gatekey", [WRITE]),
        (ACME, "acme", [READ, WRITE]),
        (ACME_READER, "acme", [READ]),
        (ACME_WRITER, "acme", [WRITE]),
        (ACME_PLAIN, "acme", ["orders:*"]),
        (GLOBEX, "globex", [READ, WRITE]),
    )
]
"""Keys of everybody who asks; their ``key_id`` is ``key_`` and the name."""


class Api:
    """Asks an application in this process; ``pair`` gives the credentials of a name."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.document = document_of(app)

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        key: str = OPERATOR,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> RawResponse:
        """One request by ``key`` (``NOBODY``: without credentials), with ``body`` as JSON or ``raw`` as it is."""
        lines = {"Host": HOST, **credentials(key)}
        data = b"" if raw is None else raw
        if body is not None:
            lines["Content-Type"] = "application/json"
            data = orjson.dumps(body)
        answer = ask(self.app, method, target, tuple({**lines, **(headers or {})}.items()), data)
        self.check(method, target, answer)
        return answer

    def create(self, organization_id: str = "acme", *, key: str = OPERATOR, **fields: Any) -> dict[str, Any]:
        """A new key, as its creation showed it; its secret is registered."""
        body = {"domains": ["api.example.com"], **fields}
        answer = self.ask("POST", f"/v1/organizations/{organization_id}/keys", body, key=key)
        assert answer.status == 201, answer.body
        return remembered(answer)

    def check(self, method: str, target: str, answer: RawResponse) -> None:
        """Fail unless the description says that such an answer may come."""
        problem = mismatch(self.document, method, target, answer)
        assert not problem, problem


def credentials(key: str) -> dict[str, str]:
    """The two headers of one of ``LINES``."""
    from tests.support.keys import SECRET

    return {"x-api-key": key, "x-secret-token": SECRET} if key else {}


def remembered(answer: RawResponse) -> dict[str, Any]:
    """The body of an answer, the secret in it known to the search for leaks."""
    body: dict[str, Any] = answer.json()
    if body.get("secret_token"):
        leaks.register(body["secret_token"])
    return body


_documents: dict[str, dict[str, Any]] = {}


def document_of(app: Flask) -> dict[str, Any]:
    """The description; the same for every application of these tests, and slow to make."""
    if "made" not in _documents:
        _documents["made"] = describe_api(app)
    return _documents["made"]


def mismatch(document: dict[str, Any], method: str, target: str, answer: RawResponse) -> str:
    """Why the description does not allow the answer, ``""`` if it does (or is not about such an address)."""
    operation = _operation(document, method, target.partition("?")[0])
    if operation is None:
        return ""
    responses = operation["responses"]
    response = _resolved(document, responses.get(str(answer.status), responses["default"]))
    content = response.get("content", {})
    media_type = answer.header("content-type").partition(";")[0] if answer.has("content-type") else ""
    if not content:
        return "" if not answer.body else f"{answer.status} has a body that is not described"
    if media_type not in content:
        return f"{answer.status} has the media type {media_type}, described are {list(content)}"
    if media_type == "application/x-ndjson":
        return ""
    schema = {**content[media_type]["schema"], "components": document["components"]}
    errors = [f"{error.json_path}: {error.message}" for error in OAS31Validator(schema).iter_errors(answer.json())]
    missing = [
        name
        for name in response.get("headers", {})
        if name not in ("Idempotent-Replayed", "Allow") and not answer.has(name.lower())
    ]
    return "; ".join([*errors, *(f"the header {name} is missing" for name in missing)])


def _operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    for template, methods in sorted(document["paths"].items(), key=lambda item: "{" in item[0]):
        if _pattern(template).fullmatch(path) and method.lower() in methods:
            found: dict[str, Any] = methods[method.lower()]
            return found
    return None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)))


def _resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        place = document
        for part in found["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        found = place
    return found


def pages(api: Api, target: str, *, key: str = OPERATOR, cursor: str | None = "") -> Iterator[dict[str, Any]]:
    """Every item of a listing (after ``cursor``), page by page."""
    separator = "&" if "?" in target else "?"
    while cursor is not None:
        answer = api.ask("GET", target + (f"{separator}cursor={cursor}" if cursor else ""), key=key)
        assert answer.status == 200, answer.body
        yield from answer.json()["items"]
        cursor = answer.json()["next_cursor"]


def names(items: Iterable[Mapping[str, Any]], field: str = "key_id") -> list[str]:
    """One field of each."""
    return [item[field] for item in items]
