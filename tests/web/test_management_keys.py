"""A key's life through the API: made, changed, rotated, disabled, revoked, deleted; and what each answer holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.clock import FakeClock
from tests.support.in_process import logged_gatekey
from tests.support.management_api import ACME, LINES, OPERATOR, Api, remembered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

FIELDS = {
    "key_id", "organization_id", "api_key", "name", "domains", "scopes", "origins", "networks", "state", "is_active",
    "critical", "expires_at", "metadata", "created_at", "updated_at", "version", "rotation", "last_used_at",
}  # fmt: skip


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def logged(clock: FakeClock) -> Iterator[LoggedGatekey]:
    with logged_gatekey(LINES, clock=clock) as found:
        yield found


def verdict(api: Api, key: dict[str, Any], secret: str | None = None) -> Any:
    """``True``, or the code of the refusal, of a request with the key's secret (or ``secret``)."""
    body = {"api_key": key["api_key"], "secret_token": secret or key["secret_token"], "domain": "api.example.com"}
    answer = api.ask("POST", "/v1/keys/verify", body).json()
    return answer["valid"] or answer["code"]


def rotate(api: Api, key: dict[str, Any], body: Any = None, **options: Any) -> RawResponse:
    return api.ask("POST", f"/v1/keys/{key['key_id']}/rotate", body, **options)


def test_a_new_key_is_shown_with_its_secret_once_and_passes_at_once(api: Api) -> None:
    """With an address and a tag; afterwards nobody is told the secret, and never a hash."""
    body = {
        "name": "Büro", "domains": ["API.example.com:443"], "scopes": ["orders:*"], "origins": ["https://app.example.com"],
        "networks": ["192.0.2.0/24"], "expires_at": "2027-01-01T01:00:00+01:00", "critical": True, "env": "test",
        "metadata": {"team": "checkout", "n": [1, None]},
    }  # fmt: skip
    answer = api.ask("POST", "/v1/organizations/acme/keys", body)
    made = remembered(answer)
    assert answer.status == 201
    assert answer.header("location") == f"/v1/keys/{made['key_id']}"
    assert answer.header("etag") == '"1"'
    assert answer.header("cache-control") == "no-store"
    assert set(made) == FIELDS | {"secret_token", "in_force"}
    assert made["api_key"].startswith("gk_test_")
    assert made["secret_token"].startswith("gks_")
    expected = {
        **body, "domains": ["api.example.com:443"], "expires_at": "2027-01-01T00:00:00Z", "organization_id": "acme",
        "state": "active", "is_active": True, "version": 1, "rotation": None, "last_used_at": None,
    }  # fmt: skip
    del expected["env"]
    assert made == {**made, **expected}
    shown = api.ask("GET", answer.header("location"))
    assert shown.header("etag") == '"1"'
    assert shown.json() == {name: made[name] for name in FIELDS}
    assert b"hmac" not in answer.body + shown.body


def test_a_key_ends_after_the_duration_that_was_asked_for(api: Api, clock: FakeClock) -> None:
    """In seconds or with a unit, from now; then it is refused as expired, and can be given more time."""
    assert api.create(expires_in=60)["expires_at"] == "2026-01-02T03:05:05Z"
    key = api.create(expires_in="90d")
    assert key["expires_at"] == "2026-04-02T03:04:05Z"
    assert verdict(api, key) is True
    clock.advance(91 * 86400)
    assert verdict(api, key) == "key_expired"
    answer = api.ask("PATCH", f"/v1/keys/{key['key_id']}?wait=1", {"expires_at": None})
    assert answer.json()["expires_at"] is None
    assert verdict(api, key) is True


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"name": "new"}, {"name": "new"}),
        ({"domains": ["*.Example.com."]}, {"domains": ["*.example.com"]}),
        ({"scopes": []}, {"scopes": []}),
        ({"origins": ["https://APP.example.com"]}, {"origins": ["https://app.example.com"]}),
        ({"networks": ["2001:DB8::/32"]}, {"networks": ["2001:db8::/32"]}),
        ({"critical": True}, {"critical": True}),
        ({"metadata": {"a": {"b": "ü"}}}, {"metadata": {"a": {"b": "ü"}}}),
        ({"expires_in": "1h"}, {"expires_at": "2026-01-02T04:04:05Z"}),
        ({"is_active": False}, {"is_active": False, "state": "disabled"}),
        ({"is_active": False, "name": "off"}, {"state": "disabled", "name": "off"}),
    ],
)
def test_a_change_touches_what_it_names_and_nothing_else(
    api: Api, changes: dict[str, Any], shown: dict[str, Any]
) -> None:
    """In canonical form; the version grows, and the tag with it."""
    key = api.create(scopes=["orders:*"], metadata={"a": 1}, name="old")
    answer = api.ask("PATCH", f"/v1/keys/{key['key_id']}", changes)
    assert answer.status == 200
    assert answer.header("etag") == '"2"'
    before = {name: key[name] for name in FIELDS}
    after = {name: value for name, value in answer.json().items() if name != "in_force"}
    assert after == {**before, **shown, **({"is_active": False} if shown.get("state") else {}), "version": 2}


def test_disabling_enabling_and_revoking_count_at_once(api: Api) -> None:
    """Revoked is final: doing it again changes nothing, undoing it is a conflict."""
    key = api.create()
    path = f"/v1/keys/{key['key_id']}"
    api.ask("PATCH", path, {"is_active": False})
    assert verdict(api, key) == "key_inactive"
    api.ask("PATCH", path, {"is_active": True})
    assert verdict(api, key) is True
    revoked = api.ask("POST", f"{path}/revoke?wait=1")
    assert (revoked.status, revoked.json()["state"]) == (200, "revoked")
    assert verdict(api, key) == "key_inactive"
    again = api.ask("POST", f"{path}/revoke", {})
    assert (again.status, again.header("etag")) == (200, revoked.header("etag"))
    assert api.ask("PATCH", path, {"is_active": True}).json()["code"] == "conflict"
    assert rotate(api, key).status == 409


def test_a_deleted_key_is_gone(api: Api) -> None:
    """The answer says when that counts; a second time there is nothing to delete."""
    key = api.create()
    answer = api.ask("DELETE", f"/v1/keys/{key['key_id']}?wait=true")
    assert answer.json()["key_id"] == key["key_id"]
    assert answer.json()["in_force"]["here"] is True
    assert verdict(api, key) == "invalid_credentials"
    assert api.ask("DELETE", f"/v1/keys/{key['key_id']}").status == 404


def test_a_rotation_keeps_the_key_and_lets_both_secrets_pass(api: Api, clock: FakeClock) -> None:
    """The old one until its grace after the new one's first use, at most until the limit."""
    key = api.create()
    answer = rotate(api, key, {"grace": "1h", "limit": "2d"})
    rotated = remembered(answer)
    assert (answer.status, answer.header("etag")) == (200, '"2"')
    assert rotated["secret_token"] != key["secret_token"]
    assert (rotated["key_id"], rotated["api_key"]) == (key["key_id"], key["api_key"])
    assert rotated["rotation"] == {
        "rotated_at": "2026-01-02T03:04:05Z",
        "previous_expires_at": "2026-01-04T03:04:05Z",
        "grace_seconds": 3600,
        "previous_secret_used_at": None,
    }
    assert verdict(api, key) is True
    clock.advance(2 * 86400 + 1)
    assert verdict(api, key) == "invalid_credentials"
    assert verdict(api, rotated) is True
    assert api.ask("GET", f"/v1/keys/{key['key_id']}").json()["rotation"] is None


def test_a_rotation_can_be_cancelled_or_its_old_secret_cut(api: Api) -> None:
    """Each gives no secret; without a rotation there is nothing to do it to."""
    key = api.create()
    assert rotate(api, key, {"cancel": True}).json()["code"] == "conflict"
    assert rotate(api, key, {"cut": True}).json()["code"] == "conflict"
    second = remembered(rotate(api, key))
    cancelled = rotate(api, key, {"cancel": True})
    assert (cancelled.status, cancelled.json()["secret_token"], cancelled.json()["rotation"]) == (200, None, None)
    assert (verdict(api, key), verdict(api, second)) == (True, "invalid_credentials")
    third = remembered(rotate(api, key))
    assert rotate(api, key, {"cut": True}).json()["secret_token"] is None
    assert (verdict(api, key), verdict(api, third)) == ("invalid_credentials", True)


def test_a_rotation_without_grace_ends_the_old_secret(api: Api) -> None:
    """``0`` is a duration like any other."""
    key = api.create()
    rotated = remembered(rotate(api, key, {"grace": 0}))
    assert rotated["rotation"] is None
    assert (verdict(api, key), verdict(api, rotated)) == ("invalid_credentials", True)


@pytest.mark.parametrize(
    ("if_match", "status"),
    [
        ('"1"', 200),
        ('"9", "1"', 200),
        ("*", 200),
        ('"2"', 412),
        ('W/"1"', 412),
        ('"9","8"', 412),
        ("", 412),
        ("nonsense", 412),
        ('"', 412),
        ('"01"', 412),
    ],
)
@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [("PATCH", "", {"name": "new"}), ("DELETE", "", None), ("POST", "/rotate", None), ("POST", "/revoke", None)],
)
def test_a_change_of_another_version_than_was_meant_is_412(
    api: Api, *, if_match: str, status: int, method: str, rest: str, body: Any
) -> None:
    """A list of tags and ``*`` as RFC 9110 has them; weak ones never match, and nothing is changed."""
    key = api.create()
    answer = api.ask(method, f"/v1/keys/{key['key_id']}{rest}", body, headers={"If-Match": if_match})
    if answer.status == 200 and rest == "/rotate":
        remembered(answer)
    assert answer.status == status
    if status == 412:
        assert answer.json()["code"] == "precondition_failed"
        assert api.ask("GET", f"/v1/keys/{key['key_id']}").header("etag") == '"1"'


def test_of_two_operators_at_once_one_gets_412(api: Api) -> None:
    """Both read the same version; the second one's change is not lost in silence."""
    key = api.create()
    path = f"/v1/keys/{key['key_id']}"
    tag = api.ask("GET", path).header("etag")
    answers = [api.ask("PATCH", path, {"name": name}, headers={"If-Match": tag}) for name in ("first", "second")]
    assert [answer.status for answer in answers] == [200, 412]
    assert api.ask("GET", path).json()["name"] == "first"


@pytest.mark.parametrize(
    ("tag", "status"), [('"1"', 304), ('W/"1"', 304), ("*", 304), ('"0", "1"', 304), ('"2"', 200), ("", 200)]
)
def test_a_key_that_the_caller_knows_already_is_304(api: Api, tag: str, status: int) -> None:
    """With the tag and without a body."""
    key = api.create()
    answer = api.ask("GET", f"/v1/keys/{key['key_id']}", headers={"If-None-Match": tag})
    assert (answer.status, answer.header("etag")) == (status, '"1"')
    assert bool(answer.body) == (status == 200)


def test_a_missing_key_is_404_whatever_version_is_meant(api: Api) -> None:
    """It is looked for first."""
    for headers in ({"If-Match": '"1"'}, {"If-Match": "*"}, {}):
        assert api.ask("PATCH", "/v1/keys/key_none", {"name": "x"}, headers=headers).status == 404


@pytest.mark.parametrize(("query", "here"), [("", None), ("?wait=0", None), ("?wait=1", True), ("?wait=true", True)])
def test_every_write_says_when_it_counts(api: Api, *, query: str, here: bool | None) -> None:
    """Here, if the caller waited for that, and everywhere at the latest."""
    expected = {"here": here, "everywhere_by": "2026-01-02T03:09:05Z", "durable": True}
    key = remembered(api.ask("POST", f"/v1/organizations/acme/keys{query}", {"domains": ["a.example"]}))
    path = f"/v1/keys/{key['key_id']}"
    rotated = remembered(api.ask("POST", f"{path}/rotate{query}"))
    others = [
        api.ask("POST", f"/v1/organizations{query}", {"organization_id": "initech"}),
        api.ask("PATCH", f"/v1/organizations/initech{query}", {"is_active": False}),
        api.ask("PATCH", f"{path}{query}", {"name": "x"}),
        api.ask("POST", f"{path}/revoke{query}"),
        api.ask("DELETE", f"{path}{query}"),
    ]
    assert [answer["in_force"] for answer in (key, rotated, *(other.json() for other in others))] == [expected] * 7


def test_a_disabled_organization_makes_all_its_keys_invalid(api: Api) -> None:
    """Until it is enabled again; the operators' own cannot be disabled."""
    api.ask("POST", "/v1/organizations", {"organization_id": "initech", "name": "Initech"})
    key = api.create("initech")
    switched = api.ask("PATCH", "/v1/organizations/initech", {"is_active": False}).json()
    assert (switched["name"], switched["is_active"]) == ("Initech", False)
    assert verdict(api, key) == "key_inactive"
    api.ask("PATCH", "/v1/organizations/initech", {"is_active": True})
    assert verdict(api, key) is True
    refused = api.ask("PATCH", "/v1/organizations/gatekey", {"is_active": False})
    assert (refused.status, refused.json()["code"]) == (403, "forbidden")


def test_an_organization_has_no_version_that_could_match(api: Api) -> None:
    """``If-Match`` must not be ignored."""
    for tag, status in (('"1"', 412), ("*", 200)):
        headers = {"If-Match": tag}
        assert api.ask("PATCH", "/v1/organizations/acme", {"is_active": True}, headers=headers).status == status


def test_the_audit_trail_tells_who_did_what_from_where(api: Api) -> None:
    """The newest first, with what changed, and without the secret."""
    key = api.create("acme", key=ACME, name="old")
    answer = api.ask("PATCH", f"/v1/keys/{key['key_id']}", {"name": "new"}, headers={"X-Request-Id": "asked-by-a-test"})
    assert answer.status == 200
    newest, before, *_ = api.ask("GET", "/v1/audit", key=ACME).json()["items"]
    assert newest == {
        **newest,
        "organization_id": "acme",
        "actor": f"key:key_{OPERATOR}",
        "actor_organization_id": "gatekey",
        "action": "key.updated",
        "target": f"key:{key['key_id']}",
        "client_ip": "127.0.0.1",
        "request_id": "asked-by-a-test",
        "before": {"name": "old"},
        "after": {"name": "new"},
        "previous_hash": before["hash"],
    }
    assert (before["actor"], before["action"]) == (f"key:key_{ACME}", "key.created")


def test_the_caller_s_decision_is_logged_as_at_every_door_of_the_api(api: Api, logged: LoggedGatekey) -> None:
    """And the route is counted as management."""
    logged.events()
    api.ask("GET", "/v1/keys")
    [line] = logged.decisions()
    assert (line["door"], line["reason"], line["key_id"], line["path"]) == ("api", "ok", f"key_{OPERATOR}", "/v1/keys")
    labels = {"route": "management", "status": "2xx"}
    assert logged.gatekey.metrics.registry.get_sample_value("gatekey_http_requests_total", labels) == 1
