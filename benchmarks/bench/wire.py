"""Where an HTTP/1.1 response ends, in as few steps as an open-loop load generator can afford."""

from __future__ import annotations

__all__ = ["request_bytes", "response_end", "status_of"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench.contender import Request

_NO_BODY = (204, 304)


def request_bytes(request: Request, *, port: int) -> bytes:
    """A GET as it is sent."""
    headers = {"Host": f"127.0.0.1:{port}", **request.headers}
    lines = [f"GET {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def status_of(data: bytes) -> int:
    """Of a response whose first line is there."""
    return int(data[9:12])


def response_end(data: bytes) -> int | None:
    """How many bytes the response at the beginning of ``data`` has; ``None`` where more must come to say so.

    Raises ``ValueError`` for what is no HTTP/1.1 response, or none whose end can be told while the connection stays.
    """
    if not data.startswith(b"HTTP/1.1 "[: len(data)]):
        raise ValueError("the answer is no HTTP/1.1 response")
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    body = head_end + 4
    fields = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(b":") for line in data[:head_end].split(b"\r\n")[1:])
    }
    if status_of(data) in _NO_BODY:
        return body
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return _chunked_end(data, body)
    if b"content-length" not in fields:
        raise ValueError("the answer has no length")
    end = body + int(fields[b"content-length"])
    return end if len(data) >= end else None


def _chunked_end(data: bytes, at: int) -> int | None:
    """``at`` is where the first chunk begins. Trailers are not looked for: no contender sends any."""
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        size = int(data[at:line_end].partition(b";")[0], 16)
        at = line_end + 2 + size + 2
        if len(data) < at:
            return None
        if size == 0:
            return at
