"""docs/commands.md names every command, option and import field, and its examples do what they show."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from service.auth.keyfile import _OPTIONAL, _REQUIRED, read_key_lines
from service.cli import main
from tests.support.clock import START
from tests.support.keys import PEPPERS

PAGE = (Path(__file__).parents[2] / "docs/commands.md").read_text(encoding="utf-8")
CONTEXT = click.Context(main)
SECTIONS = dict(re.findall(r"^## (?:gatekey )?(.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
LATER = ("migrate", "bootstrap", "orgs", "keys", "users", "audit", "pepper", "explain")


@pytest.fixture(autouse=True)
def _no_file_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def first_column(section: str, header: str) -> list[str]:
    table = re.search(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", SECTIONS[section], re.MULTILINE)
    assert table is not None
    return [re.split(r"(?<!\\)\|", line)[1].strip() for line in table[1].splitlines()]


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    """What is not there yet is named as that."""
    assert [name for name in SECTIONS if name != "Not there yet"] == main.list_commands(CONTEXT)


@pytest.mark.parametrize("name", main.list_commands(CONTEXT))
def test_a_commands_table_has_its_options_and_their_choices(name: str) -> None:
    """All of them, in the order of its help."""
    command = main.get_command(CONTEXT, name)
    assert command is not None
    options = [option for option in command.params if isinstance(option, click.Option)]
    shown = [cell.strip("`").replace("\\", "").partition(" ") for cell in first_column(name, "Option")]
    assert [option for option, _, _ in shown] == [option.opts[0] for option in options]
    for option, (_, _, value) in zip(options, shown, strict=True):
        assert bool(value) != option.is_flag
        if isinstance(option.type, click.Choice):
            assert value == "|".join(option.type.choices)


def test_commands_of_later_work_are_named_and_do_not_exist() -> None:
    """The page must not promise what is not there."""
    assert first_column("Not there yet", "Command") == [f"`gatekey {name}`" for name in LATER]
    assert not set(LATER) & set(main.list_commands(CONTEXT))


def test_the_table_of_import_fields_has_all_of_them() -> None:
    """Those that are required say so."""
    names = [name for cell in first_column("serve", "Field") for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(names) == sorted(_REQUIRED | _OPTIONAL)
    required = {line.split("`")[1] for line in PAGE.splitlines() if re.match(r"\| `\w+` \| Required\.", line)}
    assert required == _REQUIRED


def test_the_examples_of_import_lines_can_be_imported() -> None:
    """Exactly as they stand on the page."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    seed = read_key_lines(block.encode().splitlines(), peppers=PEPPERS, now=START)
    assert [record.api_key for record in seed.records] == ["acme-orders", "acme-partner"]


def test_the_examples_of_mistakes_print_what_the_page_shows(tmp_path: Path) -> None:
    """Each command with the lines below it."""
    (tmp_path / "keys.jsonl").write_text(
        '{"organization_id":"a","api_key":"one","secret_token":"s","domains":[]}\n'
        '{"organization_id":"a","api_key":"two","secret_token":"s"}\n'
        '{"organization_id":"Acme","api_key":"three","secret_token":"s","domains":[]}\n',
        encoding="utf-8",
    )
    cleared: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("GATEKEY_"))
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        line, _, expected = block.partition("\n")
        words = shlex.split(line.removeprefix("$ "))
        given = dict(word.split("=", 1) for word in words if word.startswith("GATEKEY_"))
        arguments = words[words.index("gatekey") + 1 :]
        result = CliRunner().invoke(main, arguments, env={**cleared, **given})
        assert (result.exit_code, result.stderr) == (1, expected)
