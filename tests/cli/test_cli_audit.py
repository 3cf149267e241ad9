"""``gatekey audit``: what was done is read, and what was changed in it afterwards is found."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Commands


@pytest.fixture
def busy(gatekey: Commands) -> Commands:
    """A store in which some things were done."""
    key_id = gatekey.create("--name", "batch")["key_id"]
    gatekey.ok("keys", "disable", key_id)
    gatekey.ok("keys", "enable", key_id)
    gatekey.ok("keys", "revoke", key_id)
    return gatekey


def by_hand(gatekey: Commands, statement: str) -> None:
    """As somebody does it who reaches the store's files."""
    connection = sqlite3.connect(gatekey.environ["GATEKEY_STORE_URL"].removeprefix("sqlite:///") + ".history")
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


def verified(gatekey: Commands, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, what is said of the organization acme, and standard error."""
    result = gatekey("audit", "verify", "--json", *options)
    document = json.loads(result.stdout)
    assert document["valid"] == (result.exit_code == 0)
    return result.exit_code, {item["organization_id"]: item for item in document["items"]}["acme"], result.stderr


def test_the_trail_says_who_did_what(busy: Commands) -> None:
    """Newest first: the user of the machine, through a command."""
    items = busy.document("audit", "list", "acme")["items"]
    assert [item["action"] for item in items][:4] == ["key.revoked", "key.enabled", "key.disabled", "key.created"]
    assert all(item["actor"].startswith("command:") and len(item["actor"]) > 8 for item in items)
    assert {item["actor_organization_id"] for item in items} == {"gatekey"}
    assert (items[0]["before"], items[0]["after"]) == ({"state": "active"}, {"state": "revoked"})
    assert [item["seq"] for item in items] == sorted((item["seq"] for item in items), reverse=True)
    assert len(busy.document("audit", "list", "acme", "--limit", "2")["items"]) == 2
    head, *lines = busy.ok("audit", "list", "acme").splitlines()
    assert head.split() == ["AT", "SEQ", "ACTION", "TARGET", "BY", "FROM"]
    assert len(lines) == len(items)


def test_the_trail_of_nobody_is_refused(busy: Commands) -> None:
    """A mistyped name must not look like an empty trail."""
    busy.refused("audit", "list", "nobody")


def test_the_trail_of_nobody_is_not_whole(busy: Commands) -> None:
    """A mistyped name must not be proved; nothing is printed of the others."""
    assert "nobody" in busy.refused("audit", "verify", "acme", "nobody")
    assert "nobody" in busy.refused("audit", "verify", "nobody", "--json")


def test_an_entry_that_cannot_be_read_is_no_keys_fault(busy: Commands) -> None:
    """The listing names the trail; the check says which chain, and goes on with the others."""
    by_hand(busy, "UPDATE audit SET at = 'zzz' WHERE organization_id = 'acme' AND seq = 2")
    assert "audit trail" in busy.refused("audit", "list", "acme")
    result = busy("audit", "verify", "--json")
    assert result.exit_code == 1
    chains = {item["organization_id"]: item["problems"] for item in json.loads(result.stdout)["items"]}
    assert "cannot be read" in chains["acme"][0]["problem"]
    assert all(not problems for name, problems in chains.items() if name != "acme")


def test_a_kept_head_that_cannot_be_read_is_told_with_the_rest(busy: Commands, tmp_path: Path) -> None:
    """At its own place; what the check of the chain has found stays."""
    heads = tmp_path / "heads.json"
    heads.write_text(busy.ok("audit", "verify", "--json"))
    by_hand(busy, "UPDATE audit SET at = 'zzz' WHERE organization_id = 'acme' AND seq = 5")
    _, chain, _ = verified(busy, "--against", str(heads))
    assert chain["problems"] == [
        {"seq": 1, "problem": "an entry from here on cannot be read"},
        {"seq": 5, "problem": "cannot be read"},
    ]
    assert chain["head_seq"] == 5


def test_what_stands_in_an_entry_by_hand_is_shown_as_text(busy: Commands) -> None:
    """Whoever reads the trail sees it, and the check finds it."""
    by_hand(busy, "UPDATE audit SET after = 'nonsense', before = 'NaN' WHERE organization_id = 'acme' AND seq = 2")
    item = busy.document("audit", "list", "acme")["items"][-2]
    assert (item["seq"], item["before"], item["after"]) == (2, "NaN", "nonsense")
    assert verified(busy)[0] == 1


def test_a_trail_that_nobody_touched_is_whole(busy: Commands) -> None:
    """Each organization's, with the head that is to be kept elsewhere."""
    code, chain, errors = verified(busy)
    newest = busy.document("audit", "list", "acme")["items"][0]
    assert (code, chain["problems"], errors) == (0, [], "")
    assert (chain["head_seq"], chain["head_hash"]) == (newest["seq"], newest["hash"])
    assert chain["entries"] == newest["seq"]
    head, *lines = busy.ok("audit", "verify").splitlines()
    assert head.startswith("ORGANIZATION ")
    assert any(line.split()[:3] == ["acme", str(chain["entries"]), "whole"] for line in lines)
    assert [item["organization_id"] for item in busy.document("audit", "verify", "acme")["items"]] == ["acme"]


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE audit SET actor = 'command:nobody' WHERE organization_id = 'acme' AND seq = 2", 2),
        ("DELETE FROM audit WHERE organization_id = 'acme' AND seq = 2", 2),
        ("DELETE FROM audit WHERE organization_id = 'acme' AND seq >= 3", 3),
    ],
)
def test_what_was_changed_by_hand_is_found(statement: str, seq: int, busy: Commands) -> None:
    """A changed entry, a missing one and a cut-off end, each with its place; exit status 1 and one line."""
    by_hand(busy, statement)
    code, chain, errors = verified(busy)
    assert code == 1
    assert chain["problems"][0]["seq"] == seq
    assert errors == "gatekey: the audit trail of 1 organization is not as it was written\n"
    result = busy("audit", "verify")
    assert result.exit_code == 1
    assert f"acme: entry {seq}: " in result.stdout


def test_a_head_that_was_kept_elsewhere_is_found_again(busy: Commands, tmp_path: Path) -> None:
    """However long the trail has become since."""
    heads = tmp_path / "heads.json"
    heads.write_text(busy.ok("audit", "verify", "--json"))
    assert verified(busy, "--against", str(heads))[0] == 0
    busy.create()
    assert verified(busy, "--against", str(heads))[0] == 0


@pytest.mark.parametrize(
    ("field", "value", "word"), [("head_hash", "0" * 64, "another entry"), ("head_seq", 99, "gone")]
)
def test_a_trail_that_was_made_anew_does_not_have_the_kept_head(
    field: str, value: object, word: str, busy: Commands, tmp_path: Path
) -> None:
    """Whole in itself, and yet not the one that was there."""
    document = busy.document("audit", "verify")
    for item in document["items"]:
        item[field] = value
    heads = tmp_path / "heads.json"
    heads.write_text(json.dumps(document))
    code, chain, _ = verified(busy, "--against", str(heads))
    assert code == 1
    assert word in chain["problems"][0]["problem"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"items": [1]}', '{"items": [{"organization_id": "a", "head_seq": "1", "head_hash": "x"}]}'],
)
def test_a_file_that_holds_no_heads_is_wrong_usage(text: str, busy: Commands, tmp_path: Path) -> None:
    """It must not look as if it had been held against them."""
    heads = tmp_path / "heads.json"
    heads.write_text(text)
    assert busy("audit", "verify", "--against", str(heads)).exit_code == 2
