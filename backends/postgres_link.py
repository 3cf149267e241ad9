"""One announcing link: a connection that listens, and another one whose heartbeats must come back through it.

The heartbeat is sent by the way that writers use, never on the listening connection: a pooler would deliver that one to
itself, and LISTEN through it would look alive while it hears nothing. Announcements arrive in the order of commits, so
what was written before a heartbeat was sent has arrived when it comes back. Its channel has a random name of 128 bits,
because anybody who may log in can send on any channel.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from backends.elapsed import elapsed_clock
from backends.errors import StoreUnavailable
from backends.postgres_errors import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.postgres_connect import Connector

__all__ = ["Link"]

_BETWEEN: Final = 0.4  # seconds from one heartbeat to the next
_PATIENCE: Final = 1.4  # seconds until a heartbeat that did not come back means that the link is down


class Link:
    """Runs from one connection to its loss; ``told`` gets each message, ``alive`` each heartbeat that came back."""

    def __init__(
        self,
        *,
        ear: Connector,
        mouth: Connector,
        channel: str,
        told: Callable[[str], None],
        alive: Callable[[float], None],
    ) -> None:
        self._connectors = (ear, mouth)
        self._channel = channel
        self._own = f"gatekey_{secrets.token_hex(16)}"
        self._told = told
        self._alive = alive
        self._connections: list[Any] = []
        self._is_cut = False
        self._sent = 0  # the number of the last heartbeat
        self._sent_at = 0.0
        self._echo: asyncio.Future[None] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._hurry = asyncio.Event()
        self.was_alive = False

    async def run(self) -> None:
        """Returns when the link is lost or could not be made; never raises but for cancellation."""
        try:
            with suppress(*DRIVER_ERRORS):
                await self._connect()
                while True:
                    await self._beat()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_BETWEEN):
                            await self._hurry.wait()
        finally:
            self._cut()
            for _, waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(StoreUnavailable("postgres: the announcing link is down"))
                    waiting.exception()  # whoever waited may have left

    async def heard(self) -> None:
        """Return when a heartbeat that is sent from now on has come back; raises ``StoreUnavailable`` when the link is lost."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._sent + 1, waiting))
        self._hurry.set()
        await waiting

    async def _connect(self) -> None:
        for connector in self._connectors:
            connection = await connector.connect()
            self._connections.append(connection)
            connection.add_termination_listener(lambda _: self._cut())
        timer = asyncio.get_running_loop().call_later(_PATIENCE, self._cut)
        try:
            await self._use(0).add_listener(self._channel, self._hear)
            await self._use(0).add_listener(self._own, self._hear_echo)
        finally:
            timer.cancel()

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._hurry.clear()
        self._sent += 1
        self._sent_at = elapsed_clock()
        self._echo = loop.create_future()
        timer = loop.call_later(_PATIENCE, self._cut)
        try:
            await self._use(1).execute(f"NOTIFY {self._own}, '{self._sent}'")
            await self._echo
        finally:
            timer.cancel()

    def _use(self, index: int) -> Any:
        if self._is_cut:
            raise ConnectionError("the announcing link is down")
        return self._connections[index]

    def _cut(self) -> None:
        """Ends whatever ``run`` is waiting for, without asking the server for anything."""
        self._is_cut = True
        for connection in self._connections:
            connection.terminate()
        if self._echo is not None and not self._echo.done():
            self._echo.set_exception(ConnectionError("the announcing link is down"))
            self._echo.exception()  # nobody may be waiting for it at the moment

    def _hear(self, _connection: Any, _pid: int, _channel: str, message: str) -> None:
        if not self._is_cut:
            self._told(message)

    def _hear_echo(self, _connection: Any, _pid: int, _channel: str, message: str) -> None:
        if self._is_cut or message != str(self._sent) or self._echo is None or self._echo.done():
            return
        self._alive(elapsed_clock() - self._sent_at)
        self.was_alive = True
        self._echo.set_result(None)
        for number, waiting in self._waiting:
            if number <= self._sent and not waiting.done():
                waiting.set_result(None)
        self._waiting = [item for item in self._waiting if not item[1].done()]
