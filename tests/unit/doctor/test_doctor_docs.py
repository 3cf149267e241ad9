"""docs/doctor.md says what the code does: its table and its examples are compared with the probes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.doctor import SECRET_VARIABLE, command
from service.doctor.probes import PROBES

if TYPE_CHECKING:
    from service.doctor.probe import Probe

PAGE = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")


def row(probe: Probe) -> str:
    """The probe's line of the table."""
    cells = (
        f"`{probe.name}`",
        _text(probe.title),
        str(probe.needs),
        _text(probe.hint[0].upper() + probe.hint[1:] + "."),
    )
    return "| " + " | ".join(cells) + " |"


def _text(plain: str) -> str:
    """The text as Markdown shows it unchanged."""
    return re.sub(r"([*_<|])", r"\\\1", plain)


def test_the_table_is_the_list_of_probes() -> None:
    """Every probe in its order, with what it sends, needs and asks to be done."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and not line.startswith("| `--")]
    assert rows == [row(probe) for probe in PROBES]


def test_the_sample_output_has_a_line_for_every_probe() -> None:
    """It was printed by the command; a probe that came later must be in it."""
    sample = PAGE.split("```console\n")[1].split("```")[0]
    assert re.findall(r"^(?:PASS|FAIL|SKIP) ([a-z-]+):", sample, re.MULTILINE) == [probe.name for probe in PROBES]


def test_every_option_is_explained() -> None:
    """And the variable that holds the secret."""
    options = {option for parameter in command.params for option in parameter.opts}
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE))
    assert SECRET_VARIABLE in PAGE
