"""Medians, spreads and quantiles. A figure is never shown without its spread: the machine's noise is part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Spread", "quantile", "range_of", "ratio", "spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, smallest and largest of some rounds."""

    median: float
    low: float
    high: float

    @property
    def noise(self) -> float:
        """From the smallest to the largest, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Iterable[float]) -> Spread:
    """Raises ``ValueError`` where there are none."""
    found = sorted(values)
    if not found:
        raise ValueError("no round has a figure")
    return Spread(median=median(found), low=found[0], high=found[-1])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times theirs ours is: the ratio of the medians, and the smallest and largest of any one round.

    The n-th figures belong to the same round: rounds alternate, so that what slows the machine down slows both.
    """
    each = spread(our / their for our, their in zip(ours, theirs, strict=False))
    both = spread(ours).median / spread(theirs).median
    return Spread(median=both, low=min(both, each.low), high=max(both, each.high))


def range_of(value: Spread, form: str) -> str:
    """The median, and in brackets the smallest and the largest where there is more than one figure."""
    if value.low == value.high:
        return f"{value.median:{form}}"
    return f"{value.median:{form}} ({value.low:{form}}–{value.high:{form}})"  # noqa: RUF001 - a range


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all values do not exceed; ``ordered`` is sorted and not empty."""
    if not ordered:
        raise ValueError("no value was measured")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
