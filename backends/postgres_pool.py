"""The pool: every statement ends by its deadline, whoever waits for it or has left, and no connection is held beyond it.

asyncpg waits without a bound when a hung server is to cancel a statement or to take a connection back. So nothing here
is ever cancelled inside the driver: a statement runs in a task of its own, and when its time is over its connection is
torn down, which ends the statement at once. There are never more such tasks than connections.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg  # type: ignore[import-untyped]  # the driver comes without types

from backends.errors import StoreClosed, StoreError, StoreUnavailable
from backends.postgres_connect import STATEMENT_TIMEOUT, Connector
from backends.postgres_errors import DRIVER_ERRORS, is_lost, is_pooler, is_undone, translate
from backends.postgres_queries import rows_of, storable
from backends.records import Connections

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["LONG", "LOOK_UP", "Pool"]

LOOK_UP: Final = 2.0
"""Seconds for a look-up, waiting for a connection and opening one included; callers may leave sooner."""
USUAL: Final = 5.0
"""Seconds for a write, and for other reads."""
LONG: Final = 120.0
"""Seconds for what touches everything: imports, a list of all audit chains, clearing away."""

_ATTEMPTS: Final = 3
_IDLE: Final = 300.0  # seconds after which a connection that nobody uses is given back
_CLOSING: Final = 1.0  # seconds that running statements have when the store closes
_ENDED_WHILE_MADE: Final = (asyncpg.ConnectionDoesNotExistError, asyncpg.AdminShutdownError)
"""Without a word, or terminated by an administrator."""

T = TypeVar("T")


class Pool:
    """Runs operations (coroutine functions of one connection) on at most ``size`` connections."""

    def __init__(self, connector: Connector, size: int) -> None:
        self._connector = connector
        self._size = size
        self._pool: Any = None
        self._free = asyncio.Semaphore(size)
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def connections(self) -> Connections:
        """How many there are at this moment."""
        if self._pool is None:
            return Connections(maximum=self._size)
        idle = self._pool.get_idle_size()
        return Connections(idle, self._pool.get_size() - idle, self._size)

    async def open(self) -> None:
        """Idempotent; connections are made when they are needed."""
        if self._pool is None:
            self._free = asyncio.Semaphore(self._size)
            self._pool = await asyncpg.create_pool(
                min_size=0,
                max_size=self._size,
                max_inactive_connection_lifetime=_IDLE,
                connect=self._connector.connect_for_pool,
                reset=_no_reset,
            )

    async def close(self) -> None:
        """Idempotent and bounded: what still runs after a second is cut off."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSING)
        if self._running:
            pool.terminate()
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=_CLOSING)
        with suppress(*DRIVER_ERRORS):
            async with asyncio.timeout(_CLOSING):
                await pool.close()
        pool.terminate()

    def check_open(self) -> None:
        """Raises ``StoreClosed`` before ``open`` and after ``close``."""
        if self._pool is None:
            raise StoreClosed("the postgres store is not open")

    async def fetch(self, statement: str, *values: Any, within: float = USUAL) -> Sequence[Any]:
        """The rows that a statement finds; none where it asks for a text that cannot be in the database."""
        if not _storable(values):
            self.check_open()
            return ()
        rows: Sequence[Any] = await self.read(lambda connection: connection.fetch(statement, *values), within=within)
        return rows

    async def change(self, statement: str, *values: Any) -> bool:
        """Whether a statement changed a row; none where it asks for a text that cannot be in the database."""
        if not _storable(values):
            self.check_open()
            return False
        return rows_of(await self.write(lambda connection: connection.execute(statement, *values))) > 0

    async def read(self, operation: Callable[[Any], Awaitable[T]], *, within: float = USUAL) -> T:
        """What the operation returns. It only reads: who leaves leaves at once, and a lost connection is tried again."""
        return await self._run(operation, within=within, writes=False)

    async def write(self, operation: Callable[[Any], Awaitable[T]], *, within: float = USUAL) -> T:
        """The same in a transaction. It has happened, or not, when this returns, also to a caller who was cancelled."""
        return await self._run(operation, within=within, writes=True)

    async def _run(self, operation: Callable[[Any], Awaitable[T]], *, within: float, writes: bool) -> T:
        self.check_open()
        deadline = asyncio.get_running_loop().time() + within
        free = self._free
        try:
            async with asyncio.timeout_at(deadline):
                await free.acquire()
        except TimeoutError:
            raise StoreUnavailable("postgres: every connection is busy") from None
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = _Job(self._connector, operation, answer, deadline=deadline, within=within, writes=writes)
        try:
            self.check_open()
            task = asyncio.create_task(job.run(self._pool))
        except BaseException:
            free.release()
            raise
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            free.release()
            error = StoreClosed("the postgres store was closed meanwhile") if task.cancelled() else task.exception()
            if error is not None and not answer.done():
                answer.set_exception(error)

        task.add_done_callback(ended)
        try:
            return await answer
        except asyncio.CancelledError:
            if writes:
                await asyncio.wait({task})
            raise


class _Job:
    """One operation on its way, with the attempts that it needs.

    ``answer`` has its result before the connection is given back, which nobody needs to wait for; a failure is the
    task's own.
    """

    def __init__(
        self,
        connector: Connector,
        operation: Callable[[Any], Awaitable[T]],
        answer: asyncio.Future[T],
        *,
        deadline: float,
        within: float,
        writes: bool,
    ) -> None:
        self._connector = connector
        self._operation = operation
        self._answer = answer
        self._deadline = deadline
        self._within = within
        self._writes = writes
        self._connected = False
        self._begun = False
        self._late = False

    async def run(self, pool: Any) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._attempt(pool)
            except StoreError:
                raise
            except DRIVER_ERRORS as error:
                if self._answer.done():  # it has its answer, or nobody to tell it to
                    return None
                failure = error
            if attempt == _ATTEMPTS or not await self._may_try_again(failure, pool):
                break
        raise StoreUnavailable("postgres: no answer in time") if self._late else translate(failure)

    async def _may_try_again(self, error: BaseException, pool: Any) -> bool:
        if self._late or asyncio.get_running_loop().time() >= self._deadline:
            return False
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await pool.expire_connections()  # it was demoted: the next ones look for the one that can be written to
            return False
        if is_pooler(error):  # it has lost a statement, before that did anything
            if not self._connector.pgbouncer:
                self._connector.pgbouncer = True
                await pool.expire_connections()
            return True
        # A connection that ends while it is made was accepted: that is another matter than a server that refuses.
        was_there = self._connected or isinstance(error, _ENDED_WHILE_MADE)
        return is_undone(error) or (was_there and is_lost(error) and not (self._writes and self._begun))

    async def _attempt(self, pool: Any) -> None:
        loop = asyncio.get_running_loop()
        self._connected = self._begun = False
        connection = await pool.acquire(timeout=max(self._deadline - loop.time(), 0.001))
        self._connected = True
        timer = loop.call_at(self._deadline, self._give_up, connection)
        try:
            value = await self._work(connection)
            if not self._answer.done():
                self._answer.set_result(value)
        finally:
            # The timer runs on meanwhile: giving the connection back may have to wait for the server, too.
            await pool.release(connection)
            timer.cancel()

    async def _work(self, connection: Any) -> Any:
        # A single statement needs no transaction behind a pooler either: without a name it is parsed where it is run.
        is_long = self._within > STATEMENT_TIMEOUT and not self._connector.pgbouncer
        if not (self._writes or is_long):
            return await self._operation(connection)
        async with connection.transaction():
            self._begun = True
            if is_long:
                await connection.execute(f"SET LOCAL statement_timeout = {int(self._within * 1_000) + 1_000}")
            return await self._operation(connection)

    def _give_up(self, connection: Any) -> None:
        self._late = True
        with suppress(asyncpg.InterfaceError):  # it was given back a moment ago, and may be somebody else's by now
            connection.terminate()


def _storable(values: Sequence[Any]) -> bool:
    return all(storable(value) for value in values if isinstance(value, str))


async def _no_reset(_: Any) -> None:
    """Nothing that outlives a statement is ever set on a pooled connection, so the driver's reset is a trip for nothing."""
