"""What goes wrong in the management API: bodies that cannot be used, stores that fail. Nothing of it is a 500."""

from __future__ import annotations

from string import printable
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.errors import (
    Conflict,
    NotFound,
    StoreClosed,
    StoreCorrupt,
    StoreNotReady,
    StoreUnavailable,
    StoreUnfit,
    VersionConflict,
)
from backends.memory import MemoryKeyStore
from service.manage.errors import Forbidden, Invalid
from service.manage.manager import KeyManager
from service.manage.model import KeyDraft
from tests.support import leaks
from tests.support.in_process import ask, logged_gatekey
from tests.support.management_api import HOST, LINES, OPERATOR, Api, credentials, mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey

KEYS = "/v1/organizations/acme/keys"
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture(scope="module")
def logged() -> Iterator[LoggedGatekey]:
    with logged_gatekey(LINES) as found:
        yield found


@pytest.fixture
def api(logged: LoggedGatekey) -> Api:
    return Api(logged.app)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"domains": "api.example.com"}, "domains"),
        ({"domains": []}, "domains"),
        ({"domains": None}, "domains"),
        ({"domains": ["https://a.example/../b"]}, "domains"),
        ({"domains": [1]}, "domains.0"),
        ({"domains": ["x" * 2049]}, "domains.0"),
        ({"domains": ["a.example"] * 1001}, "domains"),
        ({"scopes": ["orders read"]}, "scopes"),
        ({"scopes": ["s" * 65]}, "scopes.0"),
        ({"scopes": [f"scope:{n}" for n in range(33)]}, "scopes"),
        ({"origins": ["app.example.com"]}, "origins"),
        ({"networks": ["192.0.2.1/24"]}, "networks"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": "2026-02-03T04:05:06"}, "expires_at"),
        ({"expires_at": 1}, "expires_at"),
        ({"expires_in": "90"}, "expires_in"),
        ({"expires_in": 1.5}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"expires_in": -1}, "expires_in"),
        ({"expires_in": "999999999w"}, "expires_in"),
        ({"expires_in": 10**17}, "expires_in"),
        ({"expires_in": "1d", "expires_at": "2027-01-01T00:00:00Z"}, "body"),
        ({"critical": "yes"}, "critical"),
        ({"critical": 1}, "critical"),
        ({"env": "prod"}, "env"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": None}, "name"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "x" * 8192}}, "metadata"),
        ({"nmae": "x"}, "nmae"),
        ({"api_key": "chosen"}, "api_key"),
        ({"N\u00e4me": 1}, "(a name that is none)"),
    ],
)
def test_a_field_that_cannot_be_used_is_422_and_named(api: Api, fields: dict[str, Any], field: str) -> None:
    """In words and for programs; the value is not repeated."""
    answer = api.ask("POST", KEYS, {"domains": ["a.example"], **fields})
    assert (answer.status, answer.json()["code"]) == (422, "unprocessable_content")
    assert [item["field"] for item in answer.json()["errors"]] == [field]
    assert answer.json()["detail"].startswith(f"{field}: ")


def test_several_problems_are_told_together(api: Api) -> None:
    """Each with its field."""
    answer = api.ask("POST", KEYS, {"name": 1, "critical": "no", "what": 1})
    assert {item["field"]: item["problem"] for item in answer.json()["errors"]} == {
        "domains": "is missing",
        "name": "Input should be a valid string",
        "critical": "Input should be a valid boolean",
        "what": "is not known here",
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/organizations", {"organization_id": "Acme"}, "organization_id"),
        ("POST", "/v1/organizations", {"organization_id": "a" * 64}, "organization_id"),
        ("POST", "/v1/organizations", {}, "organization_id"),
        ("PATCH", "/v1/organizations/acme", {"is_active": None}, "is_active"),
        ("PATCH", "/v1/organizations/acme", {"name": "x", "is_active": True}, "name"),
        ("PATCH", "/v1/keys/key_acme-admin", {}, "body"),
        ("PATCH", "/v1/keys/key_acme-admin", {"name": None}, "name"),
        ("PATCH", "/v1/keys/key_acme-admin", {"domains": []}, "domains"),
        ("PATCH", "/v1/keys/key_acme-admin", {"state": "revoked"}, "state"),
        ("POST", "/v1/keys/key_acme-admin/rotate", {"cancel": True, "cut": True}, "body"),
        ("POST", "/v1/keys/key_acme-admin/rotate", {"cancel": True, "grace": 0}, "body"),
        ("POST", "/v1/keys/key_acme-admin/rotate", {"grace": "1 day"}, "grace"),
        ("POST", "/v1/keys/key_acme-admin/revoke", {"reason": "x"}, "reason"),
    ],
)
def test_every_body_is_checked(api: Api, method: str, path: str, body: Any, field: str) -> None:
    """What is optional may be left out, not be anything."""
    answer = api.ask(method, path, body)
    assert answer.status == 422
    assert [item["field"] for item in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("media_type", "raw", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"", 400),
        ("application/json", b"\xff", 400),
        ("application/json", b'{"domains":[NaN]}', 400),
        ("application/json", b"[" * 5000, 400),
        ("application/json", b"[]", 422),
        ("application/json", b"null", 422),
        ("application/json; charset=utf-8", b"{}", 422),
        ("text/plain", b"{}", 415),
        ("application/x-www-form-urlencoded", b"a=b", 415),
        ("", b"{}", 415),
    ],
)
def test_what_is_no_json_is_told_apart(api: Api, media_type: str, raw: bytes, status: int) -> None:
    """400 for nonsense, 415 for another type, 422 for another form."""
    assert api.ask("POST", KEYS, raw=raw, headers={"Content-Type": media_type}).status == status


@pytest.mark.parametrize(
    ("raw", "field", "problem"),
    [
        (b'{"domains":["a.example"],"domains":["b.example"]}', "body", "a field stands twice"),
        (b'{"domains":["a.example"],"metadata":{"a":1,"a":2}}', "body", "a field stands twice"),
        (b'{"domains":["a.example"],"metadata":{"n":%d}}' % 2**70, "metadata", "holds a number or a text"),
        (b'{"domains":["a.example"],"metadata":%s1%s}' % (b'{"a":' * 250, b"}" * 250), "metadata", ""),
    ],
    ids=["twice", "twice inside", "large number", "deep"],
)
def test_a_body_that_readers_would_understand_differently_is_422(
    api: Api, raw: bytes, field: str, problem: str
) -> None:
    """What is stored is what was sent, or nothing is."""
    answer = api.ask("POST", KEYS, raw=raw, headers={"Content-Type": "application/json"})
    assert answer.status == 422, answer.body
    assert answer.json()["errors"][0]["field"] == field
    assert problem in answer.json()["errors"][0]["problem"]


def test_an_operator_is_told_what_to_do_about_a_key_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, api: Api
) -> None:
    """Asking again will not help; what is wrong with it stays inside."""

    async def fail(*_arguments: Any, **_options: Any) -> Any:
        raise StoreCorrupt("the stored key's domains is missing or wrong")

    monkeypatch.setattr(MemoryKeyStore, "get", fail)
    answer = api.ask("GET", "/v1/keys/key_1")
    assert answer.status == 503
    assert answer.json()["detail"] == "What is stored for this key cannot be read; delete the key."


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/organizations", "GET, HEAD, OPTIONS, POST"),
        ("/v1/organizations/acme", "GET, HEAD, OPTIONS, PATCH"),
        (KEYS, "GET, HEAD, OPTIONS, POST"),
        ("/v1/keys", "GET, HEAD, OPTIONS"),
        ("/v1/keys/key_1", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/v1/keys/key_1/rotate", "OPTIONS, POST"),
        ("/v1/keys/key_1/revoke", "OPTIONS, POST"),
        ("/v1/keys/key_1/usage", "GET, HEAD, OPTIONS"),
        ("/v1/keys/import", "OPTIONS, POST"),
        ("/v1/keys/export", "GET, HEAD, OPTIONS"),
        ("/v1/keys/verify", "OPTIONS, POST"),
        ("/v1/audit", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_an_address_does_not_take_is_405(api: Api, path: str, allow: str) -> None:
    """With those that it does."""
    answer = api.ask("PUT", path, {})
    assert (answer.status, answer.header("allow")) == (405, allow)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/keys/",
        "/v1/keys/a%00b",
        "/v1/keys/a%20b",
        f"/v1/keys/{'k' * 65}",
        "/v1/keys/key_none",
        "/v1/keys/key_none/usage",
        "/v1/organizations/Acme",
        "/v1/organizations/-acme",
        "/v1/organizations/none/keys",
        "/v1/organizations/acme/keys/",
        "/v1/nothing",
    ],
)
def test_what_is_at_no_address_is_404(api: Api, path: str) -> None:
    """An identifier that cannot be one looks as one that is not there."""
    answer = api.ask("GET", path)
    assert (answer.status, answer.json()["detail"]) == (404, "There is nothing at this address.")


def test_a_taken_name_is_409(api: Api) -> None:
    """And says what is taken."""
    answer = api.ask("POST", "/v1/organizations", {"organization_id": "acme"})
    assert (answer.status, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["detail"] == "The organization_id is taken."


ERRORS = [
    (NotFound("there is no such key"), 404, "not_found"),
    (Conflict("a revoked key stays revoked"), 409, "conflict"),
    (VersionConflict("the key was changed meanwhile"), 412, "precondition_failed"),
    (Invalid("scopes", "must be scopes"), 422, "unprocessable_content"),
    (Forbidden("this is not yours to grant"), 403, "forbidden"),
    (StoreUnavailable("postgres replace"), 503, "temporarily_unavailable"),
    (StoreNotReady("postgres replace"), 503, "temporarily_unavailable"),
    (StoreUnfit("postgres: the schema is too old"), 503, "temporarily_unavailable"),
    (StoreClosed("postgres replace"), 503, "temporarily_unavailable"),
    (StoreCorrupt("the stored key's domains is missing or wrong"), 503, "temporarily_unavailable"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    ("method", "path", "body", "function"),
    [
        ("PATCH", "/v1/keys/key_1", {"name": "x"}, "update_key"),
        ("GET", "/v1/keys/key_1", None, "get_key"),
        ("GET", "/v1/keys/export", None, "export"),
    ],
)
def test_every_exception_of_the_management_has_one_answer(
    monkeypatch: pytest.MonkeyPatch,
    api: Api,
    *,
    method: str,
    path: str,
    body: Any,
    function: str,
    error: Exception,
    status: int,
    code: str,
) -> None:
    """In the shape of every error; what a store says of itself stays inside, and 503 says when to ask again."""

    async def fail(*_arguments: Any, **_options: Any) -> Any:
        raise error

    async def fail_later(*_arguments: Any, **_options: Any) -> Any:
        raise error
        yield

    monkeypatch.setattr(KeyManager, function, fail_later if function == "export" else fail)
    answer = api.ask(method, path, body)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert answer.has("retry-after") == (status == 503)
    assert answer.header("content-type") == "application/problem+json"
    assert b"postgres" not in answer.body
    assert b"stored key" not in answer.body


def test_a_key_is_made_even_where_its_last_use_cannot_be_read(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    """Its secret is in this answer only."""

    async def fail(*_arguments: Any, **_options: Any) -> Any:
        raise StoreUnavailable("memory last_use")

    monkeypatch.setattr(KeyManager, "last_use", fail)
    assert api.create()["secret_token"].startswith("gks_")


def test_a_browser_without_a_key_gets_json_here(api: Api) -> None:
    """Nobody navigates to the management."""
    answer = api.ask("GET", "/v1/keys", key="", headers=NAVIGATION)
    assert (answer.status, answer.header("content-type")) == (401, "application/problem+json")


def test_no_secret_comes_back_in_an_error(api: Api) -> None:
    """Neither as a value nor as a mistyped name."""
    leaks.register("presented-to-the-management")
    for body in (
        {"domains": ["presented-to-the-management/"]},
        {"domains": ["a.example"], "presented-to-the-management": 1},
        {"domains": ["a.example"], "expires_at": "presented-to-the-management"},
        {"domains": ["a.example"], "env": "presented-to-the-management"},
    ):
        answer = api.ask("POST", KEYS, body)
        assert answer.status == 422
        leaks.check(answer.body.decode(), "a refusal of the management")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["organization_id", *KeyDraft.__slots__, "expires_in", "is_active", "grace", "limit", "cancel", "cut", "x"]
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from([["a.example"], "1d", True]), max_size=5)
TARGETS = [
    ("POST", "/v1/organizations"),
    ("PATCH", "/v1/organizations/initech"),
    ("POST", KEYS),
    ("PATCH", "/v1/keys/key_acme-plain"),
    ("POST", "/v1/keys/key_acme-plain/rotate"),
    ("POST", "/v1/keys/key_acme-plain/revoke"),
]
_FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_well_answered(api: Api, method: str, target: str, headers: dict[str, str], raw: bytes) -> None:
    lines = {"Host": HOST, **credentials(OPERATOR), **headers}
    answer = ask(api.app, method, target, tuple(lines.items()), raw)
    assert answer.status < 500, answer.body
    assert not mismatch(api.document, method, target, answer)


@_FUZZ
@given(target=st.sampled_from(TARGETS), body=BODIES | JSON)
def test_no_body_is_a_500(api: Api, target: tuple[str, str], body: Any) -> None:
    """Whatever JSON somebody sends, the answer is one of those that the description has."""
    try:
        raw = orjson.dumps(body)
    except TypeError:  # a number or a text that JSON has no place for
        return
    is_well_answered(api, *target, {"Content-Type": "application/json"}, raw)


@_FUZZ
@given(
    target=st.sampled_from(["/v1/keys", KEYS, "/v1/organizations", "/v1/audit", "/v1/keys/key_acme-admin/usage"]),
    query=st.lists(
        st.tuples(
            st.sampled_from(
                ["limit", "cursor", "name", "state", "active", "since", "until", "by", "expiring_before", "x"]
            ),
            st.text(printable, max_size=24) | st.from_regex(r"%[0-9A-F]{2}", fullmatch=True),
        ),
        max_size=3,
    ),
)
def test_no_query_is_a_500(api: Api, target: str, query: list[tuple[str, str]]) -> None:
    """Nor is any header about versions."""
    text = "&".join(f"{name}={value}" for name, value in query)
    is_well_answered(api, "GET", f"{target}?{text}", {}, b"")


@_FUZZ
@given(value=st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=30))
def test_no_header_is_a_500(api: Api, value: str) -> None:
    """Neither tags nor a key of idempotency."""
    for method, path, name in (
        ("GET", "/v1/keys/key_acme-admin", "If-None-Match"),
        ("POST", "/v1/keys/key_none/revoke", "If-Match"),
        ("POST", "/v1/keys/key_none/revoke", "Idempotency-Key"),
    ):
        is_well_answered(api, method, path, {name: value}, b"")


@_FUZZ
@given(raw=st.binary(max_size=60) | BODIES.map(lambda body: str(body).encode()))
def test_no_import_is_a_500(api: Api, raw: bytes) -> None:
    """Lines of any bytes."""
    is_well_answered(api, "POST", "/v1/keys/import?continue=1", {"Content-Type": "application/x-ndjson"}, raw)
