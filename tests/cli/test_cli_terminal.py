"""What is different on a terminal: questions before what cannot be undone, a bar for what takes long, and signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.terminal import on_terminal
from tests.support.servers import key_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Commands


@pytest.mark.parametrize("command", ["revoke", "delete"])
def test_what_cannot_be_undone_is_asked_about(command: str, gatekey: Commands) -> None:
    """The question names the key as people know it; a no changes nothing, a yes does it."""
    key_id = gatekey.create("--name", "batch")["key_id"]
    seen = on_terminal(gatekey, "keys", command, key_id, asked="[y/N]", typed="n\n")
    assert seen.code == 1
    assert f"{command.capitalize()} the key {key_id} (acme, batch)?" in seen.screen
    assert seen.screen.endswith("gatekey: nothing was changed\n")
    assert gatekey.document("keys", "show", key_id)["state"] == "active"
    seen = on_terminal(gatekey, "keys", command, key_id, asked="[y/N]", typed="y\n", pipe=True)
    assert seen.code == 0
    assert seen.piped.startswith(f"Key {key_id} is {command}d")


def test_whoever_is_sure_is_not_asked(gatekey: Commands) -> None:
    """``--yes``, for scripts that run on a terminal."""
    key_id = gatekey.create()["key_id"]
    seen = on_terminal(gatekey, "keys", "revoke", key_id, "--yes")
    assert seen.code == 0
    assert "[y/N]" not in seen.screen


def test_a_key_that_is_not_there_is_told_before_anything_is_asked(gatekey: Commands) -> None:
    """One line."""
    seen = on_terminal(gatekey, "keys", "delete", "key_0")
    assert (seen.code, seen.screen.count("\n")) == (1, 1)


def test_a_long_import_and_export_show_a_bar(gatekey: Commands, tmp_path: Path) -> None:
    """On standard error, while the result goes to standard output."""
    file = tmp_path / "keys.jsonl"
    file.write_bytes(b"".join(key_line(f"key-{number}") for number in range(2500)))
    seen = on_terminal(gatekey, "keys", "import", str(file), pipe=True)
    assert seen.code == 0
    assert seen.piped.startswith("Imported 2,500 keys; ")
    assert "checking  [" in seen.screen
    assert "2500/2500" in seen.screen
    assert seen.screen.endswith("storing …\n")
    seen = on_terminal(gatekey, "keys", "export", pipe=True)
    assert seen.code == 0
    assert len(seen.piped.splitlines()) == 2500
    assert "2500/2500" in seen.screen
    seen = on_terminal(gatekey, "keys", "export", "--organization", "acme", pipe=True)
    assert "exporting  2,500" in seen.screen


def test_an_export_to_the_terminal_itself_has_no_bar(gatekey: Commands) -> None:
    """It would stand among the lines."""
    gatekey.create()
    seen = on_terminal(gatekey, "keys", "export")
    assert seen.code == 0
    assert seen.screen.startswith('{"organization_id"')
    assert "exporting" not in seen.screen


def test_explain_asks_for_the_secret_without_showing_it(gatekey: Commands) -> None:
    """And marks each step with a sign."""
    made = gatekey.create()
    words = ("explain", "--api-key", made["api_key"], "--domain", "api.example.com")
    seen = on_terminal(gatekey, *words, asked="Secret", typed=made["secret_token"] + "\n")
    assert seen.code == 0
    assert "✓   secret" in seen.screen
    assert seen.screen.endswith("allowed\n")
    seen = on_terminal(gatekey, *words, asked="Secret", typed="\n")
    assert "–   secret" in seen.screen  # noqa: RUF001 - the sign itself
