"""A small asyncio echo server on a thread of its own that counts its connections, and a pool of connections to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.servers import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator


class EchoServer:
    """Echoes lines; ``opened`` counts the connections that ever came, ``current`` those that are open."""

    def __init__(self) -> None:
        self.opened = 0
        self.current = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(DEADLINE)
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._end.wait()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.current += 1
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()  # only then is its file closed too
            self.current -= 1


@contextmanager
def echo_server() -> Iterator[EchoServer]:
    server = EchoServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


class EchoPool:
    """At most ``size`` connections, kept open between requests; usable on the loop that first used it, as real pools are."""

    def __init__(self, port: int, *, size: int = 8) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._free = asyncio.Semaphore(size)

    async def echo(self, text: str) -> str:
        """``text`` as the server sent it back."""
        async with self._free:
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(f"{text}\n".encode())
            await writer.drain()
            line = await reader.readline()
            self._idle.append((reader, writer))
        return line.decode().rstrip("\n")

    async def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()
        self._idle.clear()
