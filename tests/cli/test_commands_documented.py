"""docs/commands.md names every command, option and import field, and its examples print what they show."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import pytest

from service.auth.keyfile import _OPTIONAL, _REQUIRED, read_key_lines
from service.cli import main
from tests.support.clock import START
from tests.support.keys import PEPPERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.commands import Commands

PAGE: Final = (Path(__file__).parents[2] / "docs/commands.md").read_text(encoding="utf-8")
SECTIONS: Final = dict(re.findall(r"^#{2,3} (?:gatekey )?(.+?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
OTHERS: Final = ["Import files", "Not there yet"]
LATER: Final = ("users",)
TOKEN: Final = re.compile(
    r"key_[0-9a-f]{32}|gk_(?:live|test)_\w+|gks_[\w…]+|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)|\b[0-9a-f]{64}\b|command:\S+"
)


def commands(command: click.Command = main, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command and group by the words that call it, in the order of the help."""
    if path:
        yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, *path, name)


OPERATIONS: Final = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
ALL: Final = dict(commands())
LEAVES: Final = [name for name, command in ALL.items() if not isinstance(command, click.Group)]


def first_column(section: str, header: str) -> list[str]:
    table = re.search(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", SECTIONS[section], re.MULTILINE)
    assert table is not None
    return [re.split(r"(?<!\\)\|", line)[1].strip() for line in table[1].splitlines()]


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    """In the order of the help; what is not there yet is named as that."""
    assert list(SECTIONS) == [*ALL, *OTHERS]


@pytest.mark.parametrize("name", LEAVES)
def test_a_commands_table_has_its_options_and_their_values(name: str) -> None:
    """All of them, in the order of its help, each with what it takes; what is required says so."""
    options = [option for option in ALL[name].params if isinstance(option, click.Option)]
    rows = [] if not options else first_column(name, "Option")
    shown = [cell.strip("`").replace("\\", "").partition(" ") for cell in rows]
    assert [option for option, _, _ in shown] == [option.opts[0] for option in options]
    for option, (_, _, value) in zip(options, shown, strict=True):
        assert bool(value) != option.is_flag
        if isinstance(option.type, click.Choice):
            assert value == "|".join(option.type.choices)
        elif option.metavar and name != "doctor":
            assert value == option.metavar
        (row,) = re.findall(rf"^\| `{re.escape(option.opts[0])}[ `].*$", SECTIONS[name], re.MULTILINE)
        assert (" | Required. " in row) == option.required


@pytest.mark.parametrize("name", LEAVES)
def test_a_commands_section_names_its_arguments(name: str) -> None:
    """As its help does."""
    for argument in ALL[name].params:
        if isinstance(argument, click.Argument):
            word = re.sub(r"[\[\].]", "", argument.metavar or argument.human_readable_name.upper())
            assert f"`{word}`" in SECTIONS[name]


def test_commands_of_later_work_are_named_and_do_not_exist() -> None:
    """The page must not promise what is not there."""
    assert first_column("Not there yet", "Command") == [f"`gatekey {name}`" for name in LATER]
    assert not set(LATER) & set(ALL)


def test_the_table_of_import_fields_has_all_of_them() -> None:
    """Those that are required say so."""
    names = [name for cell in first_column("Import files", "Field") for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(names) == sorted(_REQUIRED | _OPTIONAL)
    required = set(re.findall(r"^\| `(\w+)` \| Required\.", SECTIONS["Import files"], re.MULTILINE))
    assert required == _REQUIRED


def test_the_examples_of_import_lines_can_be_imported() -> None:
    """Exactly as they stand on the page."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    seed = read_key_lines(block.encode().splitlines(), peppers=PEPPERS, now=START)
    assert [record.api_key for record in seed.records] == ["acme-orders", "acme-partner"]


def test_the_examples_print_what_the_page_shows(
    empty: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other on one store, but for what is new each time: identifiers, secrets, times, hashes."""
    monkeypatch.chdir(tmp_path)
    bad = [{"organization_id": "a", "api_key": "one", "secret_hash": f"sha256:{'0' * 64}", "domains": []},
           {"organization_id": "a", "api_key": "two", "secret_hash": f"sha256:{'0' * 64}"},
           {"organization_id": "Acme", "api_key": "three", "secret_hash": f"sha256:{'0' * 64}", "domains": []}]  # fmt: skip
    (tmp_path / "keys.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bad), encoding="utf-8")
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL))
    examples = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", blocks, re.MULTILINE)
    assert len(examples) > 20
    real: dict[str, str] = {}
    for line, shown in examples:
        words = shlex.split(TOKEN.sub(lambda token: real[token[0]], line))
        given = dict(word.split("=", 1) for word in words if word.startswith("GATEKEY_"))
        result = empty(*words[words.index("gatekey") + 1 :], **given)
        _compare(shown.strip("\n"), (result.stdout + result.stderr).strip("\n"), real)


def _compare(shown: str, printed: str, real: dict[str, str]) -> None:
    """Equal but for the tokens, whose counterparts are remembered, and for the width of columns."""
    assert _words(TOKEN.sub("#", shown)) == _words(TOKEN.sub("#", printed))
    real |= dict(zip(TOKEN.findall(shown), TOKEN.findall(printed), strict=True))


def _words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_commands_of_the_operations_page_exist() -> None:
    """With the options that they are given there."""
    checked = 0
    for call in re.findall(r"(?:^\s*(?:\$ )?|`|do |&&\s+)gatekey ([a-z][^`|;>&\n]*)", OPERATIONS, re.MULTILINE):
        words = re.split(r"\s+", call.strip())
        path = words[:1] if words[0] in ALL and not isinstance(ALL[words[0]], click.Group) else words[:2]
        command = ALL[" ".join(path)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, call
        checked += 1
    assert checked > 30
