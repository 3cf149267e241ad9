"""Every command of every runbook, run as it stands against a running demo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.alerts import RUNBOOKS, ids
from tests.support.demo import Demo, need_demo, running_demo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGES: Final = sorted(RUNBOOKS.glob("Gatekey*.md"))
CUT_SHORT: Final = {0, 23, 141}
"""How a command ends whose reader has had enough (``head``): curl says so itself, others by SIGPIPE."""


def commands(page: Path) -> list[str]:
    """The lines of the blocks of shell."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def demo(require_all: bool) -> Iterator[Demo]:  # noqa: FBT001 - a fixture
    """One for all pages: no command breaks anything that another needs."""
    need_demo(require_all=require_all)
    with running_demo() as running:
        yield running


@pytest.fixture(scope="module")
def ended(demo: Demo) -> Callable[[list[str]], dict[str, list[int]]]:
    """How each of these lines ended, part by part of its pipe; a line that several pages have is run once."""
    known: dict[str, list[int]] = {}

    def run(lines: list[str]) -> dict[str, list[int]]:
        new = [line for line in dict.fromkeys(lines) if line not in known]
        done = demo.shell("".join(f'{line}\nprintf "ended %s\\n" "${{PIPESTATUS[*]}}"\n' for line in new))
        found = re.findall(r"^ended ([\d ]+)$", done.stdout, re.MULTILINE)
        assert len(found) == len(new), done.stderr
        for line, statuses in zip(new, found, strict=True):
            known[line] = [int(status) for status in statuses.split()]
        if any(any(known[line]) for line in new):
            print(done.stderr)  # noqa: T201 - shown with a failure
        return {line: known[line] for line in lines}

    return run


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_the_commands_of_a_runbook_work(page: Path, ended: Callable[[list[str]], dict[str, list[int]]]) -> None:
    """Each part of each pipe ends with 0."""
    lines = commands(page)
    assert lines
    for line, (*before, last) in ended(lines).items():
        assert set(before) <= (CUT_SHORT if re.search(r"\| head\b", line) else {0}), (line, before)
        assert last == 0, (line, last)
