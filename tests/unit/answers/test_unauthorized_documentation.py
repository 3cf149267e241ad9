"""The page for users says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from service.answers.http_errors import HTTP_ERRORS
from service.auth.reasons import REASONS

PAGE = (Path(__file__).parents[3] / "docs" / "unauthorized.md").read_text("utf-8")


def test_every_status_and_code_is_documented_and_no_other() -> None:
    """The table of statuses against the two tables in the code."""
    table = PAGE.partition("## Every status")[2]
    documented = {
        (int(status), code)
        for status, cells in re.findall(r"^\| (\d{3}) \| (.*) \|$", table, re.MULTILINE)
        for code in re.findall(r"`([a-z_]+)`", cells)
    }
    known = {(status, said.code) for status, said in HTTP_ERRORS.items()}
    known |= {(info.status, info.code) for info in REASONS.values() if info.code}
    assert documented == known


def test_the_example_is_what_a_refusal_says() -> None:
    """Its words are copied from the table of reasons."""
    info = next(info for info in REASONS.values() if info.code == "missing_credentials")
    for text in (info.title, info.detail):
        assert PAGE.count(f'"{text}"') >= 1
