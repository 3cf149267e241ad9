"""The application behind a proxy: a real HTTP server that remembers every request exactly as it arrived."""

from __future__ import annotations

import base64
import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BODY", "Canned", "Received", "Upstream", "upstream"]

BODY = b"the application answers\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request: the request line's parts and the header lines in their order, names spelled as they were sent."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of all lines of a header, whatever the case of its name."""
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The one value of a header, ``None`` when it is absent; fails when it came twice."""
        values = self.values(name)
        assert len(values) < 2, f"the application got {name} {len(values)} times"
        return values[0] if values else None

    @property
    def names(self) -> set[str]:
        """All header names in lower case."""
        return {name.lower() for name, _ in self.headers}


@dataclass(slots=True, kw_only=True)
class Canned:
    """What the server answers to every request; tests may change it at any time."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)


class Upstream:
    """``requests`` is what arrived so far, ``answer`` what is answered, ``port`` where it listens on loopback."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.answer = Canned()
        recorded, canned = self.requests, self.answer

        class Handler(_Handler):
            requests = recorded
            answer = canned

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True  # connections that a proxy keeps open end with it
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    requests: ClassVar[list[Received]]
    answer: ClassVar[Canned]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """As the base class does, but every method is taken: this application refuses nothing."""
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self._answer()
        except OSError:
            self.close_connection = True

    def _answer(self) -> None:
        method, target, _ = self.requestline.split(" ", 2)
        request = Received(method=method, target=target, headers=list(self.headers.items()), body=self._body())
        self.requests.append(request)
        key = request.value("Sec-WebSocket-Key")
        if key is not None and self.answer.status == 200:
            self._shake_hands(key)
            return
        self.send_response(self.answer.status)
        for name, text in self.answer.headers:
            self.send_header(name, text)
        body = b"" if self.answer.status == 204 else BODY
        if body:
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _shake_hands(self, key: str) -> None:
        """Accept a websocket (RFC 6455 4.2.2), say one word in a text frame, and hang up."""
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.wfile.write(b"\x81\x05hello")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Print nothing: requests carry the tests' secrets."""


@contextmanager
def upstream() -> Iterator[Upstream]:
    """A running application."""
    server = Upstream()
    try:
        yield server
    finally:
        server.close()
