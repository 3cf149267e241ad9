"""A span for each decision and each call of the store that it caused, from the same ``Decision`` as its series and line.

What a span may hold is an allow-list of closed sets: no key, no text of a client. Whose call it is goes by the context
(``contextvars``), of which Granian and Flask give each request, or its thread, one of its own.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar, Final

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from service.auth.authenticator import Authenticator
from service.auth.reasons import REASONS, Outcome
from service.observe.request_ids import parent_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.auth.clock import Clock
    from service.auth.decision import AccessRequest, Decision
    from service.observe.metrics import Metrics
    from service.observe.trace_export import TraceExport

__all__ = ["DecisionSpan", "Tracing"]

NAME: Final = "auth.decision"
_SECOND: Final = 1_000_000_000  # nanoseconds
_FAILED_CALLS: Final = ("unavailable", "corrupt", "error")

_log = structlog.get_logger(__name__)


class DecisionSpan:
    """The span of one decision. Where it is not sampled, its ids are still given on, and nothing else happens to it."""

    __slots__ = ("otel", "sampled", "span_id", "started", "trace_id", "traceparent")

    def __init__(self, otel: trace.Span, started: float) -> None:
        context = otel.get_span_context()
        self.otel = otel
        self.started = started
        """Wall time."""
        self.sampled = otel.is_recording() and context.trace_flags.sampled
        self.trace_id = trace.format_trace_id(context.trace_id)
        self.span_id = trace.format_span_id(context.span_id)
        self.traceparent = f"00-{self.trace_id}-{self.span_id}-{context.trace_flags:02x}"
        """For whoever goes on with the request."""


_current: ContextVar[DecisionSpan | None] = ContextVar("gatekey_span", default=None)


class _TracedAuthenticator(Authenticator):
    """The same, and what the store is asked meanwhile belongs to the decision."""

    async def decide_uncached(self, request: AccessRequest) -> Decision:
        """See ``Authenticator``."""
        _current.set(request.span)
        return await super().decide_uncached(request)


class Tracing:
    """Never raises, and never waits: what cannot be traced is answered all the same.

    ``is_policy`` says whether a name is one of the policies that there are; any other was made up by a client.
    """

    authenticator: ClassVar[type[Authenticator]] = _TracedAuthenticator

    def __init__(
        self, export: TraceExport, *, metrics: Metrics, clock: Clock, is_policy: Callable[[str], bool]
    ) -> None:
        self._export = export
        self._metrics = metrics
        self._clock = clock
        self._is_policy = is_policy
        self._failures: set[str] = set()

    def close(self) -> None:
        """Send what waits, within a bounded time."""
        self._export.close()

    def begin(self, request: AccessRequest, traceparent: str | None) -> None:
        """Open the span of a decision: of one within another (``verify``) below that, else below the caller's."""
        try:
            self._export.start()
            above = _current.get()
            parent = None if above is None else above.otel.get_span_context()
            if parent is None:
                parent = _remote(traceparent)
            started = self._clock.wall() - (self._clock.age() - request.started)
            span = self._export.tracer.start_span(
                NAME,
                context=trace.set_span_in_context(trace.NonRecordingSpan(parent or trace.INVALID_SPAN_CONTEXT)),
                kind=SpanKind.SERVER if above is None else SpanKind.INTERNAL,
                start_time=int(started * _SECOND),
            )
            if not span.get_span_context().is_valid:  # OTEL_SDK_DISABLED, and no caller's trace to give on
                return
            request.span = DecisionSpan(span, started)
            if request.span.sampled:
                request.trace_id = request.span.trace_id
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed(error)

    def decided(self, request: AccessRequest, decision: Decision, status: int) -> None:
        """Close the span with what was decided, and name it in the histogram's bucket."""
        span = request.span
        if span is None or not span.sampled:
            return
        try:
            outcome = REASONS[decision.reason].outcome
            span.otel.set_attributes(
                {
                    "gatekey.door": request.door.value,
                    "gatekey.outcome": outcome.value,
                    "gatekey.reason": decision.reason.value,
                    "gatekey.source": decision.source.value,
                    "http.response.status_code": status,
                }
            )
            if request.policy and self._is_policy(request.policy):
                span.otel.set_attribute("gatekey.policy", request.policy)
            if decision.shadowed is not None:
                span.otel.set_attribute("gatekey.shadow_reason", decision.shadowed.value)
            if outcome is Outcome.ERROR:
                span.otel.set_status(StatusCode.ERROR)
            ended = span.started + decision.duration
            span.otel.end(int(ended * _SECOND))
            self._metrics.exemplify(decision, span.trace_id, ended)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed(error)

    def store_call(self, store: str, operation: str, result: str, seconds: float) -> None:
        """One call of the store that has ended; nothing where it belongs to no decision (health, background work)."""
        above = _current.get()
        if above is None or not above.sampled:
            return
        try:
            ended = int(self._clock.wall() * _SECOND)
            span = self._export.tracer.start_span(
                f"store.{operation}",
                context=trace.set_span_in_context(above.otel),
                kind=SpanKind.CLIENT,
                attributes={
                    "db.system.name": store,
                    "gatekey.store.operation": operation,
                    "gatekey.store.result": result,
                },
                start_time=ended - int(seconds * _SECOND),
            )
            if result in _FAILED_CALLS:
                span.set_status(StatusCode.ERROR)
            span.end(ended)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed(error)

    @staticmethod
    def enter(span: DecisionSpan | None) -> None:
        """What the rest of this request (a view in its own thread or task) asks the store belongs to the decision."""
        _current.set(span)

    @staticmethod
    def leave(_: BaseException | None = None) -> None:
        """The request is over, and its thread has others before it."""
        _current.set(None)

    def _failed(self, error: Exception) -> None:
        """Said once for each kind of defect."""
        error_type = type(error).__name__
        if error_type not in self._failures:
            self._failures.add(error_type)
            _log.error("span_failed", error_type=error_type)


def _remote(traceparent: str | None) -> trace.SpanContext | None:
    found = parent_of(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = found
    return trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(flags))
