"""Listings: pages, filters, and parameters that make no sense."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from backends.journal import AuditEntry, UsageCount
from backends.records import KeyState
from service.web.schemas.report_answers import AuditEntryView, AuditPage
from tests.support.clock import START, FakeClock
from tests.support.in_process import logged_gatekey
from tests.support.keys import make_key, make_organization
from tests.support.management_api import GLOBEX, LINES, Api, names, pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey


def hours(number: float) -> Any:
    return START + timedelta(hours=number)


KEYS = [
    make_key("one", key_id="key_1", organization_id="initech", name="Büro Orders"),
    make_key("two", key_id="key_2", organization_id="initech", name="orders", state=KeyState.DISABLED),
    make_key("three", key_id="key_3", organization_id="initech", state=KeyState.REVOKED, expires_at=hours(2)),
    make_key("four", key_id="key_4", organization_id="initech", expires_at=hours(4)),
]
USES = [
    UsageCount(key_id="key_1", hour=hours(0).replace(minute=0, second=0), count=3, last_used_at=hours(0)),
    UsageCount(key_id="key_1", hour=hours(1).replace(minute=0, second=0), count=4, last_used_at=hours(1)),
    UsageCount(key_id="key_2", hour=hours(30).replace(minute=0, second=0), count=5, last_used_at=hours(30)),
]


@pytest.fixture(scope="module")
def logged() -> Iterator[LoggedGatekey]:
    clock = FakeClock()
    clock.advance(48 * 3600)
    with logged_gatekey(LINES, clock=clock) as found:
        store, run = found.gatekey.store, found.gatekey.portal.run
        run(store.add_many, [make_organization("initech")], KEYS)
        run(store.journal.add_usage, USES)
        yield found


@pytest.mark.parametrize("limit", ["1", "2", "3", "4", "1000"])
def test_pages_hold_everything_once_and_in_order(api: Api, limit: str) -> None:
    """Whatever their size; the last one says that it is."""
    for path, field, wanted in (
        ("/v1/organizations/initech/keys", "key_id", ["key_1", "key_2", "key_3", "key_4"]),
        ("/v1/organizations", "organization_id", ["acme", "gatekey", "globex", "initech"]),
    ):
        assert names(pages(api, f"{path}?limit={limit}"), field) == wanted
    everything = names(pages(api, f"/v1/keys?limit={limit}"))
    assert everything == sorted(everything)
    assert len(everything) == len(LINES) + len(KEYS)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("name=ORDERS", ["key_1", "key_2"]),
        ("name=B%C3%BCro", ["key_1"]),
        ("name=nothing", []),
        ("active=true", ["key_1", "key_4"]),
        ("active=0", ["key_2", "key_3"]),
        ("state=revoked", ["key_3"]),
        ("state=active&active=1", ["key_1", "key_4"]),
        ("expiring_before=2026-01-02T06:00:00Z", ["key_3"]),
        ("expiring_before=2026-01-02T16:00:00%2B01:00", ["key_3", "key_4"]),
        ("last_used_before=2026-01-02T12:00:00Z", ["key_1", "key_3", "key_4"]),
        ("last_used_before=2026-01-02T12:00:00Z&active=true&name=orders", ["key_1"]),
        ("name=orders&limit=1", ["key_1", "key_2"]),
    ],
)
def test_filters_narrow_a_listing(api: Api, query: str, found: list[str]) -> None:
    """All that are given must match; in one organization as in all."""
    assert names(pages(api, f"/v1/organizations/initech/keys?{query}")) == found
    assert names(pages(api, f"/v1/keys?organization_id=initech&{query}")) == found


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/keys", "limit=0", "limit"),
        ("/v1/keys", "limit=1001", "limit"),
        ("/v1/keys", "limit=ten", "limit"),
        ("/v1/keys", "limit=1_0", "limit"),
        ("/v1/keys", "limit=%201", "limit"),
        ("/v1/keys", "limit=-1", "limit"),
        ("/v1/keys", "limit=", "limit"),
        ("/v1/keys", "limit=1&limit=2", "limit"),
        ("/v1/keys", "cursor=%00", "cursor"),
        ("/v1/keys", "cursor=", "cursor"),
        ("/v1/keys", "cursor=a%0A", "cursor"),
        ("/v1/keys", "name=%00", "name"),
        ("/v1/keys", f"name={'x' * 201}", "name"),
        ("/v1/keys", "active=yes", "active"),
        ("/v1/keys", "state=expired", "state"),
        ("/v1/keys", "state=revoked&active=true", "query"),
        ("/v1/keys", "expiring_before=tomorrow", "expiring_before"),
        ("/v1/keys", "expiring_before=2026-01-02T06:00:00", "expiring_before"),
        ("/v1/keys", "last_used_before=0001-01-01T00:00:00%2B14:00", "last_used_before"),
        ("/v1/keys", "organization_id=Acme", "organization_id"),
        ("/v1/keys", "limt=1", "limt"),
        ("/v1/keys", "Limit=1", "Limit"),
        ("/v1/keys", "li-mit=1", "(a name that is none)"),
        ("/v1/organizations/initech/keys", "organization_id=initech", "organization_id"),
        ("/v1/organizations", "name=x", "name"),
        ("/v1/audit", "cursor=key_1", "cursor"),
        ("/v1/audit", "cursor=-1", "cursor"),
        ("/v1/keys/key_1", "wait=1", "wait"),
        ("/v1/keys/key_1/usage", "by=minute", "by"),
        ("/v1/keys/key_1/usage", "since=2026-01-02T06:00:00Z&until=2026-01-02T06:00:00Z", "since"),
        ("/v1/keys/key_1/usage", "since=2020-01-02T06:00:00Z", "since"),
        ("/v1/keys/key_1/usage", "until=0001-01-01T00:00:00Z", "since"),
        ("/v1/keys/export", "limit=1", "limit"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_422_and_named(api: Api, path: str, query: str, field: str) -> None:
    """A mistyped one too: a filter that is not understood must not be left out in silence."""
    answer = api.ask("GET", f"{path}?{query}")
    assert answer.status == 422
    assert [item["field"] for item in answer.json()["errors"]] == [field]
    assert answer.json()["detail"].startswith(f"{field}: ")


def test_use_is_counted_by_hour_and_by_day(api: Api) -> None:
    """Only steps with a use; the total is theirs."""
    by_hour = api.ask("GET", "/v1/keys/key_1/usage?by=hour&since=2026-01-02T00:00:00Z").json()
    assert by_hour["items"] == [
        {"start": "2026-01-02T03:00:00Z", "count": 3},
        {"start": "2026-01-02T04:00:00Z", "count": 4},
    ]
    by_day = api.ask("GET", "/v1/keys/key_1/usage").json()
    assert by_day == {
        "key_id": "key_1",
        "by": "day",
        "since": "2025-12-05T03:04:05Z",
        "until": "2026-01-04T03:04:05Z",
        "total": 7,
        "items": [{"start": "2026-01-02T00:00:00Z", "count": 7}],
    }
    assert api.ask("GET", "/v1/keys/key_1/usage?by=hour").json()["items"] == []


def test_a_key_shows_when_it_was_last_used(api: Api) -> None:
    """Alone and in a listing; ``null`` for never."""
    assert api.ask("GET", "/v1/keys/key_1").json()["last_used_at"] == "2026-01-02T04:04:05Z"
    listed = {item["key_id"]: item["last_used_at"] for item in pages(api, "/v1/organizations/initech/keys")}
    assert listed["key_2"] == "2026-01-03T09:04:05Z"
    assert listed["key_4"] is None


def an_entry(after: str) -> AuditEntry:
    return AuditEntry(
        organization_id="globex", seq=1, at=START, actor="key:key_1", actor_organization_id="globex",
        action="key.created", target="key:key_1", client_ip="", request_id="", before="{}", after=after,
        previous_hash="", hash="0" * 64,
    )  # fmt: skip


@pytest.mark.parametrize("spoilt", ["nonsense", "NaN", '{"a":' * 300 + "1" + "}" * 300], ids=["text", "NaN", "deep"])
def test_what_stands_in_an_entry_by_hand_is_shown_as_text(spoilt: str) -> None:
    """One bad entry must not hide all others."""
    entry = an_entry(spoilt)
    assert AuditEntryView.of(entry).after == spoilt
    assert orjson.loads(AuditEntryView.of(entry).model_dump_json())["after"] == spoilt


@pytest.mark.parametrize("depth", range(244, 262))
def test_a_page_of_the_trail_can_be_shown_however_deep_an_entry_nests(depth: int) -> None:
    """As an object or as a text."""
    shown = AuditEntryView.of(an_entry("[" * depth + "]" * depth))
    assert orjson.loads(AuditPage(items=(shown,), next_cursor=None).model_dump_json())["items"]


def test_the_audit_trail_is_paged_from_the_newest() -> None:
    """Each entry once, though it grows meanwhile; in an application of its own, because it writes."""
    with logged_gatekey(LINES) as logged:
        logged.gatekey.portal.run(logged.gatekey.store.add_many, [make_organization("initech")], KEYS)
        api = Api(logged.app)
        for number in range(5):
            assert api.ask("PATCH", "/v1/keys/key_1", {"name": f"name {number}"}).status == 200
        target = "/v1/audit?organization_id=initech&limit=2"
        first = api.ask("GET", target).json()
        assert api.ask("PATCH", "/v1/keys/key_1", {"name": "one more"}).status == 200
        rest = [item["seq"] for item in pages(api, target, cursor=first["next_cursor"])]
        assert [item["seq"] for item in first["items"]] + rest == [5, 4, 3, 2, 1]
        (began,) = api.ask("GET", "/v1/audit", key=GLOBEX).json()["items"]
    assert (began["action"], began["actor"]) == ("keys.imported", "command:serve --import")
