"""A real receiver of OTLP over HTTP on a free loopback port: it decodes what comes with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from service.observe.tracing import DecisionSpan
from tests.support import leaks
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

KINDS = {1: "internal", 2: "server", 3: "client"}
STATUSES = {0: "unset", 1: "ok", 2: "error"}


@dataclass(frozen=True, kw_only=True)
class ReceivedSpan:
    """One span as it arrived; ids in hex, ``parent_id`` is ``""`` for a root."""

    name: str
    kind: str
    status: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Receiver:
    """``spans`` is what came so far. It can refuse (``status``) or keep its answers to itself (``hold``)."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.environ = {
            "GATEKEY_TRACES": "on",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        self.status = 200
        self.requests = 0
        self.paths: set[str] = set()
        self.tokens: set[str] = set()
        """Values of ``Authorization``."""
        self.spans: list[ReceivedSpan] = []
        self._answering = threading.Event()
        self._answering.set()

    def hold(self) -> None:
        """Read requests from now on, and answer none."""
        self._answering.clear()

    def release(self) -> None:
        self._answering.set()

    def named(self, name: str, count: int = 1) -> list[ReceivedSpan]:
        """The spans of this name, once there are so many."""

        def found() -> list[ReceivedSpan]:
            return [span for span in self.spans if span.name == name]

        wait_until(lambda: len(found()) >= count, f"{count} spans {name} have arrived")
        return found()

    def of(self, span_id: str) -> ReceivedSpan:
        """The span with this id, once it is there."""
        wait_until(lambda: any(span.span_id == span_id for span in self.spans), "the span has arrived")
        return next(span for span in self.spans if span.span_id == span_id)

    def children(self, span_id: str, count: int = 1) -> list[ReceivedSpan]:
        """The spans below it, once there are so many."""

        def found() -> list[ReceivedSpan]:
            return [span for span in self.spans if span.parent_id == span_id]

        wait_until(lambda: len(found()) >= count, f"{count} children have arrived")
        return found()

    def take(self, path: str, body: bytes) -> int:
        self.requests += 1
        self.paths.add(path)
        self._answering.wait(60)
        if self.status == 200:
            leaks.hear(body.decode("latin-1"))  # this is no thread of the test, which has to fail
            message = ExportTraceServiceRequest()
            message.ParseFromString(body)
            self.spans += _spans(message)
        return self.status


@contextmanager
def receiver_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A ``receiver`` to which what is made in this process sends."""
    with receiver() as found:
        for name, value in found.environ.items():
            monkeypatch.setenv(name, value)
        yield found


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Running until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            found.tokens.add(self.headers.get("Authorization", ""))
            status = found.take(self.path, body)
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # who asked has gone
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.release()
            server.shutdown()
            thread.join()


def sampled_span() -> DecisionSpan:
    """A decision's span that nothing is done with."""
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    return DecisionSpan(provider.get_tracer("tests").start_span("auth.decision"), 0.0)


def _spans(message: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for group in message.resource_spans:
        resource = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    name=span.name,
                    kind=KINDS[span.kind],
                    status=STATUSES[span.status.code],
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_values(span.attributes),
                    resource=resource,
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
