"""HTTP/1.1 over a plain socket: what no well-behaved client library would send, and what exactly came back."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from tests.support import leaks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    Lines = Iterable[tuple[str, str | bytes]]

_TIMEOUT = 15.0  # seconds that a socket may be silent before a test gives up on it
_BODILESS = (204, 304)
_REFUSED = 300  # and above


@dataclass(frozen=True, slots=True)
class RawResponse:
    """One answer; header names in lower case, in the order they came. ``status`` 0: the connection ended instead."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        """The header's lines joined with ``, ``; ``""`` when absent."""
        return ", ".join(value for key, value in self.headers if key == name)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.headers)

    def json(self) -> Any:
        return orjson.loads(self.body)

    def heard(self) -> Self:
        """Itself; whatever is no success must repeat no secret (a success may be an echo, or a new key)."""
        if self.status >= _REFUSED:
            lines = [f"{name}: {value}" for name, value in self.headers]
            leaks.hear("\n".join((*lines, self.body.decode("utf-8", "surrogateescape"))))
        return self


def render(method: str, target: str, lines: Lines = (), body: bytes = b"", *, version: str = "HTTP/1.1") -> bytes:
    """The bytes of a request with exactly these header lines; nothing is added."""
    head = f"{method} {target} {version}\r\n".encode("latin-1")
    for name, value in lines:
        head += (
            name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")) + b"\r\n"
        )
    return head + b"\r\n" + body


class RawConnection:
    """One connection to a loopback port; a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, *, head: bool = False) -> RawResponse:
        """The next answer; ``head`` says that the question was HEAD."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return RawResponse(0, body=self._buffer)
        start, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        status_line, *rest = start.decode("latin-1").split("\r\n")
        status = int(status_line.split(" ")[1])
        headers = []
        for line in rest:
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        answer = RawResponse(status, tuple(headers))
        if 100 <= status < 200:
            return self.receive(head=head)
        if not head and status not in _BODILESS:
            answer = RawResponse(status, answer.headers, self._body(answer))
        return answer.heard()

    def shut(self, how: int = socket.SHUT_WR) -> None:
        """Close one side of the connection, or both."""
        self._socket.shutdown(how)

    def until(self, end: bytes) -> bytes:
        """What comes up to and with ``end``, as it is on the wire."""
        while end not in self._buffer:
            assert self._more(), "the connection ended before that"
        found, self._buffer = self._buffer.split(end, 1)
        return found + end

    def is_closed(self) -> bool:
        """Whether the server ends the connection now (waits for it; data instead of the end is a ``False``)."""
        try:
            return not self._buffer and self._socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def _body(self, answer: RawResponse) -> bytes:
        if answer.header("transfer-encoding") == "chunked":
            return self._chunks()
        length = answer.header("content-length")
        if length:
            return self._exactly(int(length))
        while self._more():
            pass
        body, self._buffer = self._buffer, b""
        return body

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                assert self._more(), "the connection ended within a chunked body"
            size, self._buffer = self._buffer.split(b"\r\n", 1)
            chunk = self._exactly(int(size, 16) + 2)[:-2]
            if not chunk:
                return body
            body += chunk

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            assert self._more(), "the connection ended within a body"
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _more(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)


def exchange(port: int, data: bytes, *, head: bool = False) -> RawResponse:
    """Send bytes over a connection of their own, and read one answer."""
    with RawConnection(port) as connection:
        with contextlib.suppress(ConnectionError):  # refused before all was read; the answer may be there nevertheless
            connection.send(data)
        return connection.receive(head=head)


def request(
    port: int, method: str, target: str, lines: Lines = (), body: bytes = b"", *, version: str = "HTTP/1.1"
) -> RawResponse:
    """``render`` and ``exchange``."""
    return exchange(port, render(method, target, lines, body, version=version), head=method == "HEAD")
