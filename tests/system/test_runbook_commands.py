"""Every command of every runbook, run as it stands against a running demo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.alerts import RUNBOOKS, ids
from tests.support.demo import Demo, need_demo, running_demo

if TYPE_CHECKING:
    from collections.abc import Iterator
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


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_the_commands_of_a_runbook_work(page: Path, demo: Demo) -> None:
    """Each part of each pipe ends with 0."""
    lines = commands(page)
    assert lines
    script = "".join(f'{line}\nprintf "ended %s\\n" "${{PIPESTATUS[*]}}"\n' for line in lines)
    done = demo.shell(script)
    ended = [list(map(int, found.split())) for found in re.findall(r"^ended ([\d ]+)$", done.stdout, re.MULTILINE)]
    assert len(ended) == len(lines), done.stderr
    for line, statuses in zip(lines, ended, strict=True):
        cut = CUT_SHORT if re.search(r"\| head\b", line) else {0}
        assert set(statuses[:-1]) <= cut, (line, statuses, done.stderr)
        assert statuses[-1] == 0, (line, statuses, done.stderr)
