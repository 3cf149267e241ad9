"""The command line without its servers: help, exit statuses, and what `gatekey check` prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from service import __version__
from service.cli import main
from service.settings import SECRETS, SETTINGS
from tests.support import leaks
from tests.support.servers import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


def walk(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group below ``command``, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, *path, name)


ALL = dict(walk(main))
GROUPS = {path: group for path, group in ALL.items() if isinstance(group, click.Group)}
LATER = ("users",)
SECRET = "hunter2-of-the-command-line-tests"
leaks.register(SECRET)


@pytest.fixture(autouse=True)
def _no_file_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **settings: str) -> Result:
    """``gatekey`` with exactly these settings; its output must be free of secrets."""
    cleared: dict[str, str | None] = {f"GATEKEY_{name.upper()}": None for name in SETTINGS}
    environ = {
        **cleared,
        "GATEKEY_CONFIG": None,
        **{f"GATEKEY_{name.upper()}": value for name, value in settings.items()},
    }
    result = CliRunner().invoke(main, arguments, env=environ)
    leaks.check(result.output, "the output of the command")
    return result


@pytest.mark.parametrize("path", ALL, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_says_what_a_command_does_and_shows_examples(path: tuple[str, ...], flag: str) -> None:
    """Exit status 0, a usage line, a sentence and examples to copy, which name the command itself."""
    result = run(*path, flag)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    examples = result.output.partition("\n  Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(line.startswith("    ") and " ".join(("gatekey", *path)) in line for line in examples)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_says_what_it_does(path: tuple[str, ...]) -> None:
    """In a sentence of its own."""
    for option in ALL[path].params:
        if isinstance(option, click.Option):
            assert option.help is not None, option.name
            assert option.help.endswith("."), option.name


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_the_list_of_commands_has_a_line_for_each(path: tuple[str, ...]) -> None:
    """Each with the command's own short help; the list is printed without loading the commands."""
    group = GROUPS[path]
    context = click.Context(group)
    shown = dict(
        line.split(maxsplit=1) for line in run(*path, "--help").output.partition("Commands:")[2].splitlines() if line
    )
    assert list(shown) == group.list_commands(context)
    for name, line in shown.items():
        command = group.get_command(context, name)
        assert command is not None
        assert line == command.get_short_help_str(limit=100)


def test_help_loads_neither_the_service_nor_a_store() -> None:
    """Whoever asks for help does not wait for it."""
    program = (
        "import sys; from click.testing import CliRunner; from service.cli import main\n"
        "for words in ([], ['keys'], ['audit']): CliRunner().invoke(main, [*words, '--help'])\n"
        "print(sorted(name for name in sys.modules if name in ('flask', 'granian', 'asyncpg', 'redis', 'pydantic')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


def test_version_prints_the_version() -> None:
    """For bug reports."""
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"gatekey, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["keys"], ["keys", "nonsense"], ["nonsense"], ["--nonsense"],
     ["serve", "--nonsense"], ["serve", "extra"], ["check", "extra"],
     ["serve", "--interface", "asgi"], ["serve", "--import"], ["serve", "--import", "/nonexistent/file"],
     ["check", "--json=yes"], *([name] for name in LATER)],
)  # fmt: skip
def test_wrong_usage_is_exit_status_2(arguments: list[str]) -> None:
    """So is a command that this version does not have yet."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(("Usage: ", "Error: "))


def test_check_prints_every_setting_with_its_value() -> None:
    """One line each, lists by comma, and the policies."""
    result = run("check", port="4711", login_next_hosts="a.example,b.example", log_summarize="off")
    assert result.exit_code == 0
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line.startswith("GATEKEY_"))
    assert list(shown) == [f"GATEKEY_{name.upper()}" for name in SETTINGS]
    assert shown["GATEKEY_PORT"] == "4711"
    assert shown["GATEKEY_LOGIN_NEXT_HOSTS"] == "a.example,b.example"
    assert shown["GATEKEY_LOG_SUMMARIZE"] == "off"
    assert shown["GATEKEY_STORE_TIMEOUT"] == "0.25"
    assert shown["GATEKEY_UDS"] == "-"
    assert "policy.default: organization = -;" in result.stdout
    assert "because memory:// keeps keys" in result.stderr


def test_check_prints_one_json_document_on_demand(tmp_path: Path) -> None:
    """Typed values, the policies with all their fields, and the notes."""
    path = tmp_path / "some.toml"
    path.write_text(
        'port = 4711\nadmin_listen = "[::1]:9000"\n[policy.orders]\nscopes = ["orders:read"]\nmode = "shadow"\n',
        encoding="utf-8",
    )
    result = run("check", "--json", config=str(path), uds="/run/gatekey.sock", mode="shadow")
    assert result.exit_code == 0
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["valid"] is True
    assert document["settings"]["GATEKEY_PORT"] == 4711
    assert document["settings"]["GATEKEY_ADMIN_LISTEN"] == "[::1]:9000"
    assert document["settings"]["GATEKEY_UDS"] == "/run/gatekey.sock"
    assert document["settings"]["GATEKEY_TRUSTED_PROXIES"] == ["127.0.0.0/8", "::1/128"]
    assert document["policies"]["orders"] == {
        "organization": "",
        "scopes": ["orders:read"],
        "client": "auto",
        "credentials": ["basic", "bearer", "headers"],
        "preflight": "deny",
        "cors_origins": [],
        "mode": "shadow",
    }
    assert any("shadow" in note for note in document["notes"])


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_check_masks_every_secret(name: str, flag: list[str]) -> None:
    """Of a store's address its scheme is shown, of any other secret only that it is set."""
    value = {"store_url": f"memory://{SECRET}@host/{SECRET}", "store_listen_url": f"memory://:{SECRET}@host/0"}.get(
        name
    )
    result = run("check", *flag, **{name: value or SECRET})
    if name == "peppers":
        assert result.exit_code == 1
    else:
        assert result.exit_code == 0
        assert ("://[secret]" if value else "[secret]") in result.stdout


@pytest.mark.parametrize("command", [["check"], ["serve"], ["serve", "--demo"]])
def test_wrong_settings_are_exit_status_1_with_a_line_for_each_problem(command: list[str]) -> None:
    """On standard error, each naming its variable."""
    result = run(*command, port=SECRET, mode=SECRET, workrs="2", store_url="nosuch://user:" + SECRET + "@host")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert [line.split(":")[1].strip() for line in result.stderr.splitlines()] == [
        "GATEKEY_WORKRS",
        "GATEKEY_MODE",
        "GATEKEY_PORT",
        "GATEKEY_PEPPER",
        "GATEKEY_SECRET_KEY",
        "GATEKEY_STORE_URL",
    ]
    assert all(line.startswith("gatekey: GATEKEY_") for line in result.stderr.splitlines())


def test_check_tells_the_problems_as_json_too() -> None:
    """A pipeline reads them from standard output, a person from standard error."""
    result = run("check", "--json", port="none")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document == {"valid": False, "problems": ["GATEKEY_PORT: must be a whole number from 1 to 65535"]}
    assert result.stderr == "gatekey: GATEKEY_PORT: must be a whole number from 1 to 65535\n"


def test_check_reports_what_is_wrong_with_a_policy(tmp_path: Path) -> None:
    """With the file, the policy and the field."""
    path = tmp_path / "some.toml"
    path.write_text('[policy.orders]\nclient = "robot"\n', encoding="utf-8")
    result = run("check", config=str(path))
    assert result.exit_code == 1
    assert result.stderr == "gatekey: some.toml: policy.orders.client: must be one of auto, api, browser\n"


# -- serve, as far as it refuses before it listens --------------------------------------------------------------------

GOOD = {"organization_id": "acme", "api_key": "acme-1", "secret_token": SECRET, "domains": ["api.example.com"]}


def import_file(path: Path, *lines: object) -> str:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)


def test_a_file_with_bad_lines_is_refused_by_number_and_reason(tmp_path: Path) -> None:
    """All bad lines are told, none of their values, and nothing is loaded."""
    file = import_file(
        tmp_path / "keys.jsonl",
        GOOD,
        "",
        {**GOOD, "organization_id": "Acme Inc"},
        {**GOOD, "name": "another"},
        f"not json {SECRET}",
        {**GOOD, "api_key": "acme-2", "domains": [f"*.{SECRET} x"]},
        {**GOOD, "api_key": "acme-3", "secret_token": "with space"},
    )
    result = run("serve", "--import", file)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "line 3",
        "line 4",
        "line 5",
        "line 6",
        "line 7",
    ]
    assert all(len(line.split(":", 2)[2]) > 5 for line in lines)
    assert lines[-1].endswith("; nothing was imported")


def test_an_import_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A folder is no file: wrong usage."""
    assert run("serve", "--import", str(tmp_path)).exit_code == 2


def test_the_demo_key_stays_out_of_a_real_store() -> None:
    """Its secret is published, so it is made for memory:// only."""
    result = run("serve", "--demo", store_url="postgresql://h/db", pepper="p" * 32, secret_key="k" * 32)
    assert result.exit_code == 1
    assert "GATEKEY_STORE_URL" in result.stderr


def test_the_demo_key_does_not_replace_an_imported_one(tmp_path: Path) -> None:
    """The same api_key twice is a mistake, told before anything starts."""
    file = import_file(tmp_path / "keys.jsonl", {**GOOD, "api_key": "demo-key"})
    result = run("serve", "--demo", "--import", file)
    assert result.exit_code == 1
    assert "leave out --demo" in result.stderr
