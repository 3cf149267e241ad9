"""A keep-alive HTTP client that is cheap enough not to be what is measured."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Answer", "Client", "forwarded", "key_headers"]

_NO_ANSWER: Final = 0
"""Stands for the status where no answer came."""

_PATIENCE: Final = 15.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """``seconds`` from sending to having read it all; ``at`` is the monotonic time of its end."""

    status: int
    body: bytes
    seconds: float
    at: float

    def json(self) -> Any:
        """The body, read as JSON."""
        return orjson.loads(self.body)


def forwarded(host: str) -> dict[str, str]:
    """The five headers of a proxy's question about a client's request to this host."""
    return {
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": host,
        "X-Forwarded-Uri": "/orders",
        "X-Forwarded-For": "192.0.2.1",
    }


def key_headers(api_key: str, secret: str) -> dict[str, str]:
    """The two headers of a credential."""
    return {"x-api-key": api_key, "x-secret-token": secret}


class Client:
    """One connection to one process, opened anew when it is lost; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._busy = asyncio.Lock()

    async def ask(self, path: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes = b"") -> Answer:
        """The answer; status ``_NO_ANSWER`` where there is none within 15 s."""
        async with self._busy:
            started = time.monotonic()
            try:
                async with asyncio.timeout(_PATIENCE):
                    status, found = await self._exchange(_request(method, path, headers, body))
            except (OSError, EOFError, TimeoutError, ValueError, IndexError):
                self.close()
                status, found = _NO_ANSWER, b""
            ended = time.monotonic()
            return Answer(status, found, ended - started, ended)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._connection
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
        body = await reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), body

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: gatekey.test",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    elif method != "GET":
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode() + body
