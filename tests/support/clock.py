"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeClock:
    """Both clocks move together by ``advance``; ``skew`` moves the wall clock alone."""

    def __init__(self) -> None:
        self._age = 1_000.0
        self._wall = START.timestamp()

    def age(self) -> float:
        return self._age

    def wall(self) -> float:
        return self._wall

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._wall, UTC)

    def advance(self, seconds: float) -> None:
        self._age += seconds
        self._wall += seconds

    def skew(self, seconds: float) -> None:
        self._wall += seconds
