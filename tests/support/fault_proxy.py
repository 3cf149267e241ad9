"""A TCP proxy on the loopback that does to a connection what networks do: refuse, reset, close, stall, lose, slow, cut, garble.

It runs on the loop of the test, so that every change of its mode happens between two steps of whoever is being tested.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 64 * 1024
_NOISE = b"\xff\x00\xfe garbage \x80\r\n" * 4


class Mode(StrEnum):
    """What happens to bytes from now on, on connections that are open as on new ones."""

    PASS = "pass"
    REFUSE = "refuse"  # nobody listens, and what is open is reset
    RESET = "reset"  # by a request: the connection is reset before the request arrives
    CLOSE = "close"  # likewise, but closed in good order
    STALL = "stall"  # connections are accepted and nothing comes through, either way
    STALL_REPLIES = "stall replies"  # requests come through
    SLOW = "slow"  # each piece is held back for a while
    TRUNCATE = "truncate"  # half of a reply comes through, then the connection is closed
    GARBAGE = "garbage"  # something else comes in the place of a reply


class FaultProxy:
    """Between ``127.0.0.1:port`` and the server at the given address."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener: socket.socket | None = None
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.port = 0
        self.mode = Mode.PASS
        self.pause = 0.0
        """Seconds for which ``SLOW`` holds back each piece."""
        self.accepted = 0
        self.faults = 0
        """How many pieces or connections suffered from the mode."""

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_listening()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def become(self, mode: Mode, *, pause: float = 0.0) -> None:
        """Change the mode; what a stall held back goes on its way when it ends."""
        self.mode, self.pause = mode, pause
        if mode is Mode.REFUSE:
            await self._stop_listening()
            self.cut()
        else:
            self._listen()
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> None:
        """Reset every connection that is open; new ones are a matter of the mode."""
        for connection in tuple(self._open):
            self.faults += 1
            connection.reset()

    def lose(self) -> None:
        """Nothing ever comes through what is open now, and nobody is told, as when an address moves to another machine."""
        for connection in self._open:
            self.faults += 1
            connection.is_lost = True

    def _listen(self) -> None:
        """By hand: ``asyncio.Server`` loses a connection that it accepts in the moment in which it is closed."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
            self._listener.settimeout(0)
            self.port = self._listener.getsockname()[1]
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
            await asyncio.sleep(0)  # what was accepted just now comes to its first step, and closes its socket itself

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone again
            return
        client.settimeout(0)
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._serve(client), name="fault-proxy")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=client)
        except BaseException:
            client.close()
            raise
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except BaseException as error:
            writer.transport.abort()
            if isinstance(error, OSError):
                return
            raise
        connection = _Connection(writer, server_writer)
        self._open.add(connection)
        pumps = [
            asyncio.ensure_future(self._pump(connection, reader, server_writer, is_reply=False)),
            asyncio.ensure_future(self._pump(connection, server_reader, writer, is_reply=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            connection.close()
            self._open.discard(connection)
            await asyncio.wait(pumps)

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if connection.is_lost:
                    continue
                held = await self._hold(is_reply=is_reply)
                mode = Mode.PASS if held else self.mode  # what was held back comes through unharmed
                if mode is Mode.RESET or mode is Mode.CLOSE:
                    self.faults += 1
                    if mode is Mode.RESET:
                        connection.reset()
                    return
                if is_reply and mode in (Mode.TRUNCATE, Mode.GARBAGE):
                    self.faults += 1
                    writer.write(_NOISE if mode is Mode.GARBAGE else data[: len(data) // 2])
                    await writer.drain()
                    if mode is Mode.TRUNCATE:
                        return
                    continue
                writer.write(data)
                await writer.drain()

    async def _hold(self, *, is_reply: bool) -> bool:
        """Wait for as long as the mode holds bytes back; whether it did."""
        held = False
        while self.mode is Mode.STALL or (self.mode is Mode.STALL_REPLIES and is_reply):
            held = True
            self.faults += 1
            await self._changed.wait()
        if self.mode is Mode.SLOW:
            self.faults += 1
            changed = self._changed.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed, self.pause)
        return held


class _Connection:
    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.is_lost = False

    def close(self) -> None:
        """In good order, unless it was reset; what is written already is sent."""
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """With RST, as a firewall or a dying host does."""
        for writer in self._writers:
            its_socket = writer.get_extra_info("socket")
            if its_socket is not None and not writer.transport.is_closing():
                its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
