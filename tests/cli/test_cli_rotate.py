"""``gatekey keys rotate``: the new secret is shown once, and what becomes of the old one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support import leaks
from tests.support.clock import START, FakeClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cli.commands import Commands


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of every command here; it stands still, so that the texts about time are what they are."""
    clock = FakeClock()
    monkeypatch.setattr("service.app.SystemClock", lambda: clock)
    return clock


def rotate(gatekey: Commands, key_id: str, *options: str) -> Mapping[str, object]:
    document = gatekey.document("keys", "rotate", key_id, *options)
    leaks.register(document["secret_token"])
    return document


def verdict(gatekey: Commands, api_key: str, secret: str) -> str:
    """What a request with this secret would get."""
    result = gatekey("explain", "--api-key", api_key, "--domain", "api.example.com", EXPLAIN_SECRET_TOKEN=secret)
    return "allowed" if result.exit_code == 0 else result.stderr.rpartition(": ")[2].strip()


def test_both_secrets_work_after_a_rotation(gatekey: Commands) -> None:
    """The key keeps its identifiers; the old secret has 24 h after the new one's first use, and 30 days at most."""
    made = gatekey.create()
    new = rotate(gatekey, made["key_id"])
    assert (new["key_id"], new["api_key"]) == (made["key_id"], made["api_key"])
    assert new["secret_token"] != made["secret_token"]
    rotation = new["rotation"]
    assert isinstance(rotation, dict)
    assert rotation["grace_seconds"] == 86400
    assert rotation["previous_expires_at"] == "2026-02-01T03:04:05Z"
    for secret in (made["secret_token"], new["secret_token"]):
        assert verdict(gatekey, made["api_key"], str(secret)) == "allowed"


def test_grace_and_limit_are_what_was_asked_for(gatekey: Commands) -> None:
    """And people are told both."""
    key_id = gatekey.create()["key_id"]
    text = gatekey.ok("keys", "rotate", key_id, "--grace", "90m", "--limit", "2d")
    assert "this once" in text
    assert "works for 1 h after the new one's first use, at most until 2026-01-04" in text
    rotation = gatekey.document("keys", "show", key_id)["rotation"]
    assert rotation["grace_seconds"] == 5400
    assert rotation["previous_expires_at"] == "2026-01-04T03:04:05Z"


def test_the_old_secret_works_until_the_limit_and_no_longer(gatekey: Commands, clock: FakeClock) -> None:
    """Where the new one is never used."""
    made = gatekey.create()
    rotate(gatekey, made["key_id"], "--limit", "2d")
    clock.advance(2 * 86_400 - 1)
    assert verdict(gatekey, made["api_key"], made["secret_token"]) == "allowed"
    clock.advance(1)
    assert verdict(gatekey, made["api_key"], made["secret_token"]) == "bad_secret"


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


def test_show_tells_who_still_uses_the_old_secret(gatekey: Commands, clock: FakeClock) -> None:
    """And whether the new one is in use yet: then the old one can be cut."""
    key_id = gatekey.create()["key_id"]
    rotate(gatekey, key_id)
    fresh = gatekey.ok("keys", "show", key_id)
    assert "new secret    not used yet\n" in fresh
    assert "old secret    not used since the rotation\n" in fresh
    assert ", or 1 d after the first use of the new one" in fresh
    clock.advance(60)
    gatekey.used(key_id, clock.now(), previous=clock.now())
    clock.advance(7)
    shown = gatekey.ok("keys", "show", key_id)
    assert "last used     7 s ago\n" in shown
    assert "old secret    old secret last used 7 s ago\n" in shown
    rotation = gatekey.document("keys", "show", key_id)["rotation"]
    assert rotation["previous_secret_used_at"] == "2026-01-02T03:05:05Z"


def test_a_use_from_before_the_rotation_says_nothing_about_the_old_secret(gatekey: Commands) -> None:
    """It was a use of the one before."""
    key_id = gatekey.create()["key_id"]
    before = START - timedelta(minutes=3, seconds=59)
    gatekey.used(key_id, before, previous=before)
    rotate(gatekey, key_id)
    shown = gatekey.ok("keys", "show", key_id)
    assert "last used     3 min ago\n" in shown
    assert "old secret    not used since the rotation\n" in shown
