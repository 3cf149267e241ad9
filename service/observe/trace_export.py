"""Spans on their way to the collector (OTLP over HTTP), configured by OpenTelemetry's own variables.

At most so many wait. A collector that fails or hangs costs spans, which are counted and told once, never a decision.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from service.observe.trace_settings import BATCH, QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

__all__ = ["Ledger", "TraceExport"]

_CLOSE_LIMIT: Final = 1.0  # seconds that a collector may hold the end up
_QUIET: Final = 60.0  # seconds without a loss after which it is over
_NOISY: Final = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "urllib3.connectionpool")
"""Loggers that tell of each batch and each try, with the collector's address and its words."""

_log = structlog.get_logger(__name__)
_own: Final = threading.local()


class Ledger:
    """How many spans wait and how many were lost; says it when that begins and when it is over, not for each batch.

    Any thread: each step takes a lock that nobody holds for longer than that.
    """

    def __init__(
        self, limit: int, *, count: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = 0
        self._lost = 0  # since it was last said to be over
        self._lost_at = 0.0
        self._closed = False

    def admit(self) -> bool:
        """Whether one more may wait."""
        with self._lock:
            if self._closed:
                return False
            if self._waiting < self._limit:
                self._waiting += 1
                return True
            begins = self._lose(1)
        self._count(1)
        if begins:
            _log.warning("traces_lost", reason="queue_full")
        return False

    def done(self, count: int, *, sent: bool) -> None:
        """So many wait no more, because they were sent or could not be."""
        begins, lost = False, 0
        with self._lock:
            if self._closed:  # counted as lost already
                return
            self._waiting -= count
            if not sent:
                begins = self._lose(count)
            elif self._lost and self._clock() - self._lost_at >= _QUIET:
                lost, self._lost = self._lost, 0
        if not sent:
            self._count(count)
        if begins:
            _log.warning("traces_lost", reason="not_sent")
        if lost:
            _log.info("traces_sent_again", lost=lost)

    def close(self) -> None:
        """Nobody will send what still waits."""
        with self._lock:
            waiting, lost = self._waiting, self._lost + self._waiting
            self._closed = True
        self._count(waiting)
        if lost:
            _log.warning("traces_lost", reason="stopped", lost=lost)

    def _lose(self, count: int) -> bool:
        """Whether these are the first."""
        begins = not self._lost
        self._lost += count
        self._lost_at = self._clock()
        return begins


class TraceExport:
    """Of one process. No thread runs before ``start``, which the first decision calls: after any fork."""

    def __init__(self, version: str, *, count_lost: Callable[[int], None]) -> None:
        self._ledger = Ledger(_number(QUEUE), count=count_lost)
        self._exporter = _Told(OTLPSpanExporter(), self._ledger)
        self._provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
        self._starting = threading.Lock()
        self._processor: SpanProcessor | None = None
        self.tracer = self._provider.get_tracer("gatekey", version)
        for name in _NOISY:
            logging.getLogger(name).addFilter(_not_ours)

    def start(self) -> None:
        """Begin to send, in this process; again it does nothing."""
        if self._processor is not None:
            return
        with self._starting:
            if self._processor is None:
                batches = BatchSpanProcessor(
                    self._exporter,
                    max_queue_size=_number(QUEUE),
                    max_export_batch_size=_number(BATCH),
                )
                self._provider.add_span_processor(_Bounded(batches, self._ledger))
                self._processor = batches

    def close(self) -> None:
        """Send what waits, for a bounded time."""
        if self._processor is None:
            return
        ending = threading.Thread(target=self._processor.shutdown, name="gatekey-traces-end", daemon=True)
        ending.start()
        ending.join(_CLOSE_LIMIT)
        if ending.is_alive():
            self._exporter.shutdown()
        self._ledger.close()


class _Bounded(SpanProcessor):
    """Spans that the queue has no room for are dropped here, where they are counted."""

    def __init__(self, inner: SpanProcessor, ledger: Ledger) -> None:
        self._inner = inner
        self._ledger = ledger

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """See ``SpanProcessor``; only spans that are sampled get here."""
        if self._ledger.admit():
            self._inner.on_end(span)


class _Told(SpanExporter):
    """An exporter whose successes and failures are booked, and which says nothing by itself."""

    def __init__(self, inner: SpanExporter, ledger: Ledger) -> None:
        self._inner = inner
        self._ledger = ledger
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See ``SpanExporter``; on the thread that sends."""
        result = SpanExportResult.FAILURE
        with _quiet():
            try:
                result = self._inner.export(spans)
            except Exception as error:  # noqa: BLE001 - whatever it is costs these spans and nothing else
                _log.debug("traces_not_sent", error_type=type(error).__name__)
        self._ledger.done(len(spans), sent=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """No further try; again it does nothing."""
        if not self._ended:
            self._ended = True
            with _quiet():
                self._inner.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says in this thread meanwhile is said by the ledger."""
    _own.exporting = True
    try:
        yield
    finally:
        _own.exporting = False


def _not_ours(_: logging.LogRecord) -> bool:
    """An application around us may export spans of its own, and wants to hear of them."""
    return not getattr(_own, "exporting", False)


def _resource(version: str) -> Resource:
    """Who sends; what the operator says of it (``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``) counts more."""
    said = OTELResourceDetector().detect().attributes
    ours = {"service.name": "gatekey", "service.version": version}
    return Resource.create({name: value for name, value in ours.items() if name not in said})


def _number(setting: tuple[str, int]) -> int:
    return int(os.environ.get(setting[0]) or setting[1])
