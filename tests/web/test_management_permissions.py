"""Who may do what to whose keys: every operation by every kind of caller on every kind of target, from one rule."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

from tests.support import leaks
from tests.support.in_process import logged_gatekey
from tests.support.keys import DOMAIN, SECRET, make_key
from tests.support.management_api import (
    ACME,
    ACME_PLAIN,
    ACME_READER,
    ACME_WRITER,
    GLOBEX,
    LINES,
    NOBODY,
    OPERATOR,
    OPERATOR_READER,
    OPERATOR_WRITER,
    READ,
    WRITE,
    Api,
    remembered,
)
from tests.support.servers import key_line

if TYPE_CHECKING:
    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

CALLERS = {
    OPERATOR: ("gatekey", {READ, WRITE}),
    OPERATOR_READER: ("gatekey", {READ}),
    OPERATOR_WRITER: ("gatekey", {WRITE}),
    ACME: ("acme", {READ, WRITE}),
    ACME_READER: ("acme", {READ}),
    ACME_WRITER: ("acme", {WRITE}),
    ACME_PLAIN: ("acme", set[str]()),
    GLOBEX: ("globex", {READ, WRITE}),
}
ORGANIZATIONS = ("acme", "globex", "missing")
NDJSON = {"Content-Type": "application/x-ndjson"}


class Op(NamedTuple):
    """``{organization_id}`` and ``{key_id}`` stand for the target; ``good`` is the status where the caller may."""

    method: str
    target: str
    scope: str
    body: Any = None
    good: int = 200
    operators_only: bool = False


OPERATIONS = [
    Op("GET", "/v1/organizations/{organization_id}", READ),
    Op("PATCH", "/v1/organizations/{organization_id}", WRITE, {"is_active": True}, operators_only=True),
    Op("GET", "/v1/organizations/{organization_id}/keys", READ),
    Op("POST", "/v1/organizations/{organization_id}/keys", WRITE, {"domains": [DOMAIN]}, good=201),
    Op("GET", "/v1/keys?organization_id={organization_id}", READ),
    Op("GET", "/v1/keys/{key_id}", READ),
    Op("PATCH", "/v1/keys/{key_id}", WRITE, {"name": "new"}),
    Op("DELETE", "/v1/keys/{key_id}", WRITE),
    Op("POST", "/v1/keys/{key_id}/rotate", WRITE),
    Op("POST", "/v1/keys/{key_id}/revoke", WRITE),
    Op("GET", "/v1/keys/{key_id}/usage", READ),
    Op("GET", "/v1/keys/export?organization_id={organization_id}", READ),
    Op("GET", "/v1/audit?organization_id={organization_id}", READ),
]
COLLECTIONS = [
    Op("GET", "/v1/organizations", READ),
    Op("POST", "/v1/organizations", WRITE, good=201, operators_only=True),
    Op("POST", "/v1/keys/import", WRITE),
]
"""What is about no one organization or key."""


def expected(op: Op, caller: str, organization: str) -> int:
    """The rule of contract 1 and 3, in the order in which it is asked."""
    own, scopes = CALLERS[caller]
    if op.scope not in scopes:
        return 403
    if organization == "missing" or own not in ("gatekey", organization):
        return 404
    return 403 if op.operators_only and own != "gatekey" else op.good


_numbers = count()


def target_of(logged: LoggedGatekey, op: Op, organization: str) -> str:
    """The operation's address, about a key of its own where it is about a key."""
    key_id = f"key_target{next(_numbers)}"
    if organization != "missing" and "{key_id}" in op.target:
        record = make_key(f"target-{key_id}", key_id=key_id, organization_id=organization)
        logged.gatekey.portal.run(logged.gatekey.store.add, record)
    return op.target.format(organization_id=organization, key_id=key_id)


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: f"{op.method} {op.target}")
def test_an_operation_is_for_those_who_have_its_scope_and_reach_its_target(
    logged: LoggedGatekey, api: Api, op: Op
) -> None:
    """Every caller on a target of its own organization, of another one, and on none."""
    found, wanted = {}, {}
    for caller in CALLERS:
        for organization in ORGANIZATIONS:
            answer = api.ask(op.method, target_of(logged, op, organization), op.body, key=caller)
            if answer.status in (200, 201) and op.method == "POST":
                remembered(answer)
            found[caller, organization] = answer.status
            wanted[caller, organization] = expected(op, caller, organization)
    assert found == wanted


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: f"{op.method} {op.target}")
def test_without_credentials_nothing_is_told(logged: LoggedGatekey, api: Api, op: Op) -> None:
    """401 in JSON, for a target that exists as for one that does not."""
    answers = [
        anonymous(api.ask(op.method, target_of(logged, op, organization), op.body, key=NOBODY))
        for organization in ORGANIZATIONS
    ]
    assert answers[0][0] == 401
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: f"{op.method} {op.target}")
def test_what_is_another_organizations_looks_like_what_is_missing(logged: LoggedGatekey, api: Api, op: Op) -> None:
    """Byte for byte, headers included, the request's id aside."""
    foreign, missing = (
        anonymous(api.ask(op.method, target_of(logged, op, organization), op.body, key=ACME))
        for organization in ("globex", "missing")
    )
    assert foreign[0] == 404
    assert foreign == missing


def of_collection(api: Api, op: Op, caller: str) -> int:
    """The status for a caller whose body is about its own organization, and new."""
    number = next(_numbers)
    if op.target.endswith("/import"):
        line = key_line(f"imported-{number}", organization_id=CALLERS[caller][0])
        return api.ask(op.method, op.target, raw=line, headers=NDJSON, key=caller).status
    body = {"organization_id": f"made-{number}"} if op.method == "POST" else None
    return api.ask(op.method, op.target, body, key=caller).status


@pytest.mark.parametrize("op", COLLECTIONS, ids=lambda op: f"{op.method} {op.target}")
def test_an_operation_without_a_target_is_for_those_who_have_its_scope(api: Api, op: Op) -> None:
    """Whatever of it a caller reaches is another question; without credentials nobody does anything."""
    found = {caller: of_collection(api, op, caller) for caller in CALLERS}
    assert found == {caller: expected(op, caller, own) for caller, (own, _) in CALLERS.items()}
    assert api.ask(op.method, op.target, {} if op.method == "POST" else None, key=NOBODY).status == 401


def test_every_operation_of_the_api_is_in_the_tables_with_its_scope(api: Api) -> None:
    """As the application itself describes them; only what a key asks about itself and about others is tested elsewhere."""
    described = {
        (method.upper(), path, scope)
        for path, methods in api.ask("GET", "/openapi.json").json()["paths"].items()
        for method, operation in methods.items()
        for way in operation["security"]
        for scopes in way.values()
        for scope in scopes or [""]
    }
    elsewhere = {("GET", "/v1/whoami", ""), ("POST", "/v1/keys/verify", "gatekey:verify")}
    tested = {(op.method, op.target.partition("?")[0], op.scope) for op in (*OPERATIONS, *COLLECTIONS)}
    assert described == tested | elsewhere


def anonymous(answer: RawResponse) -> tuple[int, Any, bytes]:
    """Without the request's id."""
    headers = [(name, value) for name, value in answer.headers if name != "x-request-id"]
    return answer.status, headers, re.sub(rb'"request_id":"\w+"', b"", answer.body)


@pytest.mark.parametrize(
    ("caller", "status"),
    [(OPERATOR, 201), (OPERATOR_WRITER, 201), (ACME, 403), (GLOBEX, 403), (OPERATOR_READER, 403), (NOBODY, 401)],
)
def test_only_operators_make_organizations(api: Api, caller: str, status: int) -> None:
    """Also where the organization exists already: others do not learn that."""
    body = {"organization_id": f"made-by-{caller or 'nobody'}"}
    assert api.ask("POST", "/v1/organizations", body, key=caller).status == status
    if status == 403:
        assert api.ask("POST", "/v1/organizations", {"organization_id": "globex"}, key=caller).status == 403


def test_listings_hold_what_the_caller_reaches(api: Api) -> None:
    """The operator all, others their own."""
    for caller, own in ((OPERATOR_READER, ""), (ACME_READER, "acme"), (GLOBEX, "globex")):
        organizations = {
            item["organization_id"] for item in api.ask("GET", "/v1/organizations", key=caller).json()["items"]
        }
        keys = {item["organization_id"] for item in api.ask("GET", "/v1/keys?limit=1000", key=caller).json()["items"]}
        exported = {
            orjson.loads(line)["organization_id"]
            for line in api.ask("GET", "/v1/keys/export", key=caller).body.splitlines()
        }
        if own:
            assert organizations == keys == exported == {own}
        else:
            assert organizations >= {"acme", "globex", "gatekey"}
            assert keys == exported == {"acme", "globex", "gatekey"}


@pytest.mark.parametrize(
    ("caller", "organization", "scopes", "status"),
    [
        (ACME_WRITER, "acme", ["orders:*", "anything"], 201),
        (ACME_WRITER, "acme", [WRITE], 201),
        (ACME_WRITER, "acme", [READ], 403),
        (ACME_WRITER, "acme", ["gatekey:verify"], 403),
        (OPERATOR_WRITER, "acme", [READ], 403),
        (OPERATOR_WRITER, "gatekey", [READ, WRITE], 403),
        (OPERATOR, "gatekey", [READ, WRITE, "gatekey:verify"], 201),
        (OPERATOR, "acme", [READ], 201),
        (OPERATOR, "acme", ["gatekey:*"], 422),
        (OPERATOR, "acme", ["*"], 422),
    ],
)
def test_a_scope_of_gatekey_s_own_is_granted_only_by_who_has_it(
    api: Api, caller: str, organization: str, scopes: list[str], status: int
) -> None:
    """Any other scope by anybody; by an import as by a creation or a change."""
    made = api.ask(
        "POST", f"/v1/organizations/{organization}/keys", {"domains": [DOMAIN], "scopes": scopes}, key=caller
    )
    assert made.status == status
    plain = api.create(organization)
    changed = api.ask("PATCH", f"/v1/keys/{plain['key_id']}", {"scopes": scopes}, key=caller)
    assert changed.status == (200 if status == 201 else status)
    if status == 201:
        remembered(made)
    line = {"organization_id": organization, "api_key": f"imported-{next(_numbers)}", "secret_token": SECRET}
    imported = api.ask(
        "POST",
        "/v1/keys/import",
        raw=orjson.dumps({**line, "domains": [DOMAIN], "scopes": scopes}),
        headers=NDJSON,
        key=caller,
    )
    assert imported.status == (200 if status == 201 else 422)


def test_an_import_into_another_organization_says_the_same_as_into_a_missing_one(api: Api) -> None:
    """And makes none, where the caller is no operator."""
    leaks.register(SECRET)
    problems = []
    for organization in ("globex", "not-there"):
        line = {"organization_id": organization, "api_key": "smuggled", "secret_token": SECRET, "domains": [DOMAIN]}
        answer = api.ask(
            "POST",
            "/v1/keys/import",
            raw=orjson.dumps(line),
            headers=NDJSON,
            key=ACME,
        )
        assert answer.status == 422
        problems.append(answer.json()["report"]["lines"])
    assert problems[0] == problems[1] == [{"line": 1, "problem": problems[0][0]["problem"]}]
    assert api.ask("GET", "/v1/organizations/not-there").status == 404


def test_shadow_mode_opens_nothing_here() -> None:
    """It is for the doors of applications."""
    with logged_gatekey(LINES, environ={"GATEKEY_MODE": "shadow"}) as logged:
        assert Api(logged.app).ask("GET", "/v1/keys", key=ACME_PLAIN).status == 403
        assert Api(logged.app).ask("GET", "/v1/keys", key=NOBODY).status == 401


@pytest.mark.parametrize(("role", "status"), [("all", 200), ("app", 200), ("doors", 404)])
def test_processes_for_doors_do_not_serve_it(role: str, status: int) -> None:
    """``GATEKEY_ROLE``."""
    with logged_gatekey(LINES, environ={"GATEKEY_ROLE": role}) as logged:
        api = Api(logged.app)
        assert [api.ask("GET", path).status for path in ("/v1/keys", "/openapi.json", "/docs")] == [status] * 3
