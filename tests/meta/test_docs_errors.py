"""The tables of docs/errors.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from service.answers.http_errors import http_error
from service.auth.reasons import REASONS

PAGE = (Path(__file__).parents[2] / "docs/errors.md").read_text(encoding="utf-8")
CONTRACT = {400, 403, 404, 405, 409, 412, 413, 415, 422, 429, 431, 500, 503}


def rows(header: str) -> list[list[str]]:
    table = re.search(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    return [[cell.strip().strip("`") for cell in line.strip("|\n").split("|")] for line in table[1].splitlines()]


def test_the_table_of_reasons_is_the_tables_of_the_code() -> None:
    """Every reason in order, with its outcome, status and public code, and a sentence about it."""
    found = [tuple(row[:4]) for row in rows("Reason")]
    assert found == [
        (row.reason.value, row.outcome.value, str(row.status), row.code or "-") for row in REASONS.values()
    ]
    assert all(row[4].endswith(".") and len(row) == 6 for row in rows("Reason"))


def test_the_table_of_other_errors_has_every_status_of_the_contract_with_its_code() -> None:
    """Programs may rely on the codes."""
    assert {int(status): code for status, code in rows("Status")} == {
        status: http_error(status).code for status in CONTRACT
    }
