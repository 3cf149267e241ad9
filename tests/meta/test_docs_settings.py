"""The tables and examples of docs/settings.md, docs/policies.md and gatekey.example.toml say what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.cli import main
from service.policies import _FIELDS, Policy, read_policies
from service.settings import SECRETS, SETTINGS, Settings, SettingsError, load_settings

ROOT = Path(__file__).parents[2]
SETTINGS_PAGE = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
POLICIES_PAGE = (ROOT / "docs/policies.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "gatekey.example.toml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _no_file_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table whose first column has this header."""
    table = re.search(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table[1].splitlines()]


def shown(value: Any) -> str:
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


TABLE = {row[0].strip("`").removeprefix("GATEKEY_").lower(): row for row in rows(SETTINGS_PAGE, "Variable")}


def test_the_table_has_every_setting_in_order() -> None:
    """Nothing is missing, and nothing is there that does not exist."""
    assert list(TABLE) == list(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_the_default_and_the_values_of_the_table(name: str) -> None:
    """The value column is what the service says when it refuses one."""
    _, default, value, *_ = TABLE[name]
    field = Settings.model_fields[name].default
    expected = {"store_url": "memory://", "workers": "the number of processors"}.get(name) or shown(field)
    assert default.strip("`") == expected
    with pytest.raises(SettingsError) as caught:
        load_settings({f"GATEKEY_{name.upper()}": "\x01"})
    said = caught.value.problems[0].partition(": ")[2]
    assert value == said.removeprefix("must be ").removeprefix("must have ")


def test_the_page_names_every_secret_and_only_those() -> None:
    """Each can be read from a file."""
    secret = {name for name, row in TABLE.items() if row[3].endswith("Secret. |") or row[3].endswith("Secret.")}
    assert secret == set(SECRETS)
    paragraph = SETTINGS_PAGE.partition("## Secrets")[2].partition("may each be read")[0]
    assert re.findall(r"`GATEKEY_(\w+)`", paragraph) == [name.upper() for name in SECRETS]


def test_the_example_file_is_valid_as_it_stands(tmp_path: Path) -> None:
    """Copied and used at once, it changes nothing but to add a policy."""
    (tmp_path / "gatekey.toml").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "empty.toml").touch()
    settings = load_settings({})
    defaults = load_settings({"GATEKEY_CONFIG": "empty.toml"})
    assert set(settings.policies) == {"default", "orders"}
    for name in SETTINGS:
        if name not in SECRETS:
            assert getattr(settings, name) == getattr(defaults, name)


def test_the_example_file_shows_every_setting_with_its_default() -> None:
    """Or with an example where there is no default; each line is right when it is uncommented."""
    lines = re.findall(r"^# (\w+ = .*)$", EXAMPLE.partition("# -- policies")[0], re.MULTILINE)
    document = tomllib.loads("\n".join(lines))
    assert {name.removesuffix("_file") for name in document} == set(SETTINGS)
    for name, value in document.items():
        default = None if name.endswith("_file") else Settings.model_fields[name].default
        if name == "store_url":
            assert value == "memory://"
        elif default is not None and default not in ("", ()):
            assert getattr(Settings.model_validate({name: value}), name) == default
        elif not name.endswith("_file"):
            Settings.model_validate({name: value})


def test_the_example_file_shows_every_field_of_a_policy_with_its_default() -> None:
    """The commented block is a policy of its own when it is uncommented."""
    block = EXAMPLE.partition("# Every field, with its default:\n")[2]
    policies, problems = read_policies(tomllib.loads(re.sub(r"^# ", "", block, flags=re.MULTILINE))["policy"])
    assert problems == []
    assert policies["default"] == Policy(name="default", organization="acme")
    assert re.findall(r"^# (\w+) =", block, re.MULTILINE) == list(_FIELDS)


def test_the_table_of_a_policys_fields_has_them_all_with_their_defaults() -> None:
    """Defaults are written as in TOML."""
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(POLICIES_PAGE, "Field")}
    assert list(table) == list(_FIELDS)
    toml = "\n".join(f"{name} = {default}" for name, default in table.items() if default != "any")
    policies, problems = read_policies({"default": tomllib.loads(toml)})
    assert problems == []
    assert policies == {"default": Policy(name="default")}


def test_the_worked_example_gives_what_the_page_shows(tmp_path: Path) -> None:
    """`gatekey check` prints exactly these lines for exactly this file, and this line for the mistake."""
    (block,) = re.findall(r"```toml\n(.*?)```", POLICIES_PAGE, re.DOTALL)
    (tmp_path / "gatekey.toml").write_text(block, encoding="utf-8")
    result = CliRunner().invoke(main, ["check"], env={"GATEKEY_CONFIG": None})
    printed = [line for line in result.stdout.splitlines() if line.startswith("policy.")]
    assert printed == [line for line in POLICIES_PAGE.splitlines() if line.startswith("policy.")]
    (tmp_path / "gatekey.toml").write_text(block.replace('client = "api"', 'client = "robot"', 1), encoding="utf-8")
    result = CliRunner().invoke(main, ["check"], env={"GATEKEY_CONFIG": None})
    assert result.stderr.strip() in POLICIES_PAGE
