"""``gatekey keys`` for one key: made, listed, shown, switched, deleted."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from service.auth.tokens import api_key_problem, secret_problem
from service.cli.output import printable

if TYPE_CHECKING:
    from tests.cli.commands import Commands

RULES = (
    "--domain", "https://api.example.com/v1", "--scope", "orders:read", "--scope", "orders:write",
    "--origin", "https://shop.example.com", "--network", "192.0.2.0/24", "--network", "2001:db8::/32",
)  # fmt: skip


def test_a_new_key_has_what_was_asked_for(gatekey: Commands) -> None:
    """Options repeat for lists; key and secret have Gatekey's form."""
    made = gatekey.create(
        *RULES, "--critical", "--env", "test", "--name", "batch", "--metadata", '{"team": "payments"}'
    )
    assert api_key_problem(made["api_key"]) is None
    assert made["api_key"].startswith("gk_test_")
    assert secret_problem(made["secret_token"]) is None
    assert made["domains"] == ["api.example.com", "https://api.example.com/v1"]
    assert made["scopes"] == ["orders:read", "orders:write"]
    assert made["origins"] == ["https://shop.example.com"]
    assert made["networks"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert (made["critical"], made["name"], made["metadata"]) == (True, "batch", {"team": "payments"})
    assert (made["state"], made["expires_at"], made["organization_id"]) == ("active", None, "acme")
    shown = gatekey.document("keys", "show", made["key_id"])
    assert shown == {name: made[name] for name in shown}


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("45s", timedelta(seconds=45)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_a_key_expires_after_the_time_that_was_given(text: str, span: timedelta, gatekey: Commands) -> None:
    """In seconds, minutes, hours, days or weeks from now."""
    before = datetime.now(UTC)
    expires_at = datetime.fromisoformat(gatekey.create("--expires-in", text)["expires_at"])
    assert before + span <= expires_at <= datetime.now(UTC) + span


def test_a_key_expires_at_the_time_that_was_given(gatekey: Commands) -> None:
    """In whatever zone it was written."""
    made = gatekey.create("--expires-at", "2099-01-31T13:00:00+01:00")
    assert made["expires_at"] == "2099-01-31T12:00:00Z"


@pytest.mark.parametrize(
    "options",
    [["--expires-in", "90"], ["--expires-in", "0"], ["--expires-in", "-1d"], ["--expires-in", "1y"],
     ["--expires-in", "999999999w"], ["--expires-in", "9999999d"],
     ["--expires-at", "tomorrow"], ["--expires-at", "2099-01-31T12:00:00"],
     ["--expires-at", "2099-01-31T12:00:00Z", "--expires-in", "1d"], ["--env", "prod"],
     ["--metadata", "[]"], ["--metadata", "{"]],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_wrong_usage(options: list[str], gatekey: Commands) -> None:
    """Exit status 2, and nothing is made."""
    result = gatekey("keys", "create", "--organization", "acme", "--domain", "api.example.com", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")
    assert gatekey.document("keys", "list")["items"] == []


@pytest.mark.parametrize("options", [[], ["--organization", "acme"], ["--domain", "api.example.com"]])
def test_a_key_needs_an_organization_and_a_domain(options: list[str], gatekey: Commands) -> None:
    """Wrong usage without."""
    assert gatekey("keys", "create", *options).exit_code == 2


@pytest.mark.parametrize(
    ("options", "field"),
    [(["--domain", "no domain"], "domains"), (["--scope", "a,b"], "scopes"), (["--origin", "example.com"], "origins"),
     (["--network", "192.0.2.1/24"], "networks"), (["--name", "x" * 300], "name"),
     (["--expires-at", "2001-01-01T00:00:00Z"], "expires_at"),
     (["--metadata", json.dumps({"x": "y" * 9000})], "metadata")],
)  # fmt: skip
def test_a_value_that_no_key_may_have_is_refused_by_its_field(
    options: list[str], field: str, gatekey: Commands
) -> None:
    """One line that names the field, and nothing is made."""
    line = gatekey.refused("keys", "create", "--organization", "acme", "--domain", "api.example.com", *options)
    assert line.startswith(f"{field}: ")
    assert gatekey.document("keys", "list")["items"] == []


def test_a_key_of_nobody_is_refused(gatekey: Commands) -> None:
    """The organization comes first."""
    gatekey.refused("keys", "create", "--organization", "nobody", "--domain", "api.example.com")
    gatekey.refused("keys", "list", "--organization", "nobody")


def test_an_operator_on_the_machine_may_grant_operators_scopes(gatekey: Commands) -> None:
    """Whoever reaches the store itself needs no leave."""
    assert gatekey.create("--scope", "gatekey:read")["scopes"] == ["gatekey:read"]


def test_people_see_the_secret_once_and_are_told_so(gatekey: Commands) -> None:
    """In aligned lines, then a sentence."""
    lines = gatekey.ok("keys", "create", "--organization", "acme", "--domain", "api.example.com").splitlines()
    shown = dict(line.split() for line in lines[:4])
    assert list(shown) == ["key_id", "organization", "api_key", "secret_token"]
    assert secret_problem(shown["secret_token"]) is None
    assert "this once" in lines[4]


def test_the_list_is_narrowed_by_every_option(gatekey: Commands) -> None:
    """Organization, name, state, expiry and last use; --limit cuts it."""
    gatekey.ok("orgs", "create", "beta")
    one = gatekey.create("--name", "Batch one", "--expires-in", "10d")["key_id"]
    two = gatekey.create("--name", "batch two")["key_id"]
    three = gatekey.create(organization="beta")["key_id"]
    gatekey.ok("keys", "disable", two)

    def listed(*options: str) -> list[str]:
        return [item["key_id"] for item in gatekey.document("keys", "list", *options)["items"]]

    soon = (datetime.now(UTC) + timedelta(days=20)).isoformat()
    assert listed() == [one, two, three]
    assert listed("--organization", "acme") == [one, two]
    assert listed("--name", "BATCH") == [one, two]
    assert listed("--state", "disabled") == [two]
    assert listed("--state", "disabled", "--state", "active") == [one, two, three]
    assert listed("--expires-before", soon) == [one]
    assert listed("--last-used-before", soon) == [one, two, three]
    assert listed("--limit", "2") == [one, two]


def test_the_list_for_people_has_a_line_for_each_key(gatekey: Commands) -> None:
    """With its state, expiry, last use and name."""
    key_id = gatekey.create("--name", "batch", "--expires-at", "2099-01-31T12:00:00Z")["key_id"]
    head, line = gatekey.ok("keys", "list").splitlines()
    assert head.split() == ["KEY_ID", "ORGANIZATION", "STATE", "EXPIRES", "LAST", "USED", "NAME"]
    assert line.split() == [key_id, "acme", "active", "2099-01-31T12:00:00Z", "never", "batch"]


def test_what_somebody_stored_moves_no_cursor() -> None:
    """A record that was not checked by this code is shown without its control characters."""
    assert printable("red \x1b[31m alert\r") == "red \\x1b[31m alert\\r"
    assert printable("Zoë") == "Zoë"


def test_a_key_is_shown_with_all_its_rules(gatekey: Commands) -> None:
    """Names and values, aligned; no secret and no hash."""
    made = gatekey.create(*RULES, "--name", "batch")
    lines = gatekey.ok("keys", "show", made["key_id"]).splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert shown["key_id"] == made["key_id"]
    assert shown["domains"] == "api.example.com, https://api.example.com/v1"
    assert shown["scopes"] == "orders:read orders:write"
    assert shown["state"] == "active"
    assert "hmac" not in "".join(lines)


def test_a_key_that_is_not_there_is_one_line(gatekey: Commands) -> None:
    """In every command."""
    for words in (["show"], ["disable"], ["enable"], ["revoke"], ["delete"], ["rotate"]):
        gatekey.refused("keys", *words, "key_0")


def test_a_key_is_disabled_and_enabled_again(gatekey: Commands) -> None:
    """Each says what it is now, and until when that is in force everywhere."""
    key_id = gatekey.create()["key_id"]
    off = gatekey.document("keys", "disable", key_id)
    assert (off["key_id"], off["state"], off["is_active"]) == (key_id, "disabled", False)
    assert datetime.fromisoformat(off["in_force"]["everywhere_by"]) > datetime.now(UTC)
    shown = gatekey.ok("keys", "enable", key_id)
    assert shown.startswith(f"Key {key_id} is enabled.\nIn force in every process ")
    assert gatekey.document("keys", "show", key_id)["state"] == "active"


@pytest.mark.parametrize("word", ["disable", "enable", "rotate", "revoke"])
def test_a_key_that_was_changed_keeps_its_last_use(word: str, gatekey: Commands) -> None:
    """The document of a change is that of ``keys show``, not of a key that nobody ever used."""
    key_id = gatekey.create()["key_id"]
    gatekey.used(key_id, datetime.now(UTC))
    changed = gatekey.document("keys", word, key_id)
    assert changed["last_used_at"] is not None
    assert changed["last_used_at"] == gatekey.document("keys", "show", key_id)["last_used_at"]


def test_a_last_use_that_cannot_be_read_does_not_lose_a_new_secret(gatekey: Commands) -> None:
    """Nobody could ask for that secret again."""
    key_id = gatekey.create()["key_id"]
    gatekey.used(key_id, datetime.now(UTC))
    connection = sqlite3.connect(gatekey.environ["GATEKEY_STORE_URL"].removeprefix("sqlite:///") + ".history")
    with connection:
        assert connection.execute("UPDATE last_uses SET last_used_at = 'zzz'").rowcount == 1
    connection.close()
    changed = gatekey.document("keys", "rotate", key_id)
    assert secret_problem(changed["secret_token"]) is None
    assert changed["last_used_at"] is None


def test_a_revoked_key_stays_revoked_and_is_still_listed(gatekey: Commands) -> None:
    """Revoking again changes nothing; enabling is refused."""
    key_id = gatekey.create()["key_id"]
    assert gatekey.document("keys", "revoke", key_id)["state"] == "revoked"
    assert gatekey.document("keys", "revoke", key_id)["state"] == "revoked"
    assert "revoked" in gatekey.refused("keys", "enable", key_id)
    assert [item["state"] for item in gatekey.document("keys", "list")["items"]] == ["revoked"]


def test_a_deleted_key_is_gone(gatekey: Commands) -> None:
    """From the list, not from the audit trail."""
    key_id = gatekey.create()["key_id"]
    assert gatekey.document("keys", "delete", key_id)["key_id"] == key_id
    assert gatekey.document("keys", "list")["items"] == []
    assert gatekey.document("audit", "list", "acme")["items"][0]["target"] == f"key:{key_id}"
    gatekey.refused("keys", "delete", key_id)


def test_no_command_asks_where_nobody_can_answer(gatekey: Commands) -> None:
    """Without a terminal the command itself is the answer, whatever stands on standard input."""
    done = gatekey.process("keys", "revoke", gatekey.create()["key_id"], stdin="n\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "revoked for ever" in done.stdout
