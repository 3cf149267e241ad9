"""The tables of docs/reliability.md are those of ``make faults`` as it is: a row for each measurement, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.faults.report import figures
from benchmarks.faults.stores import STORES
from tests.support.stores import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
(FIGURES,) = re.findall(r"<!-- figures -->\n(.*?)<!-- end of figures -->", PAGE, re.DOTALL)


def is_head(line: str) -> bool:
    return line.startswith("| Store |")


def tables() -> dict[str, list[list[str]]]:
    """The cells of every row under each head."""
    found: dict[str, list[list[str]]] = {}
    for line in FIGURES.splitlines():
        if is_head(line):
            rows = found.setdefault(line, [])
        elif line.startswith("| "):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_tables_have_the_heads_that_the_measurement_writes() -> None:
    """Also how long a fault lasts and how many keys are imported stands in them."""
    written = figures({}, {}, {}, machine="none").splitlines()
    assert list(tables()) == [line for line in written if is_head(line)]


def test_every_row_is_as_wide_as_its_head() -> None:
    """A cell that is missing shifts all others."""
    for head, rows in tables().items():
        assert {len(row) for row in rows} == {head.count("|") - 1}


def test_every_store_was_measured_and_no_other() -> None:
    """In the order of the measurement."""
    revocations, faults, imports = tables().values()
    assert [row[0] for row in revocations] == list(STORES)
    assert [row[0] for row in imports] == list(STORES)
    assert list(dict.fromkeys(row[0] for row in faults)) == list(STORES)


@pytest.mark.parametrize("store", STORES)
async def test_every_fault_was_measured_and_no_other(store: str, *, require_all: bool) -> None:
    """By the names under which the measurement makes them."""
    if missing := KINDS[store].missing():
        (pytest.fail if require_all else pytest.skip)(missing)
    _, faults, _ = tables().values()
    async with STORES[store]() as prepared:
        assert [row[1] for row in faults if row[0] == store] == list(prepared.faults)
