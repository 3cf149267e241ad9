"""The tables of docs/metrics.md and docs/logs.md say what the code does."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.auth.decision import AccessRequest, Decision, Door, Source
from service.auth.domains import parse_target
from service.auth.reasons import FLOOD_REASONS, REASONS, Outcome, Reason
from service.observe.decision_log import DecisionLog
from service.observe.families import CERTIFICATES, families
from service.observe.floods import THRESHOLD, WINDOW
from service.observe.lines import MAX_LINE
from service.observe.metrics import Metrics
from service.observe.process import ProcessCollector
from service.observe.writer import _INTERVAL, _MAX_QUEUED, LineWriter
from tests.support.clock import FakeClock
from tests.support.keys import PEPPERS, known_key
from tests.support.otlp import sampled_span

if TYPE_CHECKING:
    from service.observe.families import Family

DOCS = Path(__file__).parents[2] / "docs"
DESIGN = (DOCS.parent / "DESIGN.md").read_text(encoding="utf-8")
METRICS = (DOCS / "metrics.md").read_text(encoding="utf-8")
LOGS = (DOCS / "logs.md").read_text(encoding="utf-8")
FAMILIES = families(store="memory", store_timeout=0.25, request_timeout=30, certificates=CERTIFICATES)


def cells(text: str) -> dict[str, list[str]]:
    """Every row of the tables by the name in its first cell."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


def values_of(family: Family) -> str:
    """How the table writes the labels and their values."""
    parts = []
    for index, label in enumerate(family.labels):
        values = list(dict.fromkeys(child[index] for child in family.children))
        if label == "store":
            parts.append("`store`")
        elif label == "reason" and "outcome" in family.labels:
            parts.append("`reason`: see below")
        else:
            parts.append(f"`{label}`: {', '.join(values)}")
    return "; ".join(parts) or "-"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_metric_is_documented_as_it_is(family: Family) -> None:
    """Name, type, labels with all their values, and what is good."""
    name = f"gatekey_{family.name}" + ("_total" if family.kind == "counter" else "")
    assert cells(METRICS)[name] == [family.kind, values_of(family), family.text]


def test_the_metrics_of_the_process_are_documented() -> None:
    """Those that are read at the scrape."""
    table = cells(METRICS)
    for family in ProcessCollector().collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert table[name] == [family.type, "-", family.documentation]
    assert table["gatekey_build_info"][:2] == ["gauge", "`version`; `revision`; `python`; `store`"]


def test_no_metric_is_documented_that_does_not_exist() -> None:
    """A row that outlives its metric misleads."""
    known = {f"gatekey_{family.name}" + ("_total" if family.kind == "counter" else "") for family in FAMILIES}
    process = {f"{f.name}_total" if f.type == "counter" else f.name for f in ProcessCollector().collect()}
    documented = {name for name in cells(METRICS) if name.startswith("gatekey_")}
    assert documented == known | process | {"gatekey_build_info"}


def test_the_budget_of_series_is_spent_as_the_design_says() -> None:
    """Row by row, the rest, the sum, and the sum with certificates."""
    budget = DESIGN.partition("## The budget of series")[2].partition("\n## ")[0]
    plain = {family.name: len(family.samples) for family in Metrics(store="memory", version="1").registry.collect()}
    told: dict[str, int] = {}
    for names, counts in re.findall(r"^\| (`.+`) \| ([\d +]+) \|", budget, re.MULTILINE):
        families_of_row = [f"gatekey_{name.strip(' `').removesuffix('_total')}" for name in names.split(",")]
        told |= dict(zip(families_of_row, map(int, counts.split("+")), strict=True))
    assert told == {name: plain[name] for name in told}
    rest = {name: number for name, number in plain.items() if name not in told}
    assert f"| the other {len(rest)} | {sum(rest.values())} | at most {max(rest.values())} each |" in budget
    whole = sum(plain.values())
    assert f"{whole} are used, and {whole + len(CERTIFICATES)} where" in budget
    assert whole + len(CERTIFICATES) <= 500


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_documented_with_what_the_client_sees(reason: Reason) -> None:
    """The table of docs/metrics.md is where an operator looks a reason up."""
    row = REASONS[reason]
    outcome, status, code, meaning = cells(METRICS)[reason.value]
    assert (outcome, status, code) == (row.outcome.value, str(row.status), f"`{row.code}`" if row.code else "-")
    assert meaning


def line_fields(*, rare: bool) -> dict[str, object]:
    """The fields of a line; with ``rare`` those too that only shadow mode and traces have."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb") as out, os.fdopen(write_fd, "wb", buffering=0):
        writer = LineWriter(write_fd)
        request = AccessRequest(
            credentials=Reason.MISSING_CREDENTIALS,
            target=parse_target("api.example.com", "https", "/"),
            door=Door.FORWARD,
            started=0.0,
        )
        decision = Decision(Reason.SHADOW if rare else Reason.OK, key=known_key())
        decision.in_shadow = rare
        decision.shadowed = Reason.EXPIRED if rare else None
        request.span = sampled_span() if rare else None
        DecisionLog(writer, clock=FakeClock(), peppers=PEPPERS).write(request, decision, 200)
        assert writer.close()
        fields: dict[str, object] = json.loads(out.readline())
        return fields


def test_every_field_of_the_decision_line_is_documented_in_its_order() -> None:
    """Also those that only shadow mode and traces have; nothing else is documented."""
    plain, whole = line_fields(rare=False), line_fields(rare=True)
    documented = [match[1] for match in re.finditer(r"^\| `(\w+)` \| (?:text|number)", LOGS, re.MULTILINE)]
    assert documented == list(whole)
    assert documented[: len(plain)] == list(plain)


@pytest.mark.parametrize("name", list(line_fields(rare=True)))
def test_the_type_of_a_field_is_what_the_line_holds(name: str) -> None:
    """Log pipelines map fields to types by this table."""
    expected = "number" if isinstance(line_fields(rare=True)[name], int | float) else "text"
    assert cells(LOGS)[name][0] == expected


@pytest.mark.parametrize("values", [Source, Door, Outcome], ids=lambda values: values.__name__)
def test_closed_sets_are_listed_whole(values: type[Source | Door | Outcome]) -> None:
    """Every value that can occur, and no other."""
    _, meaning = cells(LOGS)[values.__name__.lower()]
    assert set(re.findall(r"`(\w+)`", meaning)) == {value.value for value in values}


def test_the_limits_of_the_log_are_documented() -> None:
    """The numbers that a log pipeline is set up by."""
    waiting = f"({_MAX_QUEUED:,} of each process), where the writer looks for them every {_INTERVAL * 1000:.0f} ms"
    for text in (waiting, f"{MAX_LINE:,} bytes", f"more than {THRESHOLD} refusals", f"in {WINDOW:.0f} s"):
        assert text in LOGS
    for reason in FLOOD_REASONS:
        assert f"`{reason.value}`" in LOGS
