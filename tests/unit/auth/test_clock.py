"""The machine's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from service.auth.clock import SystemClock


def test_the_wall_clock_never_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired key does not come back to life because somebody sets the clock."""
    clock = SystemClock()
    for told, expected in [(100.0, 100.0), (101.5, 101.5), (50.0, 101.5), (101.4, 101.5), (102.0, 102.0)]:
        monkeypatch.setattr("service.auth.clock.time.time", lambda told=told: told)
        assert clock.wall() == expected


def test_now_is_the_wall_clock_as_aware_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the microsecond."""
    monkeypatch.setattr("service.auth.clock.time.time", lambda: 1_700_000_000.000001)
    assert SystemClock().now() == datetime(2023, 11, 14, 22, 13, 20, 1, UTC)
    assert SystemClock().now().tzinfo is UTC


def test_ages_ignore_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from another clock."""
    clock = SystemClock()
    before = clock.age()
    monkeypatch.setattr("service.auth.clock.time.time", lambda: 0.0)
    assert clock.age() >= before


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="CLOCK_BOOTTIME is missing on this system")
def test_ages_go_on_while_the_machine_sleeps() -> None:
    """CLOCK_BOOTTIME, where there is one."""
    low = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert low <= SystemClock().age() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_ages_are_monotonic_where_there_is_nothing_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    low = time.monotonic()
    assert low <= SystemClock().age() <= time.monotonic()
