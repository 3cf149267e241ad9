"""``gatekey orgs`` and ``gatekey bootstrap``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from service.app import management
from service.settings import load_settings
from tests.support import leaks

if TYPE_CHECKING:
    from tests.cli.commands import Commands


def test_an_organization_that_was_made_is_listed(gatekey: Commands) -> None:
    """With its name and state, for people and for programs."""
    made = gatekey.document("orgs", "create", "beta", "--name", "Beta GmbH")
    assert (made["organization_id"], made["name"], made["is_active"]) == ("beta", "Beta GmbH", True)
    items = gatekey.document("orgs", "list")["items"]
    assert [item["organization_id"] for item in items] == ["acme", "beta"]
    assert items[1] == made
    table = gatekey.ok("orgs", "list").splitlines()
    assert table[0].split() == ["ORGANIZATION", "ACTIVE", "CREATED", "NAME"]
    assert table[2].split(maxsplit=3)[0::3] == ["beta", "Beta GmbH"]
    assert (
        len(
            {
                line.index(word)
                for line, word in zip(table, ("CREATED", *(i["created_at"][:19] for i in items)), strict=True)
            }
        )
        == 1
    )


def test_many_organizations_are_listed_to_the_last(gatekey: Commands) -> None:
    """Whatever a page of the store holds."""
    lines = "".join(
        f'{{"organization_id":"org-{number:04}","api_key":"key-{number}","secret_hash":"sha256:{"0" * 64}","domains":[]}}\n'
        for number in range(1100)
    )
    gatekey.ok("keys", "import", "-", stdin=lines)
    assert len(gatekey.document("orgs", "list")["items"]) == 1101


def test_what_cannot_be_made_is_refused_in_one_line(gatekey: Commands) -> None:
    """A name that is none, and one that is taken."""
    assert "organization_id" in gatekey.refused("orgs", "create", "Acme Inc")
    assert gatekey.refused("orgs", "create", "acme")
    assert gatekey.refused("orgs", "disable", "nobody")


def test_an_organization_is_disabled_and_enabled(gatekey: Commands) -> None:
    """Each says until when it is in force everywhere at the latest."""
    off = gatekey.document("orgs", "disable", "acme")
    assert off["is_active"] is False
    until = datetime.fromisoformat(off["in_force"]["everywhere_by"])
    assert datetime.now(UTC) < until < datetime.now(UTC) + timedelta(hours=1)
    assert gatekey.document("orgs", "list")["items"][0]["is_active"] is False
    shown = gatekey.ok("orgs", "enable", "acme")
    assert shown.startswith("Organization acme is enabled")
    assert "at the latest by 20" in shown
    assert gatekey.document("orgs", "list")["items"][0]["is_active"] is True


def test_the_operators_own_organization_stays_enabled(gatekey: Commands) -> None:
    """Else nobody could enable it again through the API."""
    gatekey("bootstrap")
    assert gatekey.refused("orgs", "disable", "gatekey")


def test_bootstrap_makes_the_operators_first_key_once(gatekey: Commands) -> None:
    """With the scopes and the domain that management needs; a second time it is refused, unless asked for."""
    made = gatekey.document("bootstrap")
    leaks.register(made["secret_token"])
    assert made["organization_id"] == "gatekey"
    assert made["domains"] == ["@gatekey"]
    assert sorted(made["scopes"]) == ["gatekey:read", "gatekey:verify", "gatekey:write"]
    assert made["key_id"] in gatekey.refused("bootstrap")
    again = gatekey.document("bootstrap", "--again")
    assert again["key_id"] != made["key_id"]


def test_bootstrap_helps_where_the_only_operators_key_is_lost(gatekey: Commands) -> None:
    """A revoked key lets nobody in."""
    gatekey.ok("keys", "revoke", gatekey.document("bootstrap")["key_id"])
    assert gatekey.document("bootstrap")["state"] == "active"


@pytest.mark.parametrize(("left", "refused"), [(timedelta(seconds=50), True), (timedelta(seconds=-1), False)])
def test_one_bootstrap_at_a_time_makes_a_key(left: timedelta, refused: bool, gatekey: Commands) -> None:  # noqa: FBT001 - a parameter
    """As when all copies of a service begin with it; one that died in the middle is in the way for a minute at most."""

    async def under_way() -> None:
        async with management(load_settings(gatekey.environ)) as parts:
            now = parts.clock.now()
            await parts.store.journal.claim("command bootstrap", "", now=now - timedelta(minutes=1), until=now + left)

    asyncio.run(under_way())
    if refused:
        assert "under way" in gatekey.refused("bootstrap")
    else:
        gatekey.ok("bootstrap")


def test_bootstrap_shows_the_secret_to_people_once(gatekey: Commands) -> None:
    """And says so."""
    lines = gatekey.ok("bootstrap").splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["key_id", "organization", "api_key", "secret_token"]
    assert "this once" in lines[4]
