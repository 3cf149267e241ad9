"""One RESP3 connection that the server may push to: commands go out, one task alone reads what comes back.

Answers come in the order of their commands, pushes between them; the driver sorts them apart when it is told whom to
give the pushes to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from backends.errors import StoreUnavailable
from backends.redis_connect import drop
from backends.redis_errors import FAILURES, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import Connection

    from backends.redis_connection import Argument

__all__ = ["Link"]

_PUSHED = object()


class Link:
    """``on_push`` takes every push, in order; ``on_end`` is called when nothing will come any more."""

    def __init__(
        self, connection: Connection, on_push: Callable[[list[Any]], None], on_end: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._on_push = on_push
        self._on_end = on_end
        self._answers: deque[asyncio.Future[Any]] = deque()
        self._sending = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and begin to read."""
        await self._connection.connect()  # type: ignore[no-untyped-call]  # the driver's
        parser: Any = self._connection._parser  # noqa: SLF001 - the driver has no public way to hear of invalidations
        parser.set_pubsub_push_handler(self._push)
        parser.set_invalidation_push_handler(self._push)
        self._reader = asyncio.create_task(self._read())

    async def send(self, *command: Argument) -> None:
        """Send a command whose answer comes as a push."""
        async with self._sending:
            self._check()
            await self._connection.send_command(*command)

    async def call(self, *command: Argument) -> Any:
        """Send a command and wait for its answer; raises ``ResponseError`` where that is a refusal."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        async with self._sending:
            self._check()
            self._answers.append(answer)
            await self._connection.send_command(*command)
        return await self.until(answer)

    async def until(self, answer: asyncio.Future[Any]) -> Any:
        """The result of ``answer``; raises when the link ends before it comes."""
        assert self._reader is not None  # noqa: S101 - only an open link sends
        await asyncio.wait({answer, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self._check()
        return answer.result()

    async def close(self) -> None:
        """Give the connection back; does not wait for a server that hangs."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await drop(self._connection)

    def _check(self) -> None:
        if self._reader is None or not self._reader.done():
            return
        error = None if self._reader.cancelled() else self._reader.exception()
        raise error or StoreUnavailable("redis: the announcing connection is closed")

    async def _read(self) -> None:
        try:
            while True:
                await self._read_one()
        except FAILURES as error:
            raise unavailable(error) from None
        finally:
            self._on_end()

    async def _read_one(self) -> None:
        error: ResponseError | None = None
        reply = None
        try:
            reply = await self._connection.read_response(push_request=True)
        except ResponseError as refusal:
            error = refusal
        if reply is _PUSHED:
            return
        if not self._answers:
            raise error or ValueError  # a refusal of what should have been answered by a push, or nonsense
        answer = self._answers.popleft()
        if answer.done():
            return
        if error is None:
            answer.set_result(reply)
        else:
            answer.set_exception(error)

    async def _push(self, message: list[Any]) -> object:
        self._on_push(message)
        return _PUSHED
