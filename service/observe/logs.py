"""The service's own log records and foreign ones (Granian, asyncio, warnings) in one shape, through one writer.

Tracebacks never show local variables: they hold whatever a client presented.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from service.auth.secret import Secret
from service.observe.writer import MAX_LINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, Processor

    from service.observe.writer import LineWriter

__all__ = ["configure_logging"]


def configure_logging(writer: LineWriter, *, console: bool, level: str) -> None:
    """Set structlog and the standard library's logging up for this process. ``level`` is a lower-case level name."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, *_rendering(console=console)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _LineLogger(writer),
        cache_logger_on_first_use=False,
    )
    handler = _ForeignHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *shared[:1],
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                *shared[2:],
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(console=console),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)
    granian = logging.getLogger("_granian")
    granian.handlers[:] = []
    granian.propagate = True
    granian.setLevel(max(threshold, logging.WARNING))


def _rendering(*, console: bool) -> Sequence[Processor]:
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [renderer]
    exceptions = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=20))
    return [exceptions, structlog.processors.JSONRenderer(_dumps_text)]


def _dumps_text(event: EventDict, **_: Any) -> str:
    line = orjson.dumps(event, default=str)
    if len(line) >= MAX_LINE:  # a traceback: its end is what matters least
        short = {name: value for name, value in event.items() if name != "exception"}
        line = orjson.dumps({**short, "exception": _summary(event.get("exception"))}, default=str)
    if len(line) >= MAX_LINE:
        line = orjson.dumps({"event": str(event.get("event", ""))[:512], "level": event.get("level", ""), "cut": True})
    return line.decode()


def _summary(exceptions: Any) -> Any:
    """Type and the innermost frames of each exception of a long traceback."""
    if not isinstance(exceptions, list):
        return None
    return [
        {"exc_type": item.get("exc_type"), "frames": item.get("frames", [])[-4:]}
        for item in exceptions[:3]
        if isinstance(item, dict)
    ]


def _mask_secrets(_logger: Any, _name: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, Secret):
            event[name] = repr(value)
    return event


class _LineLogger:
    """What structlog hands a rendered line to; the same for every level."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.put(line.encode("utf-8", "replace")[: MAX_LINE - 1] + b"\n")

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _ForeignHandler(logging.Handler):
    """Records of the standard library's logging, through the same writer."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._lines = _LineLogger(writer)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.msg(self.format(record))
        except Exception:  # noqa: BLE001 - logging must not raise into its caller
            self.handleError(record)
