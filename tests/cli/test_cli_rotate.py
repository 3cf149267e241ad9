"""``gatekey keys rotate``: the new secret is shown once, and what becomes of the old one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backends.journal import UsageCount
from service.app import management
from service.settings import load_settings
from tests.support import leaks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cli.commands import Commands


def rotate(gatekey: Commands, key_id: str, *options: str) -> Mapping[str, object]:
    document = gatekey.document("keys", "rotate", key_id, *options)
    leaks.register(document["secret_token"])
    return document


def verdict(gatekey: Commands, api_key: str, secret: str) -> str:
    """What a request with this secret would get."""
    result = gatekey("explain", "--api-key", api_key, "--domain", "api.example.com", EXPLAIN_SECRET_TOKEN=secret)
    return "allowed" if result.exit_code == 0 else result.stderr.rpartition(": ")[2].strip()


def used(gatekey: Commands, key_id: str, *, last: datetime, previous: datetime | None) -> None:
    """As a serving process records it."""

    async def add() -> None:
        async with management(load_settings(gatekey.environ)) as parts:
            hour = last.replace(minute=0, second=0, microsecond=0)
            count = UsageCount(key_id=key_id, hour=hour, count=1, last_used_at=last, previous_secret_used_at=previous)
            await parts.store.journal.add_usage([count])

    asyncio.run(add())


def test_both_secrets_work_after_a_rotation(gatekey: Commands) -> None:
    """The key keeps its identifiers; the old secret has 24 h after the new one's first use, and 30 days at most."""
    made = gatekey.create()
    new = rotate(gatekey, made["key_id"])
    assert (new["key_id"], new["api_key"]) == (made["key_id"], made["api_key"])
    assert new["secret_token"] != made["secret_token"]
    rotation = new["rotation"]
    assert isinstance(rotation, dict)
    assert rotation["grace_seconds"] == 86400
    left = datetime.fromisoformat(rotation["previous_expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    for secret in (made["secret_token"], new["secret_token"]):
        assert verdict(gatekey, made["api_key"], str(secret)) == "allowed"


def test_grace_and_limit_are_what_was_asked_for(gatekey: Commands) -> None:
    """And people are told both."""
    key_id = gatekey.create()["key_id"]
    text = gatekey.ok("keys", "rotate", key_id, "--grace", "90m", "--limit", "2d")
    assert "this once" in text
    assert "works for 1 h after the new one's first use, at most until 20" in text
    rotation = gatekey.document("keys", "show", key_id)["rotation"]
    assert rotation["grace_seconds"] == 5400
    left = datetime.fromisoformat(rotation["previous_expires_at"]) - datetime.now(UTC)
    assert timedelta(days=1) < left <= timedelta(days=2)


def test_a_grace_of_0_ends_the_old_secret_at_once(gatekey: Commands) -> None:
    """As after a leak."""
    made = gatekey.create()
    new = rotate(gatekey, made["key_id"], "--grace", "0")
    assert new["rotation"] is None
    assert verdict(gatekey, made["api_key"], made["secret_token"]) == "bad_secret"
    assert verdict(gatekey, made["api_key"], str(new["secret_token"])) == "allowed"
    assert "The old secret has ended." in gatekey.ok("keys", "rotate", made["key_id"], "--grace", "0")


def test_a_rotation_is_cancelled(gatekey: Commands) -> None:
    """The old secret is the only one again, and no secret is shown."""
    made = gatekey.create()
    new = rotate(gatekey, made["key_id"])
    assert "secret_token" not in gatekey.document("keys", "rotate", made["key_id"], "--cancel")
    assert verdict(gatekey, made["api_key"], made["secret_token"]) == "allowed"
    assert verdict(gatekey, made["api_key"], str(new["secret_token"])) == "bad_secret"
    gatekey.refused("keys", "rotate", made["key_id"], "--cancel")


def test_the_old_secret_is_cut(gatekey: Commands) -> None:
    """The new one is the only one."""
    made = gatekey.create()
    new = rotate(gatekey, made["key_id"])
    assert gatekey.ok("keys", "rotate", made["key_id"], "--cut").startswith("The old secret has ended.\n")
    assert verdict(gatekey, made["api_key"], made["secret_token"]) == "bad_secret"
    assert verdict(gatekey, made["api_key"], str(new["secret_token"])) == "allowed"
    gatekey.refused("keys", "rotate", made["key_id"], "--cut")


@pytest.mark.parametrize(
    "options",
    [
        ["--cut", "--cancel"],
        ["--cut", "--grace", "1h"],
        ["--cancel", "--limit", "1d"],
        ["--grace", "5"],
        ["--grace", "soon"],
    ],
)
def test_options_that_exclude_each_other_are_wrong_usage(options: list[str], gatekey: Commands) -> None:
    """Nothing is changed."""
    key_id = gatekey.create()["key_id"]
    assert gatekey("keys", "rotate", key_id, *options).exit_code == 2
    assert gatekey.document("keys", "show", key_id)["rotation"] is None


def test_show_tells_who_still_uses_the_old_secret(gatekey: Commands) -> None:
    """And whether the new one is in use yet: then the old one can be cut."""
    key_id = gatekey.create()["key_id"]
    rotate(gatekey, key_id)
    fresh = gatekey.ok("keys", "show", key_id)
    assert "new secret    not used yet\n" in fresh
    assert "old secret    not used since the rotation\n" in fresh
    assert ", or 1 d after the first use of the new one" in fresh
    now = datetime.now(UTC)
    used(gatekey, key_id, last=now, previous=now)
    shown = gatekey.ok("keys", "show", key_id)
    assert "last used     0 s ago\n" in shown or "last used     1 s ago\n" in shown
    assert "old secret    old secret last used " in shown
    assert gatekey.document("keys", "show", key_id)["rotation"]["previous_secret_used_at"] is not None


def test_a_use_from_before_the_rotation_says_nothing_about_the_old_secret(gatekey: Commands) -> None:
    """It was a use of the one before."""
    key_id = gatekey.create()["key_id"]
    before = datetime.now(UTC) - timedelta(minutes=3, seconds=5)
    used(gatekey, key_id, last=before, previous=before)
    rotate(gatekey, key_id)
    shown = gatekey.ok("keys", "show", key_id)
    assert "last used     3 min ago\n" in shown
    assert "old secret    not used since the rotation\n" in shown
