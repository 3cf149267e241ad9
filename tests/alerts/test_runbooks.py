"""Every alert has a runbook and every runbook an alert, and what stands in it exists: links, metrics, queries, commands."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Final

import click
import pytest

from service.cli import main
from service.settings import SETTINGS
from tests.support.alerts import RUNBOOKS, alert_names, alerts, ids, promtool, rules
from tests.support.dashboards import exported

if TYPE_CHECKING:
    from pathlib import Path

PAGES: Final = sorted(RUNBOOKS.glob("Gatekey*.md"))
INDEX: Final = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
SECTIONS: Final = ["What it means", "How to see it", "First look", "Mitigation", "How to know that it is over"]
LOGS: Final = (RUNBOOKS.parent / "logs.md").read_text(encoding="utf-8")
EXPORTED: Final = set(exported())
SCRAPED: Final = {"up", "scrape_samples_post_metric_relabeling", "ALERTS"}
OWN_LINES: Final = {
    "error_type",
    "exit_code",
    "data",
    "groups",
    "rules",
    "health",
    "name",
    "activeAlertmanagers",
    "activeTargets",
    "labels",
    "job",
}
"""Fields of the service's own messages, and of Prometheus' answers."""


PROGRAMS: Final = re.compile(
    r"(?:promtool query instant \$PROM|curl -s\w*|(?:gatekey|logs|jq|sort|uniq|head|tail|grep|cut|date|df)\b)"
)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands(page: Path) -> list[str]:
    """The lines of the blocks of shell."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def queries(page: Path) -> list[str]:
    """What Prometheus is asked."""
    return re.findall(r"promtool query instant \$PROM '([^']+)'", text_of(page))


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Under the alert's name, and all of them in the index with their severities."""
    assert sorted(page.stem for page in PAGES) == sorted(alert_names())
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| ([a-z, ]+) \| \S.* \|$", INDEX, re.MULTILINE)
    severities = {name: {a.labels["severity"] for a in alerts() if a.name == name} for name in alert_names()}
    assert {name: set(said.split(", ")) for name, _, said in rows} == severities
    assert all(name == link for name, link, _ in rows)


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_a_runbook_has_its_five_sections(page: Path) -> None:
    """In this order, with something in each, and short enough to be read at night."""
    text = text_of(page)
    assert text.startswith(f"# {page.stem}\n")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert parts[1::2] == SECTIONS
    assert all(len(body.split()) >= 3 for body in parts[2::2])
    assert len(text.split()) < 450


@pytest.mark.parametrize("page", [*PAGES, RUNBOOKS / "README.md"], ids=ids([*PAGES, RUNBOOKS / "README.md"]))
def test_the_links_of_a_runbook_resolve(page: Path) -> None:
    """Files, and headings within them."""
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        name, _, anchor = target.partition("#")
        file = page.parent / name
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.+)$", text_of(file), re.MULTILINE)
        assert not anchor or anchor in {
            re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
        }


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_a_runbook_asks_only_for_what_exists(page: Path) -> None:
    """Metrics and recordings, the service's settings, the fields of its log."""
    text = text_of(page)
    known = EXPORTED | {rule.name for rule in rules() if not rule.is_alert}
    named = set(re.findall(r"\bgatekey_[a-z_0-9]+|\b(?:slo|job):[\w:]+", text))
    assert named <= known
    settings = {f"GATEKEY_{name.upper()}" for name in SETTINGS}
    assert set(re.findall(r"\bGATEKEY_[A-Z_]+\b", text)) <= settings
    fields = set(re.findall(r"^\| `(\w+)` \|", LOGS, re.MULTILINE)) | set(re.findall(r'"(\w+)":', LOGS)) | OWN_LINES
    for program in re.findall(r"jq (?:-\w+ )*'([^']+)'", text):
        code = re.sub(r'"[^"]*"', "", program)
        assert set(re.findall(r"\.(\w+)", code)) | set(re.findall(r"[{,] *(\w+)(?=[,} ])", code)) <= fields, program


@pytest.mark.usefixtures("promtool")
def test_the_queries_of_the_runbooks_are_valid(tmp_path: Path) -> None:
    """As promtool reads them; each page has one at least."""
    every = [query for page in PAGES for query in queries(page)]
    assert all(queries(page) for page in PAGES)
    for query in every:
        assert set(re.findall(r"\b[a-zA-Z_:]+(?=[{\[])", query)) <= EXPORTED | SCRAPED
    named = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(every)]
    (tmp_path / "queries.yml").write_text(
        json.dumps({"groups": [{"name": "runbooks", "rules": named}]})
    )  # JSON is YAML
    code, printed = promtool("check", "rules", tmp_path / "queries.yml")
    assert code == 0, printed


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_the_commands_of_a_runbook_are_accepted(page: Path) -> None:
    """``gatekey`` takes the words as they stand, in the blocks and within the text; the rest is of a few known programs."""
    for line in commands(page):
        for part in re.sub(r"'[^']*'", "''", line).split(" | "):
            assert PROGRAMS.match(part), part
    calls = [part for line in commands(page) for part in line.split(" | ") if part.startswith("gatekey ")]
    calls += re.findall(r"`(gatekey [^`]+)`", re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL))
    for call in calls:
        accept(shlex.split(call)[1:])


def accept(words: list[str]) -> None:
    """Parse the words as the command line does, without doing anything."""
    command: click.Command = main
    context = click.Context(main, info_name="gatekey")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    command.parse_args(context, words)
