"""The service's own words and those of its libraries: one shape, one writer, no locals, no secrets, no exceptions."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

import asyncpg.pool  # type: ignore[import-untyped]  # the driver comes without types
import granian.log
import pytest
import redis.asyncio.cluster
import structlog

from service.auth.secret import Secret
from service.observe.lines import MAX_LINE
from service.observe.logs import configure_logging
from service.observe.writer import LineWriter
from tests.support import leaks
from tests.support.keys import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.observe.conftest import LoggedLines

    MakeLogged = Callable[..., LoggedLines]

pytestmark = pytest.mark.usefixtures("restore_logging")


@pytest.fixture
def configured(logged: LoggedLines) -> LoggedLines:
    configure_logging(logged.writer, console=False, level="info")
    return logged


class Unprintable:
    """Raises whatever is done to show it."""

    def __repr__(self) -> str:
        raise RuntimeError("no text for you")

    __str__ = __repr__


def test_an_event_has_time_level_logger_and_its_fields(configured: LoggedLines) -> None:
    """One JSON object on one line."""
    structlog.get_logger("service.somewhere").warning("store_lost", store="memory", tries=3)
    (event,) = configured.events
    timestamp = event.pop("timestamp")
    assert timestamp.endswith("Z")
    assert event == {
        "level": "warning",
        "logger": "service.somewhere",
        "event": "store_lost",
        "store": "memory",
        "tries": 3,
    }


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_the_level_filters_own_and_foreign_words(logged: LoggedLines, level: str, written: list[str]) -> None:
    """``GATEKEY_LOG_LEVEL`` counts for both in the same way."""
    configure_logging(logged.writer, console=False, level=level)
    own, foreign = structlog.get_logger("own"), logging.getLogger("foreign")
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(own, name)("said")
        getattr(foreign, name)("said")
    events = logged.events
    assert [event["level"] for event in events if event["logger"] == "own"] == written
    assert [event["level"] for event in events if event["logger"] == "foreign"] == written


def test_a_record_of_a_library_has_the_same_shape(configured: LoggedLines) -> None:
    """Whoever searches by ``logger`` and ``level`` finds both."""
    logging.getLogger("some.library").warning("connection %d lost", 7)
    (event,) = configured.events
    assert event.pop("timestamp").endswith("Z")
    assert event == {"level": "warning", "logger": "some.library", "event": "connection 7 lost"}


def asyncio_says() -> None:
    """As for a task whose end nobody asked for."""

    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "said", "exception": LookupError("of a task")})

    asyncio.run(main())


FOREIGN: dict[str, tuple[Callable[[], object], dict[str, str]]] = {
    "asyncio": (asyncio_says, {"level": "error", "logger": "asyncio", "event": "said"}),
    "asyncpg": (
        lambda: asyncpg.pool.logger.warning("said by %s", "the pool"),
        {"level": "warning", "logger": "asyncpg.pool", "event": "said by the pool"},
    ),
    "redis": (
        lambda: redis.asyncio.cluster.logger.error("said"),
        {"level": "error", "logger": "redis.asyncio.cluster", "event": "said"},
    ),
    "Granian": (
        lambda: granian.log.logger.error("said"),
        {"level": "error", "logger": "_granian", "event": "said"},
    ),
    "Granian's access log": (
        lambda: granian.log.access_logger.warning("said"),
        {"level": "warning", "logger": "granian.access", "event": "said"},
    ),
}


@pytest.mark.parametrize("library", FOREIGN)
def test_what_a_library_says_by_its_own_logger_has_the_service_s_shape(configured: LoggedLines, library: str) -> None:
    """The fields of the service's own events, in one JSON object on one line; a traceback is a field too."""
    say, expected = FOREIGN[library]
    say()
    (event,) = configured.events
    assert event.pop("timestamp").endswith("Z")
    raised = [exception["exc_type"] for exception in event.pop("exception", [])]
    assert event == expected
    assert raised == (["LookupError"] if library == "asyncio" else [])


def test_flasks_development_server_says_what_matters_in_plain_text(configured: LoggedLines) -> None:
    """Without its colours, and without its access log, which shows queries."""
    server = logging.getLogger("werkzeug")
    server.setLevel(logging.INFO)
    server.info("\x1b[31m\x1b[1mWARNING: This is a development server.\x1b[0m")
    server.info('127.0.0.1 - - [26/Nov/2026 10:00:00] "GET /?key=x HTTP/1.1" 200 -')
    assert [event["event"] for event in configured.events] == ["WARNING: This is a development server."]


def test_a_warning_of_the_interpreter_is_a_record(configured: LoggedLines) -> None:
    """Nothing is printed past the log."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # pytest has put its own function back since somebody captured them
        configure_logging(configured.writer, console=False, level="info")
        warnings.warn("something is deprecated", DeprecationWarning, stacklevel=1)
    (event,) = configured.events
    assert event["logger"] == "py.warnings"
    assert "something is deprecated" in event["event"]


@pytest.mark.parametrize("name", ["_granian", "granian.access"])
def test_the_servers_own_handlers_are_replaced(logged: LoggedLines, name: str) -> None:
    """They would write to the shared pipe past the writer, in pieces of any size."""
    server = logging.getLogger(name)
    server.addHandler(logging.StreamHandler())
    configure_logging(logged.writer, console=False, level="info")
    assert server.handlers == []
    server.info("not wanted")
    server.warning("wanted")
    assert [event["event"] for event in logged.events] == ["wanted"]


def raise_with_a_secret_in_a_local(presented: str) -> None:
    copy = {"x-secret-token": presented}
    raise LookupError(f"{len(copy)} header")


def test_a_traceback_shows_the_way_but_no_local_variables(configured: LoggedLines) -> None:
    """Locals hold whatever a client presented."""
    try:
        raise_with_a_secret_in_a_local(SECRET)
    except LookupError:
        structlog.get_logger().exception("request_failed")
        logging.getLogger("foreign").exception("also failed")
    text = b"".join(configured.lines).decode()
    leaks.check(text, "a traceback")
    own, foreign = configured.events
    for event in (own, foreign):
        (exception,) = event["exception"]
        assert (exception["exc_type"], exception["exc_value"]) == ("LookupError", "1 header")
        assert exception["frames"][-1]["name"] == "raise_with_a_secret_in_a_local"
        assert "locals" not in exception["frames"][-1]


def test_a_secret_is_masked_wherever_it_stands(configured: LoggedLines) -> None:
    """As a field, within one, or in a foreign message."""
    secret = Secret(SECRET)
    structlog.get_logger().info("said", secret=secret, nested={"list": [secret]}, text=f"{secret}")
    logging.getLogger("foreign").info("%s and %r", secret, secret)
    lines = b"".join(configured.lines).decode()
    leaks.check(lines, "the service's log")
    own, foreign = configured.events
    assert own["secret"] == own["text"] == own["nested"]["list"][0] == "[secret]"
    assert foreign["event"] == "[secret] and [secret]"


def endless() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def deep() -> list[Any]:
    nest: list[Any] = []
    for _ in range(100_000):
        nest = [nest]
    return nest


ODD: dict[str, Callable[[], Any]] = {
    "surrogate": lambda: "\ud800",
    "bytes": lambda: b"\xff\x00",
    "set": lambda: {1, 2},
    "huge": lambda: 10**5000,
    "nan": lambda: float("nan"),
    "unprintable": Unprintable,
    "unprintable inside": lambda: {"list": [Unprintable()]},
    "endless": endless,
    "deep": deep,
    "odd keys": lambda: {(1, 2): 3, None: 4},
    "type": lambda: int,
}


@pytest.mark.parametrize("name", ODD)
def test_no_value_breaks_the_log(configured: LoggedLines, name: str) -> None:
    """Logging never raises into its caller; the event is written, whatever a field holds."""
    structlog.get_logger().info("said", value=ODD[name]())
    (line,) = configured.lines
    assert len(line) <= 4096
    assert json.loads(line)["event"] == "said"


def test_a_record_whose_arguments_do_not_fit_is_reported_without_them(
    logged: LoggedLines, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library would print them to standard error."""
    configure_logging(logged.writer, console=False, level="info")  # here, because it also removes pytest's own handlers
    logging.getLogger("foreign").error("%d items", SECRET)
    logging.getLogger("foreign").error("%s", Unprintable())
    events = logged.events
    assert [(event["event"], event["origin"]) for event in events] == [("log_record_unreadable", "foreign")] * 2
    assert [event["error_type"] for event in events] == ["TypeError", "RuntimeError"]
    assert capsys.readouterr() == ("", "")


def raise_deeply(depth: int) -> None:
    if depth:
        raise_deeply(depth - 1)
    raise ValueError("m" * 5000)


@pytest.mark.parametrize("depth", [0, 5, 19, 200])
def test_a_long_traceback_fits_into_a_line(configured: LoggedLines, depth: int) -> None:
    """The innermost frames are the last to go."""
    try:
        raise_deeply(depth)
    except ValueError:
        structlog.get_logger().exception("request_failed", request_id="req-1", path="/" + "a" * 500)
    (line,) = configured.lines
    assert len(line) <= 4096
    event = json.loads(line)
    assert (event["event"], event["request_id"]) == ("request_failed", "req-1")
    assert event["exception"][0]["exc_type"] == "ValueError"
    assert event["exception"][0]["frames"][-1]["name"] == "raise_deeply"


def test_very_many_fields_fit_into_a_line(configured: LoggedLines) -> None:
    """What identifies the event stays, and the line says that it was cut."""
    structlog.get_logger("here").info("said", **{f"field_{number}": "x" * 100 for number in range(200)})
    (line,) = configured.lines
    assert len(line) <= 4096
    event = json.loads(line)
    assert (event["event"], event["logger"], event["cut"]) == ("said", "here", True)


def test_context_of_the_request_is_in_its_events(configured: LoggedLines) -> None:
    """What happens within a request can be found by its id."""
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        structlog.get_logger().info("own")
        logging.getLogger("foreign").info("foreign")
    structlog.get_logger().info("outside")
    assert [event.get("request_id") for event in configured.events] == ["req-1", "req-1", None]


def test_a_second_configuration_reaches_loggers_in_use(make_logged: MakeLogged) -> None:
    """A worker configures again after a fork; nobody goes on writing to the old writer."""
    first, second = make_logged(), make_logged()
    logger = structlog.get_logger("in.use")
    configure_logging(first.writer, console=False, level="info")
    logger.info("one")
    configure_logging(second.writer, console=False, level="info")
    logger.info("two")
    logging.getLogger("foreign").info("three")
    assert [event["event"] for event in first.events] == ["one"]
    assert [event["event"] for event in second.events] == ["two", "three"]


def test_the_console_form_is_for_people(logged: LoggedLines) -> None:
    """Plain text in a file, with the traceback and still without locals."""
    configure_logging(logged.writer, console=True, level="info")
    try:
        raise_with_a_secret_in_a_local(SECRET)
    except LookupError:
        structlog.get_logger("here").exception("request_failed", tries=3)
    logging.getLogger("foreign").warning("said")
    text = b"".join(logged.lines).decode()
    assert "request_failed" in text
    assert "tries=3" in text
    assert "raise_with_a_secret_in_a_local" in text
    assert "said" in text
    assert "\x1b" not in text
    leaks.check(text, "the console log")


def test_a_terminal_gets_colours_and_nothing_that_it_would_obey(logged: LoggedLines) -> None:
    """Own and foreign words are coloured; what a client wrote into a message moves no cursor and makes no second line."""
    terminal, its_end = os.openpty()
    with closing(os.fdopen(terminal, "rb", buffering=0)), closing(os.fdopen(its_end, "wb", buffering=0)):
        configure_logging(logged.writer, console=True, level="info", fd=its_end)
    structlog.get_logger("here").warning("own", text="\x1b[2J")
    logging.getLogger("there").warning("sent: %s", "\x1b[2J\nforged")
    structlog.get_logger("here").error("failed", exc_info=LookupError("\x1b[2J"))
    text = b"".join(logged.lines).decode()
    assert "\x1b[33m" in text.partition("own")[0]
    assert "\x1b[33m" in text.partition("own")[2].partition("sent: ")[0]
    assert "\x1b[2J" not in text
    assert text.count("\\x1b[2J") == 3
    assert "sent: \\x1b[2J\\nforged" in text


def test_nobody_who_logs_waits_for_a_slow_reader() -> None:
    """Own and foreign words beyond what the queue holds are lost and said, as decisions are."""
    reading, writing = os.pipe()
    writer = LineWriter(writing, max_queued=100)
    configure_logging(writer, console=False, level="info")
    said = 2 * (100 + 64 * 1024 // MAX_LINE)
    for number in range(said):  # returns although nobody reads, or this test never ends
        structlog.get_logger("own").info("said", number=number, text="x" * 3_500)
        logging.getLogger("foreign").warning("said %s", "x" * 3_500)
        assert len(writer) <= 100
    written: list[dict[str, Any]] = []
    dropped = 0
    with closing(os.fdopen(reading, "rb")) as pipe:
        while len(written) + dropped < 2 * said:
            line = json.loads(pipe.readline())
            dropped += line["count"] if line["event"] == "log.lines_dropped" else 0
            written += [line] if line["event"].startswith("said") else []
        assert writer.close()
        os.close(writing)
        assert pipe.read() == b""
    assert dropped > 0
    assert {line["logger"] for line in written} == {"own", "foreign"}
