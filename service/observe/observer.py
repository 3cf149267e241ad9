"""The end of every decision: one duration, one series, one line, in one place, so that none is forgotten or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from service.auth.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.auth.clock import Clock
    from service.auth.decision import AccessRequest, Decision
    from service.observe.decision_log import DecisionLog
    from service.observe.metrics import Metrics
    from service.observe.tracing import Tracing

__all__ = ["Observer"]

_log = structlog.get_logger(__name__)


class Observer:
    """Counts and logs. It never raises: a decision that was made is answered, whatever happens to its line.

    ``on_use`` is told of every use of a key that was allowed (not of what only shadow mode let through).
    ``tracing`` is there where traces are on.
    """

    def __init__(
        self,
        metrics: Metrics,
        log: DecisionLog,
        *,
        clock: Clock,
        on_use: Callable[[AccessRequest, Decision], None] | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.tracing = tracing
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._on_use = on_use
        self._failures: set[str] = set()

    def decided(self, request: AccessRequest, decision: Decision, status: int) -> None:
        """Set ``decision.duration``, move one decision series and write one line; ``status`` is what was answered."""
        try:
            decision.duration = self._clock.age() - request.started
            self._metrics.decided(decision)
            if decision.reason is Reason.OK and self._on_use is not None:
                self._on_use(request, decision)
            self._log.write(request, decision, status)
            if self.tracing is not None and request.span is not None:
                self.tracing.decided(request, decision, status)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed(type(error).__name__)

    def _failed(self, error_type: str) -> None:
        """Count the line as lost, and say so once for each kind of defect: a broken log must not become a flood."""
        self._metrics.log_dropped("encode_error")
        if error_type not in self._failures:
            self._failures.add(error_type)
            _log.error("decision_line_failed", error_type=error_type)
