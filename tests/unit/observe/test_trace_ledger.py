"""How lost spans are counted and told: when it begins, when it is over, and never for each batch."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from service.observe.trace_export import Ledger


class Clock:
    """Monotonic seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lost() -> list[int]:
    """What was counted as lost, step by step."""
    return []


def admitted(ledger: Ledger, count: int) -> int:
    return sum(ledger.admit() for _ in range(count))


def test_so_many_wait_and_no_more(lost: list[int]) -> None:
    """A full queue refuses the newest, until something was taken out of it."""
    ledger = Ledger(3, count=lost.append)
    assert admitted(ledger, 5) == 3
    ledger.done(2, sent=True)
    assert admitted(ledger, 5) == 2
    assert sum(lost) == 5


@pytest.mark.parametrize("reason", ["queue_full", "not_sent"])
def test_a_loss_is_told_when_it_begins(lost: list[int], reason: str) -> None:
    """Once, however many batches follow."""
    ledger = Ledger(2, count=lost.append)
    with capture_logs() as told:
        for _ in range(4):
            admitted(ledger, 3 if reason == "queue_full" else 2)
            ledger.done(2, sent=reason == "queue_full")
    assert told == [{"event": "traces_lost", "log_level": "warning", "reason": reason}]


def test_it_is_over_after_a_quiet_minute(lost: list[int]) -> None:
    """With the number of spans that it cost; then the next loss is told again."""
    clock = Clock()
    ledger = Ledger(10, count=lost.append, clock=clock)
    with capture_logs() as told:
        admitted(ledger, 10)
        ledger.done(4, sent=False)
        clock.now += 59
        ledger.done(1, sent=True)
        assert len(told) == 1
        clock.now += 1
        ledger.done(1, sent=True)
        ledger.done(1, sent=True)
        assert told[1:] == [{"event": "traces_sent_again", "log_level": "info", "lost": 4}]
        ledger.done(1, sent=False)
    assert [each["event"] for each in told] == ["traces_lost", "traces_sent_again", "traces_lost"]


def test_the_end_tells_what_was_lost_in_all(lost: list[int]) -> None:
    """What still waits is lost too, and nothing is taken any more."""
    ledger = Ledger(10, count=lost.append)
    with capture_logs() as told:
        admitted(ledger, 10)
        ledger.done(4, sent=False)
        ledger.close()
        assert not ledger.admit()
        ledger.done(6, sent=False)
    assert told[-1] == {"event": "traces_lost", "log_level": "warning", "reason": "stopped", "lost": 10}
    assert len(told) == 2
    assert lost == [4, 6]


def test_an_end_without_a_loss_says_nothing(lost: list[int]) -> None:
    """Nor does a collector that takes everything."""
    ledger = Ledger(10, count=lost.append)
    with capture_logs() as told:
        admitted(ledger, 10)
        ledger.done(10, sent=True)
        ledger.close()
    assert told == []
    assert sum(lost) == 0
