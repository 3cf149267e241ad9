"""The metrics on a port of their own (``GATEKEY_ADMIN_LISTEN``), for networks that only operators reach.

It answers exactly ``/metrics``, in the same two forms as the page of the service; its threads end with the process.
"""

from __future__ import annotations

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import Any, Final, Protocol

import structlog

from service.observe.exposition import Unanswered

__all__ = ["AdminServer"]

_PATH: Final = "/metrics"
_IDLE: Final = 10.0  # seconds that a client may be silent
_LOOK: Final = 0.1  # seconds between two looks whether to end

_log = structlog.get_logger(__name__)


class _Metrics(Protocol):
    """Of one process, or of all."""

    def render(self, accept: str) -> tuple[bytes, str]: ...


class AdminServer:
    """Listens from the start on; raises ``OSError`` where it cannot."""

    def __init__(self, host: str, port: int, metrics: _Metrics) -> None:
        self._server = _Server(host, port, metrics)
        self._thread = Thread(target=self._server.serve_forever, args=(_LOOK,), name="gatekey-admin", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening; waits for a moment, never for a client."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, metrics: _Metrics) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        self.metrics = metrics
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service for this host's name, as the library would."""
        TCPServer.server_bind(self)

    def handle_error(self, *_: Any) -> None:
        """A client that left; the library would print a traceback past the log."""
        error = sys.exception()
        _log.debug("admin_client_failed", error_type=type(error).__name__)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _IDLE

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != _PATH:
            self._answer(404, b"There is only /metrics here.\n", "text/plain; charset=utf-8")
            return
        try:
            page = self.server.metrics.render(self.headers.get("Accept", ""))
        except Unanswered:
            self._answer(503, b"The workers cannot be asked at the moment.\n", "text/plain; charset=utf-8")
        else:
            self._answer(200, *page)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Name the service and not the interpreter."""
        return "gatekey"

    def log_message(self, *_: Any) -> None:
        """Say nothing: what the library prints would go past the log, and holds what a client sent."""
