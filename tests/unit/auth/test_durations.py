"""Durations as people write them: the form, and the bounds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.auth.durations import read_duration, whole_seconds


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta(0)),
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("090d", timedelta(days=90)),
        ("2w", timedelta(weeks=2)),
        ("36599d", timedelta(days=36_599)),
    ],
)
def test_a_number_with_a_unit_is_a_duration(text: str, duration: timedelta) -> None:
    """Of each unit, up to a hundred years."""
    assert read_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "0", "90", "d", "90 d", "-1d", "1.5h", "1h30m", "90D", "1y", "1000000000s", "٩d", "1d\n"]
)
def test_anything_else_is_none(text: str) -> None:
    """What is said of it does not repeat it."""
    with pytest.raises(ValueError, match=r"^must be a number with a unit, s, m, h, d or w, such as 90d$"):
        read_duration(text)


@pytest.mark.parametrize("text", ["36600d", "999999999w"])
def test_a_duration_without_an_end_is_refused(text: str) -> None:
    """The calendar of a computer ends."""
    with pytest.raises(ValueError, match=r"^must be 0 to 100 years$"):
        read_duration(text)


def test_whole_seconds_have_the_same_bounds() -> None:
    """Below and above; however large the number is."""
    longest = 100 * 366 * 86_400 - 1
    assert whole_seconds(longest) == timedelta(seconds=longest)
    for seconds in (-1, longest + 1, 10**30):
        with pytest.raises(ValueError, match=r"^must be 0 to 100 years$"):
            whole_seconds(seconds)
