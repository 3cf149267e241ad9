"""Medians, spreads, quantiles and ratios."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench.figures import Spread, quantile, ratio, spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], Spread(median=3, low=3, high=3)),
        ([5.0, 1.0, 2.0], Spread(median=2, low=1, high=5)),
        ([4.0, 1.0, 2.0, 3.0], Spread(median=2.5, low=1, high=4)),
    ],
)
def test_a_spread_is_the_median_with_its_smallest_and_largest(values: list[float], expected: Spread) -> None:
    """In whichever order the rounds came."""
    assert spread(values) == expected


@pytest.mark.parametrize("found", [lambda: spread([]), lambda: quantile([], 0.5)])
def test_nothing_measured_is_no_figure(found: object) -> None:
    """And never a zero that looks like one."""
    assert callable(found)
    with pytest.raises(ValueError, match=r"no (round|value)"):
        found()


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1), (0.001, 1)])
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    """Of 1 to 100 the 99th percentile is 99."""
    assert quantile([float(value) for value in range(1, 101)], share) == expected


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_at_least_the_share_of_all_values_is_not_above_the_quantile(values: list[float], share: float) -> None:
    """The definition."""
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    assert found in ordered


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_each_round() -> None:
    """A round in which the machine was slow for both changes neither."""
    found = ratio([100.0, 50.0, 120.0], [10.0, 5.0, 10.0])
    assert found == Spread(median=10, low=10, high=12)
