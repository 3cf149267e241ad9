"""Everything that one run found: what the report is made of, and what is kept as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks.bench.goals import judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench.contender import Contender
    from benchmarks.bench.goals import Verdict
    from benchmarks.bench.machine import Machine
    from benchmarks.bench.many import Many
    from benchmarks.bench.misses import Miss
    from benchmarks.bench.rounds import Measured
    from benchmarks.bench.strain import Strained

__all__ = ["ENOUGH_ROUNDS", "Run"]

ENOUGH_ROUNDS: Final = 5
"""With fewer a median says little, and nothing is written into RESULTS.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``skipped`` names what the machine lacks; ``complete`` is whether everybody was to be measured."""

    machine: Machine
    rounds: int
    seconds: float
    connections: int
    two_cores_to_serve: bool
    complete: bool
    contenders: tuple[Contender, ...]
    measured: Mapping[str, Measured]
    misses: Mapping[str, list[Miss]] = field(default_factory=dict)
    strained: Mapping[str, list[Strained]] = field(default_factory=dict)
    many: Mapping[str, list[Many]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """What went wrong apart from the contenders, by name."""
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> tuple[Contender, ...]:
        """Those that have one."""
        return tuple(each for each in self.contenders if each.name in self.measured and self.measured[each.name].counts)

    @property
    def problems(self) -> dict[str, str]:
        """Why others have none."""
        failed = {name: measured.problem for name, measured in self.measured.items() if measured.problem}
        return {**failed, **self.failed}

    @property
    def verdicts(self) -> list[Verdict]:
        """Of the goals that this run can tell about."""
        rates = {each.name: [turn.rate for turn in self.measured[each.name].turns] for each in self.results}
        return judge(rates, two_cores=self.two_cores_to_serve)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether it may stand in RESULTS.md."""
        return self.complete and self.rounds >= ENOUGH_ROUNDS
