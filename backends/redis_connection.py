"""The store's conversations with the server: a bounded pool, short deadlines, and writes that are never sent twice.

What only reads is repeated once on a new connection, which is for pooled connections that the server has closed
meanwhile. A script that writes runs at most once: its connection is proved alive, and the server's clock and epoch marker
read, right before it. The driver's errors end here (``backends.redis_errors``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.connection import BlockingConnectionPool, Connection
from redis.exceptions import AuthenticationError, BusyLoadingError, NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from backends.errors import StoreClosed, StoreNotReady, StoreUnavailable
from backends.records import Connections
from backends.redis_connect import CONNECT_TIMEOUT, connection_kind, drop
from backends.redis_errors import translated, unavailable
from backends.redis_keys import BUCKETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio.connection import AbstractConnection

    from backends.redis_keys import Names
    from backends.redis_records import Epochs
    from backends.redis_scripts import Script
    from backends.redis_url import RedisOptions

__all__ = ["Argument", "Command", "Wire", "checked"]

_POOL_TIMEOUT: Final = 0.5  # seconds, as all of these
_READ_TIMEOUT: Final = 1.0
_WRITE_TIMEOUT: Final = 5.0
_MARGIN: Final = 0.5  # between a script's own deadline and its caller's, for the answer's way back
_SETTLING: Final = 1.0
_NO_BUCKET: Final = BUCKETS
"""Where the marker is remembered that is read with everything outside the buckets."""

Argument = bytes | str | int
Command = tuple[Argument, ...]
_Ask = Callable[[Connection, Sequence[Command]], Awaitable[list[Any]]]


class _Pool(BlockingConnectionPool):
    """Knows all of its connections, lent or not."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.made: list[AbstractConnection] = []

    def make_connection(self) -> AbstractConnection:
        """One more, not connected yet."""
        self.made.append(self.connection_class(**self.connection_kwargs))
        return self.made[-1]


class Wire:
    """The pool and the ways of asking through it. All of them raise ``StoreClosed`` and ``StoreUnavailable``."""

    def __init__(self, options: RedisOptions, names: Names, epochs: Epochs) -> None:
        self._options = options
        self._class, self._arguments = connection_kind(options)
        self._names = names
        self._epochs = epochs
        self._pool: _Pool | None = None

    @property
    def is_open(self) -> bool:
        """Between ``open`` and ``close``."""
        return self._pool is not None

    @property
    def connections(self) -> Connections:
        """See the contract."""
        if self._pool is None:
            return Connections(maximum=self._options.pool_size)
        (idle, _), (used, _) = self._pool.get_connection_count()
        return Connections(idle=idle, used=used, maximum=self._options.pool_size)

    def open(self) -> None:
        """Ready to connect when somebody asks."""
        if self._pool is None:
            self._pool = _Pool(
                connection_class=self._class,
                max_connections=self._options.pool_size,
                timeout=_POOL_TIMEOUT,
                protocol=2,  # nothing is pushed to these
                **self._arguments,
            )

    async def close(self) -> None:
        """Drop every connection; whoever waits on one hears that it is broken."""
        pool, self._pool = self._pool, None
        for connection in () if pool is None else pool.made:
            await drop(connection)

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to commands that only read, in order; one that was refused is a ``ResponseError`` in its place."""
        with translated():
            async with self._borrowed() as connection:
                return await _ask_again(connection, commands)

    async def read(self, *commands: Command) -> list[Any]:
        """Likewise outside the buckets, with evidence: the marker is read in the same breath."""
        marker, *replies = await self.ask(("GET", self._names.own("epoch")), *commands)
        return [checked(reply) for reply in self.proved(marker, *replies)]

    def proved(self, marker: Any, *replies: Any) -> tuple[Any, ...]:
        """The replies, unless the marker that came with them is missing or wrong."""
        self._epochs.check(_NO_BUCKET, checked(marker))
        return replies

    async def run(self, script: Script, *arguments: Argument, wait: float = _WRITE_TIMEOUT) -> list[Any]:
        """What a writing script returns: it ran whole, or raises and did not run at all, save where its answer was lost.

        A caller who is cancelled meanwhile leaves when the write is over, or 1 s later: then nothing changes behind it.
        """
        task = asyncio.ensure_future(self._run(script, arguments, wait))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=_SETTLING)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # looked at, so that the loop does not report it
            raise

    async def _run(self, script: Script, arguments: Sequence[Argument], wait: float) -> list[Any]:
        with translated():
            async with self._borrowed() as connection:
                clock, marker = await _ask_again(connection, (("TIME",), ("GET", self._names.own("epoch"))))
                self.proved(marker)
                seconds, microseconds = checked(clock)
                deadline = int(seconds) * 1_000_000 + int(microseconds) + int((wait - _MARGIN) * 1_000_000)
                head = (self._names.prefix, deadline, marker, self._names.changes)
                reply = await _call_script(connection, script, (*head, *arguments), ask=partial(_ask, within=wait))
        status, *rest = await self._accepted(reply)
        if status == b"late":
            raise StoreUnavailable("redis: the server came to the write too late, nothing was written")
        if status == b"moved":
            raise StoreNotReady("redis: the epoch marker changed in the middle of the write, nothing was written")
        return [status, *rest]

    async def evaluate(self, script: Script, *arguments: Argument) -> list[Any]:
        """What a script returns that needs no marker and may run twice."""
        with translated():
            async with self._borrowed() as connection:
                reply = await _call_script(connection, script, (self._names.prefix, *arguments), ask=_ask_again)
        found: list[Any] = await self._accepted(reply)
        return found

    async def write_and_wait(self, first: Command, then: Command, *, wait: float) -> Any:
        """The answer to ``then``, sent right after ``first`` on the same connection; neither is repeated."""
        with translated():
            async with self._borrowed() as connection:
                written, reply = await _ask(connection, (first, then), within=wait)
        await self._accepted(written)
        return await self._accepted(reply)

    async def leave(self) -> None:
        """The server is not the primary any more: what is asked next looks for that on a new connection."""
        if self._pool is not None:
            await self._pool.disconnect(inuse_connections=True)

    def link(self) -> Connection:
        """A connection of its own, not connected yet, to which the server may push."""
        return self._class(protocol=3, **self._arguments)

    async def _accepted(self, reply: Any) -> Any:
        if isinstance(reply, ReadOnlyError) and self._pool is not None:
            await self._pool.disconnect(inuse_connections=False)  # after a failover the name may lead elsewhere
        return checked(reply)

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        pool = self._pool
        if pool is None:
            raise StoreClosed("the redis store is not open")
        async with asyncio.timeout(CONNECT_TIMEOUT):
            connection: Connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # the driver's
        try:
            yield connection
        finally:
            await pool.release(connection)
            if self._pool is not pool:  # closed meanwhile, and nobody will look into that pool again
                await drop(connection)


def checked(reply: Any) -> Any:
    """A reply that is none of the server's refusals."""
    if isinstance(reply, ResponseError):
        raise unavailable(reply)
    return reply


async def _call_script(connection: Connection, script: Script, arguments: Sequence[Argument], *, ask: _Ask) -> Any:
    (reply,) = await ask(connection, (("EVALSHA", script.sha, 0, *arguments),))
    if isinstance(reply, NoScriptError):  # nothing ran
        (reply,) = await ask(connection, (("EVAL", script.text, 0, *arguments),))
    return reply


async def _ask_again(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    """Once more on a new connection where this one is broken."""
    try:
        return await _ask(connection, commands)
    except (AuthenticationError, BusyLoadingError):
        raise
    except RedisConnectionError:
        return await _ask(connection, commands)


async def _ask(connection: Connection, commands: Sequence[Command], *, within: float = _READ_TIMEOUT) -> list[Any]:
    """Send all, read all; a connection of which not everything was read is of no use any more."""
    try:
        async with asyncio.timeout(within):
            await connection.send_packed_command(connection.pack_commands(commands))
            return [await _reply(connection) for _ in commands]
    except RuntimeError as error:  # uvloop's word for a transport that was closed meanwhile
        await drop(connection)
        raise RedisConnectionError("the connection was closed") from error
    except BaseException:
        await drop(connection)
        raise


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
