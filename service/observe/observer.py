"""The end of every decision: one duration, one series, one line, in one place, so that none can be forgotten or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from service.auth.clock import Clock
    from service.auth.decision import AccessRequest, Decision
    from service.observe.decision_log import DecisionLog
    from service.observe.metrics import Metrics

__all__ = ["Observer"]

_log = structlog.get_logger(__name__)


class Observer:
    """Counts and logs. It never raises: a decision that was made is answered, whatever happens to its line."""

    def __init__(self, metrics: Metrics, log: DecisionLog, *, clock: Clock) -> None:
        self._metrics = metrics
        self._log = log
        self._clock = clock

    def decided(self, request: AccessRequest, decision: Decision, status: int) -> None:
        """Set ``decision.duration``, move exactly one decision series and write one line; ``status`` is what was answered."""
        decision.duration = self._clock.age() - request.started
        self._metrics.decided(decision)
        try:
            self._log.write(request, decision, status)
        except Exception as error:  # noqa: BLE001 - see the class
            self._metrics.log_dropped("encode_error")
            _log.error("decision_line_failed", error_type=type(error).__name__)
