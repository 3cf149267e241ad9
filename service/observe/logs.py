"""The service's own log records and foreign ones (Granian, asyncio, warnings) in one shape, through one writer.

Tracebacks never show local variables: they hold whatever a client presented. Logging never raises into its caller.
"""

from __future__ import annotations

import io
import logging
import os
import re
from typing import TYPE_CHECKING, Any, Final, TextIO

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from service.auth.secret import Secret
from service.observe.lines import MAX_LINE
from service.observe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, ExcInfo, Processor

    from service.observe.writer import LineWriter

__all__ = ["configure_logging"]

_MAX_FRAMES: Final = 20
_FEW_FRAMES: Final = 3
_SHORT: Final = 128  # characters of each text in a line that would be too long otherwise
_OPTIONS: Final = orjson.OPT_NON_STR_KEYS
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_SERVERS: Final = ("_granian", "granian.access")

_log = structlog.get_logger(__name__)


def configure_logging(writer: LineWriter, *, console: bool, level: str, fd: int = 1) -> None:
    """Set structlog and the standard library's logging up for this process.

    ``level`` is a lower-case level name; ``console`` writes for people, in colour where ``fd`` is a terminal.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_secrets,
    ]
    rendering = _rendering(console=console, color=console and os.isatty(fd))
    structlog.configure(
        processors=[structlog.processors.add_log_level, _add_logger, *shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *names: _LineLogger(writer, *names),
        cache_logger_on_first_use=False,  # a second call, in a test or after a fork, must reach loggers in use
    )
    handler = _ForeignHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_record, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)
    for name in _SERVERS:  # they come with handlers of their own, which write to the shared pipe in any size
        server = logging.getLogger(name)
        server.handlers[:] = []
        server.propagate = True
        server.setLevel(max(threshold, logging.WARNING))
    logging.getLogger("werkzeug").addFilter(_readable_and_no_request)


def _readable_and_no_request(record: logging.LogRecord) -> bool:
    """Drop the access log of Flask's development server, which would show queries, and the colours of all else it says."""
    record.msg = _COLOUR.sub("", str(record.msg))
    return " - - [" not in record.msg


def _rendering(*, console: bool, color: bool) -> Sequence[Processor]:
    if console:
        return [_obeyed_by_no_terminal, structlog.dev.ConsoleRenderer(colors=color, exception_formatter=_traceback)]
    transformer = ExceptionDictTransformer(show_locals=False, max_frames=_MAX_FRAMES)
    return [structlog.processors.ExceptionRenderer(transformer), structlog.processors.JSONRenderer(_dumps_text)]


def _obeyed_by_no_terminal(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """A message or a field may hold what a client sent, and the renderer escapes only some of it."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, MAX_LINE)
    return event


def _traceback(out: TextIO, error: ExcInfo) -> None:
    """As the interpreter prints it, without local variables; what the exception says moves no cursor."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write("\n".join(printable(line, MAX_LINE) for line in text.getvalue().split("\n")))


def _dumps_text(event: EventDict, **_: Any) -> str:
    """Render an event in at most ``MAX_LINE`` bytes; what is left out first is what a reader misses least."""
    for shape in (_as_it_is, _with_few_frames, _cut):
        line = _dumped(shape(event))
        if len(line) < MAX_LINE:
            return line.decode()
    rest = {name: event[name] for name in ("timestamp", "level", "event", "logger") if name in event}
    return _dumped({**_cut(rest), "cut": True}).decode()


def _dumped(event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=_text, option=_OPTIONS)
    except TypeError:  # a lone surrogate, or a structure without end: no encoding can carry it as it is
        return orjson.dumps({_text(name): printable(_text(value), MAX_LINE) for name, value in event.items()})


def _text(value: Any) -> str:
    """Return ``str(value)``, or its type where that raises: a defect of somebody's value must not cost a log line."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - foreign code, which may raise anything
        return f"<{type(value).__name__}>"


def _as_it_is(event: EventDict) -> EventDict:
    return event


def _with_few_frames(event: EventDict) -> EventDict:
    """Keep the innermost frames of each exception of a long traceback."""
    exceptions = event.get("exception")
    if not isinstance(exceptions, list):
        return event
    short = [
        {
            "exc_type": item.get("exc_type"),
            "exc_value": _text(item.get("exc_value"))[:_SHORT],
            "frames": item.get("frames", [])[-_FEW_FRAMES:],
        }
        for item in exceptions[:_FEW_FRAMES]
        if isinstance(item, dict)
    ]
    return {**event, "exception": short}


def _cut(event: EventDict) -> EventDict:
    return {name: value if isinstance(value, int | float) else _text(value)[:_SHORT] for name, value in event.items()}


def _mask_secrets(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Replace secrets before anything else looks at them; they are masked by themselves, this does not rely on it."""
    for name, value in event.items():
        if isinstance(value, Secret):
            event[name] = repr(value)
    return event


def _add_logger(logger: Any, _name: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _add_record(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Add level and logger of a foreign record."""
    record: logging.LogRecord = event["_record"]
    event["level"] = record.levelname.lower()
    event["logger"] = record.name
    return event


class _LineLogger:
    """What structlog hands a rendered line to; the same for every level."""

    def __init__(self, writer: LineWriter, name: str = "service") -> None:
        self.name = name
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.put(line.encode("utf-8", "backslashreplace")[: MAX_LINE - 1] + b"\n")

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _ForeignHandler(logging.Handler):
    """Records of the standard library's logging, through the same writer; no lock, the writer needs none."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._lines = _LineLogger(writer)

    def createLock(self) -> None:  # noqa: N802 - the library's name
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """As the library does it, without the lock."""
        passes = bool(self.filter(record))
        if passes:
            self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises; the library's own way out would print the record's arguments to standard error."""
        try:
            self._lines.msg(self.format(record))
        except Exception as error:  # noqa: BLE001 - logging must not raise into its caller
            _log.error("log_record_unreadable", origin=record.name, error_type=type(error).__name__)
