"""What is aimed at, as ratios within one run, and whether it was reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.bench.figures import Spread, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ENTRY_BYTES_AT_MOST",
    "GOALS",
    "MANY_AT_MOST",
    "MISS_AT_MOST",
    "STRAINED_P99_AT_MOST",
    "STRAINED_RATE_AT_LEAST",
    "WORKERS_AT_LEAST",
    "Goal",
    "Verdict",
    "judge",
]

MISS_AT_MOST: Final = 1.6
"""Of a miss to the bare driver call, at the median."""
STRAINED_RATE_AT_LEAST: Final = 0.8
"""Of cached keys while the store takes a second, to the same in calm."""
STRAINED_P99_AT_MOST: Final = 2.0
"""Likewise the p99, also among strangers."""
MANY_AT_MOST: Final = {"keys": 1.15, "start": 1.15}
"""Of many keys to few, by scene: CPU time of a cached decision, and seconds until the service is ready."""
ENTRY_BYTES_AT_MOST: Final = 700
"""By which a process grows with each key in its cache."""
WORKERS_AT_LEAST: Final = 1.8
"""Of two workers on two cores to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """``ours`` has at least ``at_least`` times the rate of the fastest of ``rivals``."""

    text: str
    ours: str
    rivals: tuple[str, ...]
    at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``rival`` is the one that was held against."""

    goal: Goal
    rival: str
    ratio: Spread

    @property
    def is_met(self) -> bool:
        """By the ratio of the medians."""
        return self.ratio.median >= self.goal.at_least


_DOOR: Final = "gatekey-door"
_LONGER: Final = 1.35
"""Times that an async view behind the decorator may take as long as the same sync view."""
_CLASSIC: Final = ("flask-granian-1", "flask-granian", "flask-gthread")
GOALS: Final = (
    Goal(text="classic Flask at its best", ours=_DOOR, rivals=_CLASSIC, at_least=10),
    Goal(text="keyshield", ours=_DOOR, rivals=("keyshield",), at_least=8),
    Goal(text="safe-api-keys on Starlette", ours=_DOOR, rivals=("safe-starlette",), at_least=5),
    Goal(text="nginx + Lua", ours=_DOOR, rivals=("nginx-lua",), at_least=0.5),
    Goal(
        text="the decorator's sync view, by its async view, one caller",
        ours="gatekey-async-one",
        rivals=("gatekey-sync-one",),
        at_least=1 / _LONGER,
    ),
    Goal(
        text="the same with 32 callers",
        ours="gatekey-async",
        rivals=("gatekey-sync",),
        at_least=1 / _LONGER,
    ),
)
_WORKERS: Final = Goal(
    text="one worker, by two on two cores", ours="workers-2", rivals=("workers-1",), at_least=WORKERS_AT_LEAST
)


def judge(rates: Mapping[str, Sequence[float]], *, two_cores: bool) -> list[Verdict]:
    """One for each goal that the run can tell about; ``rates`` has the rounds of each contender that has a result."""
    found = []
    for goal in (*GOALS, *((_WORKERS,) if two_cores else ())):
        rivals = [name for name in goal.rivals if name in rates]
        if goal.ours not in rates or len(rivals) < len(goal.rivals):
            continue  # the best of some is not the best of all
        each = {name: ratio(rates[goal.ours], rates[name]) for name in rivals}
        best = min(each, key=lambda name: each[name].median)
        found.append(Verdict(goal=goal, rival=best, ratio=each[best]))
    return found
