"""``gatekey keys import`` and ``export``: all or nothing, reports by line, and a round trip that changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

from tests.cli.commands import Commands
from tests.support import leaks
from tests.support.servers import clean_environment, key_line

SECRET = "secret-of-an-imported-key"
leaks.register(SECRET)


def lines(*api_keys: str, **fields: object) -> str:
    return b"".join(key_line(api_key, secret=SECRET, **fields) for api_key in api_keys).decode()


def test_a_file_is_imported_and_again_changes_nothing(gatekey: Commands, tmp_path: Path) -> None:
    """Organizations that are missing are made."""
    file = tmp_path / "keys.jsonl"
    file.write_text(lines("one", "two") + "\n" + lines("three", organization_id="beta"), encoding="utf-8")
    report = gatekey.document("keys", "import", str(file))
    assert (report["created"], report["unchanged"], report["refused"]) == (3, 0, 0)
    targets = [item["target"] for item in gatekey.document("audit", "list", "beta")["items"]]
    assert f"import:{report['digest']}" in targets
    assert report["in_force"]["everywhere_by"]
    again = gatekey.ok("keys", "import", str(file))
    assert again == "Imported 0 keys; 3 lines changed nothing.\n"
    assert [item["organization_id"] for item in gatekey.document("orgs", "list")["items"]] == ["acme", "beta"]
    assert len(gatekey.document("keys", "list")["items"]) == 3


def test_an_imported_key_works(gatekey: Commands) -> None:
    """By the secret that its owner has."""
    gatekey.ok("keys", "import", "-", stdin=lines("one"))
    words = ("explain", "--api-key", "one", "--domain", "api.example.com")
    assert gatekey.document(*words, EXPLAIN_SECRET_TOKEN=SECRET)["allowed"] is True


def test_a_bad_line_in_the_middle_imports_nothing(gatekey: Commands) -> None:
    """Every bad line is told by its number, none of its values."""
    text = lines("one") + f'{{"secret_token":"{SECRET}"}}\n' + lines("two") + "nonsense\n" + lines("three")
    result = gatekey("keys", "import", "-", stdin=text)
    assert (result.exit_code, result.stdout) == (1, "")
    first, last = result.stderr.splitlines()
    assert first.startswith("gatekey: line 2: ")
    assert last.startswith("gatekey: line 4: ")
    assert last.endswith("; nothing was imported")
    assert gatekey.document("keys", "list")["items"] == []


def test_the_report_of_a_refused_file_is_a_document_too(gatekey: Commands) -> None:
    """On standard output, with exit status 1."""
    result = gatekey("keys", "import", "-", "--json", stdin=lines("one") + "nonsense\n")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["created"], report["refused"], report["in_force"]) == (0, 1, None)
    assert [item["line"] for item in report["lines"]] == [2]


def test_with_continue_the_good_lines_are_imported(gatekey: Commands) -> None:
    """The bad ones are told, and the exit status says that there were some."""
    result = gatekey("keys", "import", "-", "--continue", stdin=lines("one") + "nonsense\n" + lines("two"))
    assert result.exit_code == 1
    assert result.stdout.startswith("Imported 2 keys; 0 lines changed nothing.\n")
    assert result.stderr.startswith("gatekey: line 2: ")
    assert result.stderr.endswith("; 1 line refused\n")
    assert len(gatekey.document("keys", "list")["items"]) == 2


def test_a_key_that_works_by_headers_only_is_named(gatekey: Commands) -> None:
    """Imported all the same."""
    result = gatekey("keys", "import", "-", stdin=lines("acme.one"))
    assert result.exit_code == 0
    assert result.stderr == "gatekey: line 1: this api_key holds : or . and works by the two headers only\n"


def test_a_file_that_is_not_there_is_wrong_usage(gatekey: Commands) -> None:
    """As everywhere."""
    assert gatekey("keys", "import", "/nonexistent/file").exit_code == 2


def test_an_export_is_imported_again_with_nothing_lost(gatekey: Commands, tmp_path: Path) -> None:
    """Into another store with the same pepper: the same keys, and the same secrets work."""
    made = gatekey.create("--scope", "orders:read", "--expires-in", "9d", "--metadata", '{"a": [1]}', "--name", "Zoë")
    gatekey.document("keys", "rotate", made["key_id"])
    gatekey.ok("keys", "disable", gatekey.create()["key_id"])
    gatekey.ok("keys", "revoke", gatekey.create()["key_id"])
    exported = gatekey.ok("keys", "export")
    assert len(exported.splitlines()) == 3
    other = Commands(f"sqlite:///{tmp_path}/other.db", tmp_path)
    other.ok("migrate")
    other.ok("keys", "import", "-", stdin=exported)
    assert other.ok("keys", "export") == exported
    words = ("explain", "--api-key", made["api_key"], "--domain", "api.example.com")
    assert other.document(*words, EXPLAIN_SECRET_TOKEN=made["secret_token"])["allowed"] is True


def test_an_export_of_one_organization_has_no_other_keys(gatekey: Commands) -> None:
    """One that is not there is refused."""
    gatekey.ok("orgs", "create", "beta")
    gatekey.create()
    made = gatekey.create(organization="beta")
    (line,) = gatekey.ok("keys", "export", "--organization", "beta").splitlines()
    assert json.loads(line)["key_id"] == made["key_id"]
    gatekey.refused("keys", "export", "--organization", "nobody")


def test_an_export_that_leaves_out_a_key_says_so(gatekey: Commands, tmp_path: Path) -> None:
    """A backup without it must not pass for a whole one; the keys that can be read are in it all the same."""
    gatekey.ok("keys", "import", "-", stdin=lines("one", "two", "three"))
    connection = sqlite3.connect(gatekey.environ["GATEKEY_STORE_URL"].removeprefix("sqlite:///"))
    with connection:
        connection.execute("UPDATE api_keys SET secret = 'spoilt' WHERE api_key = 'two'")
    connection.close()
    file = tmp_path / "keys.jsonl"
    result = gatekey("keys", "export", "--output", str(file))
    assert result.exit_code == 1
    assert "1 key is missing" in result.stderr
    assert {json.loads(line)["api_key"] for line in file.read_text().splitlines()} == {"one", "three"}
    assert gatekey("keys", "export").exit_code == 1


def test_an_export_to_a_file_is_its_owners_alone(gatekey: Commands, tmp_path: Path) -> None:
    """Mode 0600 whatever was there before, and whole or not at all."""
    gatekey.create()
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    file.chmod(0o644)
    result = gatekey("keys", "export", "--output", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"Exported 1 key to {file}.\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == gatekey.ok("keys", "export")
    assert gatekey("keys", "export", "--organization", "nobody", "--output", str(file)).exit_code == 1
    assert file.read_text() == gatekey.ok("keys", "export")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".out")) == []


def test_an_export_to_where_nothing_can_be_written_is_one_line(gatekey: Commands, tmp_path: Path) -> None:
    """And to a device it goes without replacing the device."""
    assert "cannot be written" in gatekey.refused("keys", "export", "--output", str(tmp_path / "no" / "folder"))
    assert gatekey("keys", "export", "--output", os.devnull).exit_code == 0
    assert not Path(os.devnull).is_file()


def test_a_reader_that_goes_away_ends_the_export_quietly(gatekey: Commands) -> None:
    """As ``| head -1`` does."""
    gatekey.ok("keys", "import", "-", stdin=lines(*(f"key-{number}" for number in range(2000))))
    with subprocess.Popen(
        [sys.executable, "-m", "service", "keys", "export"],
        env={**clean_environment(), **gatekey.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"organization_id"')
        process.stdout.close()
        assert process.stderr.read() == b""


def test_pipes_see_no_progress(gatekey: Commands) -> None:
    """Neither an import nor an export writes a bar where nobody looks."""
    done = gatekey.process("keys", "import", "-", stdin=lines("one", "two"))
    assert (done.returncode, done.stderr) == (0, "")
    done = gatekey.process("keys", "export")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
