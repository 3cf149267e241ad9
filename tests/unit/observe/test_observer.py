"""The end of a decision: one duration, one series, one line, and never an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from service.auth.decision import AccessRequest, Decision, Door, Source
from service.auth.reasons import Reason
from service.observe.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.observe.conftest import LoggedLines

    MakeRequest = Callable[..., AccessRequest]


def sample(logged: LoggedLines, name: str, **labels: str) -> float | None:
    return logged.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def logged(make_logged: Callable[..., LoggedLines]) -> LoggedLines:
    return make_logged(counted=True)


@pytest.fixture
def observer(logged: LoggedLines) -> Observer:
    return Observer(logged.metrics, logged.log, clock=logged.clock)


@pytest.mark.parametrize("reason", Reason)
def test_a_decision_is_timed_counted_and_logged_once(
    logged: LoggedLines, observer: Observer, make_request: MakeRequest, reason: Reason
) -> None:
    """The same duration stands in the decision, the histogram and the line."""
    decision = Decision(reason, source=Source.NONE)
    logged.clock.advance(0.25)
    observer.decided(make_request(started=1_000.0), decision, 418)
    (event,) = logged.events
    outcome = decision.outcome.value
    assert decision.duration == 0.25
    assert (event["reason"], event["status"], event["duration_ms"]) == (reason.value, 418, 250.0)
    assert sample(logged, "gatekey_decisions_total", outcome=outcome, reason=reason.value) == 1
    assert sample(logged, "gatekey_decision_duration_seconds_sum", outcome=outcome, source="none") == 0.25
    assert sample(logged, "gatekey_decision_log_lines_total") == 1


def test_a_line_that_cannot_be_made_is_counted_and_said_once(logged: LoggedLines, observer: Observer) -> None:
    """A defect of the log costs the line and nothing else: the decision is counted and answered."""
    broken = AccessRequest(
        credentials=Reason.MISSING_CREDENTIALS,
        target=None,
        door=Door.APP,
        started=1_000.0,
        request_id="\ud800",  # nothing of ours makes such an id
    )
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            observer.decided(broken, Decision(Reason.MISSING_CREDENTIALS), 401)
    assert sample(logged, "gatekey_decision_log_dropped_total", reason="encode_error") == 3
    assert sample(logged, "gatekey_decisions_total", outcome="deny", reason="missing_credentials") == 3
    assert said == [{"event": "decision_line_failed", "error_type": "UnicodeEncodeError", "log_level": "error"}]
    assert logged.events == []


def test_a_lost_line_leaves_a_gap_in_the_numbers(
    logged: LoggedLines, observer: Observer, make_request: MakeRequest
) -> None:
    """Whoever reads the log alone sees that something is missing."""
    observer.decided(make_request(), Decision(Reason.MISSING_CREDENTIALS), 401)
    with structlog.testing.capture_logs():
        observer.decided(make_request(trace_id="\ud800"), Decision(Reason.MISSING_CREDENTIALS), 401)
    observer.decided(make_request(), Decision(Reason.MISSING_CREDENTIALS), 401)
    assert [event["seq"] for event in logged.events] == [1, 3]
