"""The same commands on the stores that have a server: prepared by ``gatekey migrate`` and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support import leaks
from tests.support.redis_kind import RedisKind, names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Commands

WRITING = (
    ("bootstrap",), ("orgs", "create", "acme"), ("orgs", "disable", "acme"), ("keys", "revoke", "key_1"),
    ("keys", "create", "--organization", "acme", "--domain", "api.example.com"), ("keys", "import", "-"),
)  # fmt: skip
READING = (
    ("migrate", "--check"), ("orgs", "list"), ("keys", "list"), ("keys", "export"), ("audit", "verify"), ("pepper", "status"),
    ("explain", "--api-key", "key-one", "--domain", "api.example.com"),
)  # fmt: skip


def test_a_store_that_was_never_prepared_is_told_apart_from_an_empty_one(remote: Commands) -> None:
    """Nothing is written into it, and one line names the command that prepares it."""
    for arguments in (*WRITING, *READING):
        assert "gatekey migrate" in remote.refused(*arguments), arguments


def test_migrate_says_what_it_did_and_then_that_there_is_nothing_to_do(remote: Commands) -> None:
    """A line for each step; with ``--check`` nothing is changed and the exit status tells."""
    steps = remote.document("migrate")["steps"]
    assert steps
    assert all(step and "\n" not in step for step in steps)
    assert remote.ok("migrate") == "nothing to do\n"
    assert remote.document("migrate") == {"steps": []}
    assert remote.ok("migrate", "--check") == "nothing to do\n"


def test_a_key_lives_through_all_commands(remote: Commands) -> None:
    """Made, found, rotated, switched off and on, revoked, exported, imported, deleted; and the trail of it is whole."""
    remote.ok("migrate")
    leaks.register(remote.document("bootstrap")["secret_token"])
    remote.refused("bootstrap")
    remote.ok("orgs", "create", "acme")
    made = remote.create("--scope", "orders:read", "--expires-in", "90d", "--name", "batch")
    words = ("explain", "--api-key", made["api_key"], "--domain", "api.example.com")
    assert remote.document(*words, EXPLAIN_SECRET_TOKEN=made["secret_token"])["allowed"] is True
    assert [item["key_id"] for item in remote.document("keys", "list", "--organization", "acme")["items"]] == [
        made["key_id"]
    ]
    rotated = remote.document("keys", "rotate", made["key_id"])
    leaks.register(rotated["secret_token"])
    assert rotated["rotation"]["grace_seconds"] == 86400
    remote.ok("keys", "rotate", made["key_id"], "--cut")
    remote.ok("keys", "disable", made["key_id"])
    assert remote(*words).stderr.endswith(": inactive\n")
    remote.ok("keys", "enable", made["key_id"])
    exported = remote.ok("keys", "export", "--organization", "acme")
    remote.ok("keys", "delete", made["key_id"])
    assert remote.document("keys", "import", "-", stdin=exported)["created"] == 1
    assert remote.ok("keys", "export", "--organization", "acme") == exported
    remote.ok("keys", "revoke", made["key_id"])
    remote.refused("keys", "enable", made["key_id"])
    assert remote.document("pepper", "status")["items"][0]["secrets"] == 1  # the revoked key needs none
    document = remote.document("audit", "verify")
    assert document["valid"] is True
    assert {item["organization_id"] for item in document["items"]} == {"acme", "gatekey"}


def test_an_import_with_a_bad_line_in_the_middle_stores_nothing(remote: Commands) -> None:
    """Neither a key nor an organization."""
    remote.ok("migrate")
    lines = [
        f'{{"organization_id":"org-{n}","api_key":"key-{n}","secret_hash":"sha256:{n:064}","domains":["a.example"]}}'
        for n in range(20)
    ]
    lines[10] = "nonsense"
    result = remote("keys", "import", "-", stdin="\n".join(lines))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "gatekey: line 11: is not JSON in UTF-8; nothing was imported\n"
    assert remote.document("keys", "list")["items"] == []
    assert remote.document("orgs", "list")["items"] == []


@pytest.mark.parametrize("remote", ["redis"], indirect=True)  # the store that keeps a head as text
def test_a_head_that_cannot_be_read_is_told_as_such(remote: Commands, tmp_path: Path) -> None:
    """No entry is blamed for it; a kept head cannot be looked for either; the other chains are whole."""
    remote.ok("migrate")
    remote.ok("orgs", "create", "acme")
    remote.ok("orgs", "create", "beta")
    heads = tmp_path / "heads.json"
    heads.write_text(remote.ok("audit", "verify", "--json"))
    server, (prefix,) = RedisKind().server(), parse_qs(urlsplit(remote.environ["GATEKEY_STORE_URL"]).query)["prefix"]
    (place,) = (name for name in names(server, prefix) if name.endswith(b":audit"))
    assert server.ask("HSET", place, "acme", "nonsense") == 0  # it was there
    problem = {"seq": 0, "problem": "the recorded end of the chain cannot be read"}
    for options, problems in (
        ((), [problem]),
        (("--against", str(heads)), [problem, {"seq": 1, "problem": "cannot be read"}]),
    ):
        result = remote("audit", "verify", "--json", *options)
        assert result.stderr == "gatekey: the audit trail of 1 organization is not as it was written\n"
        found = {item["organization_id"]: item for item in json.loads(result.stdout)["items"]}
        assert (found["acme"]["entries"], found["acme"]["head_seq"], found["acme"]["problems"]) == (0, 0, problems)
        assert (found["beta"]["entries"], found["beta"]["problems"]) == (1, [])
    assert "acme: entry 0: the recorded end of the chain cannot be read\n" in remote("audit", "verify").stdout
