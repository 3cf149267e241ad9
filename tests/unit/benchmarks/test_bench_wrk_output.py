"""What wrk's script prints is a figure only when every answer was the expected one."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from benchmarks.bench import wrk
from benchmarks.bench.contender import Request
from benchmarks.bench.errors import BadRun
from tests.support.servers import free_port

CLEAN = {
    "requests": 1000,
    "right": 1000,
    "wrong": 0,
    "first_wrong": 0,
    "microseconds": 2_000_000,
    "connect": 0,
    "read": 0,
    "write": 0,
    "timeout": 0,
    "p99": 2500,
}


def printed(**changes: int) -> str:
    return f"Running 2s test\n  1 threads and 32 connections\n\n{json.dumps({**CLEAN, **changes})}\n"


def test_a_clean_run_has_a_rate() -> None:
    """And the share of its core that wrk used, and milliseconds that all but a hundredth took at most."""
    found = wrk.read_output(printed(), expected=200, used=0.5)
    assert (found.requests, found.rate, found.busy, found.p99) == (1000, 500, 0.25, 2.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"right": 999, "wrong": 1, "first_wrong": 503}, "1 of 1000 answers were not 200 (one was 503)"),
        ({"connect": 2}, "2 connect errors"),
        ({"read": 1}, "1 read errors"),
        ({"write": 1, "timeout": 3}, "1 write errors; 3 timeout errors"),
        ({"right": 0, "requests": 0}, "no answer came"),
    ],
)
def test_one_wrong_answer_or_error_is_no_result(changes: dict[str, int], message: str) -> None:
    """Whatever the rate was."""
    with pytest.raises(BadRun, match=f"^{re.escape(message)}$"):
        wrk.read_output(printed(**changes), expected=200, used=0.5)


@pytest.mark.parametrize("output", ["", "Segmentation fault", f"{printed()}{printed()}"])
def test_output_without_exactly_one_result_is_no_result(output: str) -> None:
    """What wrk said instead is told."""
    with pytest.raises(BadRun, match=r"^wrk printed no result"):
        wrk.read_output(output, expected=200, used=0.5)


def test_wrk_itself_finds_that_nobody_listens(require_all: bool) -> None:  # noqa: FBT001 - a fixture, not called
    """The real program with the real script's options."""
    if shutil.which("wrk") is None:
        (pytest.fail if require_all else pytest.skip)("needs wrk")
    with pytest.raises(BadRun, match=r"connect errors|unable to connect"):
        wrk.run(free_port(), Request(path="/", headers={}), seconds=1)
