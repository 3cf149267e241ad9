"""A decision log that writes into a file, and the requests and decisions that go into it."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from service.auth.decision import AccessRequest, Door
from service.auth.domains import parse_target
from service.auth.reasons import Reason
from service.observe.decision_log import DecisionLog
from service.observe.metrics import Metrics
from service.observe.writer import LineWriter
from tests.support.clock import FakeClock
from tests.support.keys import PEPPERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.auth.decision import Decision


class LoggedLines:
    """A ``DecisionLog`` into a file; ``lines`` and ``events`` are what stands there once all is written.

    Only with ``counted`` it has metrics, which take long to make.
    """

    def __init__(
        self, path: Path, *, console: bool = False, color: bool = False, summarize: bool = True, counted: bool = False
    ) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.clock = FakeClock()
        self._metrics = Metrics(store="memory", version="1.2.3") if counted else None
        self.writer = LineWriter(self._fd, metrics=self._metrics, clock=self.clock, summarize=summarize)
        self.log = DecisionLog(self.writer, clock=self.clock, peppers=PEPPERS, console=console, color=color)

    @property
    def metrics(self) -> Metrics:
        assert self._metrics is not None
        return self._metrics

    def write(self, request: AccessRequest, decision: Decision, status: int = 200) -> None:
        self.log.write(request, decision, status)

    @property
    def lines(self) -> list[bytes]:
        assert self.writer.flush()
        return self._path.read_bytes().splitlines(keepends=True)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def close(self) -> None:
        assert self.writer.close()
        os.close(self._fd)


@pytest.fixture
def make_logged(tmp_path: Path) -> Iterator[Callable[..., LoggedLines]]:
    made: list[LoggedLines] = []

    def make(**options: Any) -> LoggedLines:
        logged = LoggedLines(tmp_path / f"log-{len(made)}", **options)
        made.append(logged)
        return logged

    yield make
    for logged in made:
        logged.close()


@pytest.fixture
def logged(make_logged: Callable[..., LoggedLines]) -> LoggedLines:
    return make_logged()


@pytest.fixture
def make_request() -> Callable[..., AccessRequest]:
    def make(**fields: Any) -> AccessRequest:
        defaults: dict[str, Any] = {
            "credentials": Reason.MISSING_CREDENTIALS,
            "target": parse_target("api.example.com", "https", "/v1/orders"),
            "door": Door.FORWARD,
            "started": 1_000.0,
            "client_ip": "192.0.2.7",
            "method": "GET",
            "path": "/v1/orders",
            "policy": "default",
            "user_agent": "curl/8.5.0",
            "request_id": "req-1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        }
        return AccessRequest(**{**defaults, **fields})

    return make


@pytest.fixture
def restore_logging() -> Iterator[None]:
    """Bring back the logging of the process that runs the tests."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    structlog.contextvars.clear_contextvars()  # the last request of another test has left its id
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configuration)
