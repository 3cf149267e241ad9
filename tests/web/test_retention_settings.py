"""``GATEKEY_USAGE_RETENTION`` and ``GATEKEY_AUDIT_RETENTION``: a running application forgets what is older, each by its own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backends.journal import UsageCount
from service.manage import retention
from tests.support.clock import START, FakeClock
from tests.support.in_process import logged_gatekey
from tests.support.keys import make_entry, make_key, make_organization
from tests.support.management_api import LINES, Api
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from backends.contract import KeyStore
    from tests.support.in_process import LoggedGatekey

AGES = (10, 4, 1)  # days
NOW = START + timedelta(days=20)


async def remember(store: KeyStore) -> None:
    """A use and an entry of each age."""
    await store.add_many([make_organization("initech")], [make_key("one", key_id="key_1", organization_id="initech")])
    for number, days in enumerate(AGES, start=1):
        at = NOW - timedelta(days=days)
        hour = at.replace(minute=0, second=0)
        await store.journal.add_usage([UsageCount(key_id="key_1", hour=hour, count=1, last_used_at=at)])
        await store.journal.append_audit(make_entry(number, organization_id="initech", at=at))


def left(logged: LoggedGatekey) -> tuple[list[int], list[int]]:
    """The ages of the uses and of the entries that can still be read."""
    api = Api(logged.app)
    since = (NOW - timedelta(days=19)).isoformat().replace("+00:00", "Z")
    uses = api.ask("GET", f"/v1/keys/key_1/usage?since={since}").json()["items"]
    entries = api.ask("GET", "/v1/audit?organization_id=initech").json()["items"]
    days = {(NOW - timedelta(days=age)).date().isoformat(): age for age in AGES}
    return [days[item["start"][:10]] for item in uses], [days[item["at"][:10]] for item in reversed(entries)]


@pytest.mark.parametrize(
    ("usage_days", "audit_days", "uses", "entries"),
    [
        ("2", "0", [1], [10, 4, 1]),
        ("0", "2", [10, 4, 1], [1]),
        ("5", "2", [4, 1], [1]),
        ("2", "5", [1], [4, 1]),
    ],
)
def test_what_is_older_than_a_setting_is_forgotten_in_the_background(
    monkeypatch: pytest.MonkeyPatch, usage_days: str, audit_days: str, uses: list[int], entries: list[int]
) -> None:
    """Nobody asks for it; 0 is for ever. Both go in one step, so the one that stays is there when the other one has gone."""
    monkeypatch.setattr(retention, "_INTERVAL", 0.01)
    clock = FakeClock()
    clock.advance(timedelta(days=20).total_seconds())
    environ = {"GATEKEY_USAGE_RETENTION": usage_days, "GATEKEY_AUDIT_RETENTION": audit_days}
    with logged_gatekey(LINES, environ=environ, clock=clock) as logged:
        logged.gatekey.portal.run(remember, logged.gatekey.store)
        wait_until(lambda: left(logged) == (uses, entries), "what is too old is forgotten")


def test_without_settings_uses_are_kept_for_400_days_and_entries_for_ever() -> None:
    """Looked at once, on purpose: nothing that could be waited for happens."""
    clock = FakeClock()
    clock.advance(timedelta(days=20).total_seconds())
    with logged_gatekey(LINES, clock=clock) as logged:
        logged.gatekey.portal.run(remember, logged.gatekey.store)
        for days, pruned in ((389, 0), (1, 1)):
            clock.advance(timedelta(days=days).total_seconds())
            assert logged.gatekey.portal.run(logged.gatekey._background._retention.prune) == pruned
        assert len(Api(logged.app).ask("GET", "/v1/audit?organization_id=initech").json()["items"]) == len(AGES)
