"""What every command on a store has in common: the store must be one that lasts, be there, and be prepared."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import Commands
from tests.support import leaks, plugin_store
from tests.support.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path

ON_STORE = (
    ("migrate",), ("migrate", "--check"), ("bootstrap",), ("orgs", "create", "acme"), ("orgs", "list"),
    ("orgs", "disable", "acme"), ("orgs", "enable", "acme"), ("keys", "list"), ("keys", "show", "key_1"),
    ("keys", "create", "--organization", "acme", "--domain", "api.example.com"), ("keys", "revoke", "key_1"),
    ("keys", "disable", "key_1"), ("keys", "enable", "key_1"), ("keys", "delete", "key_1"), ("keys", "rotate", "key_1"),
    ("keys", "rotate", "key_1", "--cut"), ("keys", "rotate", "key_1", "--cancel"), ("keys", "import", "-"),
    ("keys", "export"), ("audit", "list", "acme"), ("audit", "verify"), ("pepper", "status"),
    ("explain", "--api-key", "key-one", "--domain", "api.example.com"),
)  # fmt: skip
PASSWORD = "password-of-a-store-url"
leaks.register(PASSWORD)


@pytest.mark.parametrize("arguments", ON_STORE, ids=" ".join)
def test_the_memory_store_is_beyond_the_reach_of_a_command(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """One line says why, and what to do."""
    line = Commands("memory://", tmp_path).refused(*arguments)
    assert "serving process" in line
    assert "GATEKEY_STORE_URL" in line
    assert "gatekey serve --import" in line


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_store_that_does_not_answer_is_one_line_without_its_address(scheme: str, tmp_path: Path) -> None:
    """Soon, and without the password."""
    commands = Commands(f"{scheme}://user:{PASSWORD}@127.0.0.1:{free_port()}/0", tmp_path)
    line = commands.refused("keys", "list")
    assert line.startswith("the store does not answer")
    assert "127.0.0.1" not in line


@pytest.mark.parametrize(
    "url",
    [
        f"sqlite://{PASSWORD}/keys.db?nonsense=1",
        f"redis://:{PASSWORD}@host/0?nonsense=1",
        f"postgresql://u:{PASSWORD}@h/d?nonsense=1",
    ],
)
def test_a_wrong_address_is_one_line_without_it(url: str, tmp_path: Path) -> None:
    """It names the setting and what is wrong."""
    assert Commands(url, tmp_path).refused("orgs", "list").startswith("GATEKEY_STORE_URL: ")


def test_wrong_settings_are_told_before_anything_else(tmp_path: Path) -> None:
    """As in every command."""
    result = Commands("sqlite:///keys.db", tmp_path, port="none", pepper="short")("keys", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" GATEKEY_PORT", " GATEKEY_PEPPER"]


@pytest.mark.parametrize("manner", ["no-url", "no-open"])
def test_a_defect_of_a_store_by_plug_in_is_one_line_without_its_text(manner: str, tmp_path: Path) -> None:
    """Type and place: the text could hold a secret, and here it does."""
    done = Commands("", tmp_path).process("keys", "list", **plugin_store.environment(tmp_path, manner))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "LookupError in plugin_store.py, line " in done.stderr


def test_a_result_that_cannot_be_shown_is_one_line(gatekey: Commands) -> None:
    """Here a name that the output has no letters for: no traceback, which could hold anything."""
    gatekey.ok("orgs", "create", "beta", "--name", "\u0411\u0435\u0442\u0430")
    done = gatekey.process("orgs", "list", PYTHONIOENCODING="latin-1")
    assert done.returncode == 1
    assert done.stderr.startswith("gatekey: the command failed by a defect: UnicodeEncodeError in ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("statement", "words", "command"),
    [
        ("UPDATE api_keys SET secret = 'x'", "for this key", ("keys", "show", "{key}")),
        ("UPDATE organizations SET created_at = 'x'", "for an organization", ("orgs", "disable", "acme")),
    ],
)
def test_what_cannot_be_read_is_named(statement: str, words: str, command: tuple[str, ...], gatekey: Commands) -> None:
    """Nobody is told to delete a key that is whole."""
    key_id = gatekey.create()["key_id"]
    connection = sqlite3.connect(gatekey.environ["GATEKEY_STORE_URL"].removeprefix("sqlite:///"))
    with connection:
        connection.execute(statement)
    connection.close()
    assert words in gatekey.refused(*(word.format(key=key_id) for word in command))


def test_an_operators_key_that_could_never_pass_is_told(empty: Commands) -> None:
    """Where the installation serves one other organization only."""
    empty.ok("migrate")
    result = empty("bootstrap", "--json", GATEKEY_ORGANIZATION_ID="acme")
    leaks.register(json.loads(result.stdout)["secret_token"])
    assert result.exit_code == 0
    assert result.stderr.startswith("gatekey: GATEKEY_ORGANIZATION_ID")
    assert result.stderr.count("\n") == 1


def test_an_sqlite_file_is_prepared_once(empty: Commands) -> None:
    """By ``migrate``, or by itself when it is first used."""
    empty.ok("migrate")
    assert empty.ok("migrate") == "nothing to do\n"
    assert empty.document("migrate") == {"steps": []}
    assert empty.ok("migrate", "--check") == "nothing to do\n"


def test_a_process_of_its_own_does_the_same(gatekey: Commands) -> None:
    """Output on standard output, nothing else anywhere."""
    done = gatekey.process("orgs", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [item["organization_id"] for item in json.loads(done.stdout)["items"]] == ["acme"]


def test_what_the_parts_log_does_not_get_between_the_results(gatekey: Commands) -> None:
    """A warning is a line on standard error (an audit entry that is not stored, as a whole); the document stays one."""
    connection = sqlite3.connect(gatekey.environ["GATEKEY_STORE_URL"].removeprefix("sqlite:///") + ".history")
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END")
    connection.close()
    result = gatekey("orgs", "create", "beta", "--json")
    assert json.loads(result.stdout)["organization_id"] == "beta"
    delayed, lost = result.stderr.splitlines()
    assert delayed.startswith("gatekey: audit_delayed ")
    assert lost.startswith("gatekey: audit_entry_lost ")
    assert "organization.created" in lost
