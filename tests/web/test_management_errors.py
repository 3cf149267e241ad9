"""What goes wrong in the management API: bodies that cannot be used, stores that fail. Nothing of it is a 500."""

from __future__ import annotations

import json
from itertools import count
from string import printable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest
from hypothesis import example, given, settings
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
from tests.support.in_process import ask
from tests.support.keys import DOMAIN, SECRET, make_key, make_organization
from tests.support.management_api import HOST, OPERATOR, Api, credentials, mismatch
from tests.support.servers import key_line

if TYPE_CHECKING:
    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

KEYS = "/v1/organizations/acme/keys"
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


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
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
LIKELY = st.sampled_from(
    [
        "1d",
        "5200w",
        0,
        True,
        False,
        "2027-01-01T00:00:00Z",
        ["b.example"],
        ["orders:*"],
        ["192.0.2.0/24"],
        {"a": [1]},
        "x",
    ]
)
_FUZZ = settings(max_examples=40, deadline=None)
_numbers = count()


class Fuzzed(NamedTuple):
    """An operation with a body that it takes; ``{org}``, ``{key}`` and ``{new}`` are this example's own."""

    method: str
    target: str
    base: dict[str, Any]
    fields: list[str]


FUZZED = [
    Fuzzed("POST", "/v1/organizations", {"organization_id": "{new}"}, ["organization_id", "name"]),
    Fuzzed("PATCH", "/v1/organizations/{org}", {"is_active": False}, ["is_active"]),
    Fuzzed("POST", "/v1/organizations/{org}/keys", {"domains": ["a.example"]}, [*KeyDraft.__slots__, "expires_in"]),
    Fuzzed("PATCH", "/v1/keys/{key}", {"name": "new"}, [*KeyDraft.__slots__, "expires_in", "is_active"]),
    Fuzzed("POST", "/v1/keys/{key}/rotate", {}, ["grace", "limit", "cancel", "cut"]),
    Fuzzed("POST", "/v1/keys/{key}/revoke", {}, ["reason"]),
    Fuzzed(
        "POST",
        "/v1/keys/verify",
        {"api_key": "{key}", "secret_token": SECRET, "domain": DOMAIN},
        ["api_key", "secret_token", "domain", "scopes", "client_ip", "origin"],
    ),
]


def example_of(logged: LoggedGatekey) -> dict[str, str]:
    """An organization and a key of it, both made now and known by one name, and the name of what is not there yet."""
    number = next(_numbers)
    name = f"fuzzed-{number}"
    secret = logged.gatekey.settings.make_peppers().hash(SECRET)
    organization, key = make_organization(name), make_key(name, secret=secret, key_id=name, organization_id=name)
    logged.gatekey.portal.run(logged.gatekey.store.add_many, [organization], [key])
    return {"org": name, "key": name, "new": f"new-{number}"}


def is_well_answered(api: Api, method: str, target: str, headers: dict[str, str], raw: bytes = b"") -> RawResponse:
    lines = {"Host": HOST, **credentials(OPERATOR), **headers}
    answer = ask(api.app, method, target, tuple(lines.items()), raw)
    assert answer.status < 500, answer.body
    assert not mismatch(api.document, method, target, answer)
    return answer


@pytest.mark.parametrize("fuzzed", FUZZED, ids=lambda fuzzed: f"{fuzzed.method} {fuzzed.target}")
def test_no_body_is_a_500(logged: LoggedGatekey, api: Api, fuzzed: Fuzzed) -> None:
    """Whatever JSON stands in place of a body that is taken, or of its fields, the answer is one of those described."""
    statuses = set()

    @_FUZZ
    @example(fuzzed.base)
    @given(
        st.dictionaries(st.sampled_from([*fuzzed.fields, "x"]), LIKELY | JSON, max_size=3).map(fuzzed.base.__or__)
        | JSON
    )
    def send(body: Any) -> None:
        own = example_of(logged)
        raw = json.dumps(body).replace("{new}", own["new"]).replace("{key}", own["key"]).encode()
        headers = {"Content-Type": "application/json"}
        statuses.add(is_well_answered(api, fuzzed.method, fuzzed.target.format(**own), headers, raw).status)

    send()
    assert statuses & {200, 201}, "nothing got past the checks of the body"
    assert 422 in statuses


QUERIED = {
    "/v1/keys": "limit=1&name=a&state=active&expiring_before=2027-01-01T00:00:00Z",
    KEYS: "limit=1&active=1&cursor=key_1",
    "/v1/organizations": "limit=1&cursor=acme",
    "/v1/audit": "limit=1&organization_id=acme&cursor=1",
    "/v1/keys/key_acme-admin/usage": "by=hour&since=2026-01-02T00:00:00Z&until=2026-01-02T06:00:00Z",
}
NAMES = ["limit", "cursor", "name", "state", "active", "since", "until", "by", "expiring_before", "x"]


@pytest.mark.parametrize(("target", "good"), QUERIED.items(), ids=QUERIED)
def test_no_query_is_a_500(api: Api, target: str, good: str) -> None:
    """Parameters of any text, beside good ones or in their place."""
    statuses = set()
    values = (
        st.sampled_from(["1", "a", "active", "hour", "2026-01-02T00:00:00Z"])
        | st.text(printable, max_size=24)
        | st.from_regex(r"%[0-9A-F]{2}", fullmatch=True)
    )

    @_FUZZ
    @example([])
    @given(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=3))
    def send(query: list[tuple[str, str]]) -> None:
        spoilt = {name for name, _ in query}
        kept = [part for part in good.split("&") if part.partition("=")[0] not in spoilt]
        text = "&".join([*kept, *(f"{name}={value}" for name, value in query)])
        statuses.add(is_well_answered(api, "GET", f"{target}?{text}", {}).status)

    send()
    assert statuses >= {200, 422}


@pytest.mark.parametrize(
    ("method", "target", "name", "body", "found"),
    [
        ("GET", "/v1/keys/{key}", "If-None-Match", None, {200, 304}),
        ("PATCH", "/v1/keys/{key}", "If-Match", {"name": "new"}, {200, 412}),
        ("DELETE", "/v1/keys/{key}", "If-Match", None, {200, 412}),
        ("POST", "/v1/keys/{key}/revoke", "Idempotency-Key", None, {200, 400}),
    ],
)
def test_no_header_is_a_500(
    logged: LoggedGatekey, api: Api, *, method: str, target: str, name: str, body: Any, found: set[int]
) -> None:
    """Neither tags nor a key of idempotency, about a key that is there."""
    statuses = set()
    text = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=30)

    @_FUZZ
    @example("*")
    @example('"1"')
    @example('"2", W/"x"')
    @example("\x80")
    @given(st.sampled_from(['W/"1"', '"1", "2"', '"0"', '"', "1"]) | text)
    def send(value: str) -> None:
        raw, headers = (json.dumps(body).encode(), {"Content-Type": "application/json"}) if body else (b"", {})
        own = target.format(**example_of(logged))
        statuses.add(is_well_answered(api, method, own, {name: value, **headers}, raw).status)

    send()
    assert statuses >= found


def test_no_import_is_a_500(api: Api) -> None:
    """Lines of any bytes, and lines that are good but for some of their fields."""
    created = refused = 0
    fields = st.sampled_from([*orjson.loads(key_line("any")), "state", "previous_secret_hash", "x"])
    lines = st.dictionaries(fields, LIKELY | JSON, max_size=2)

    @_FUZZ
    @example(b"", {})
    @given(st.binary(max_size=60), lines)
    def send(raw: bytes, spoilt: dict[str, Any]) -> None:
        nonlocal created, refused
        line = orjson.loads(key_line(f"imported-{next(_numbers)}")) | spoilt
        data = json.dumps(line).encode() + b"\n" + raw
        headers = {"Content-Type": "application/x-ndjson"}
        report = is_well_answered(api, "POST", "/v1/keys/import?continue=1", headers, data).json()
        created += report["created"]
        refused += report["refused"]

    send()
    assert created
    assert refused
