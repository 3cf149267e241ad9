"""The stores that are measured: real servers, a proxy in front of each, and the ways in which each can fail."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import tempfile
import uuid
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backends.factory import create_store
from backends.records import KeyState
from tests.support.fault_proxy import FaultProxy, Mode
from tests.support.postgres_kind import PostgresKind, psql
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_server import shared_server as postgres_server
from tests.support.redis_kind import RedisKind
from tests.support.redis_server import RedisServer
from tests.support.redis_server import shared_server as redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from benchmarks.faults.matrix import Fault

__all__ = ["STORES", "Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A store for one measurement. ``url`` leads through the proxy, ``direct`` past it."""

    url: str
    direct: str
    faults: dict[str, Fault]

    async def revoke(self, key: str) -> None:
        """End a key directly in the store, as another process would; tried again until the store takes it."""
        while True:
            store = create_store(self.direct)
            await store.open()
            try:
                async with asyncio.timeout(3):
                    await store.set_state(key, KeyState.REVOKED, now=datetime.now(UTC))
            except Exception:  # noqa: BLE001 - the store fails on purpose, in every way there is
                await asyncio.sleep(0.1)
            else:
                return
            finally:
                await store.close()


@asynccontextmanager
async def _sqlite() -> AsyncIterator[Prepared]:
    with tempfile.TemporaryDirectory(prefix="gatekey-faults-") as folder:
        path = Path(folder, "data", "keys.db")
        await asyncio.to_thread(path.parent.mkdir)

        @asynccontextmanager
        async def locked() -> AsyncIterator[None]:
            with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
                await asyncio.to_thread(other.execute, "PRAGMA busy_timeout = 5000")
                await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
                yield

        @asynccontextmanager
        async def moved() -> AsyncIterator[None]:
            elsewhere = path.parent.with_name("elsewhere")
            await asyncio.to_thread(path.parent.rename, elsewhere)
            yield
            await asyncio.to_thread(elsewhere.rename, path.parent)

        url = f"sqlite:///{path}"
        yield Prepared(url, url, {"locked by another process": locked, "folder moved away": moved})


def _through_proxy(proxy: FaultProxy) -> dict[str, Fault]:
    def becoming(mode: Mode, *, pause: float = 0.0) -> Fault:
        @asynccontextmanager
        async def begin() -> AsyncIterator[None]:
            await proxy.become(mode, pause=pause)
            try:
                yield
            finally:
                await proxy.become(Mode.PASS)

        return begin

    @asynccontextmanager
    async def cut() -> AsyncIterator[None]:
        proxy.cut()
        yield

    return {
        "connections cut once": cut,
        "refused": becoming(Mode.REFUSE),
        "stalled": becoming(Mode.STALL),
        "replies lost": becoming(Mode.STALL_REPLIES),
        "0.5 s slower each way": becoming(Mode.SLOW, pause=0.5),
        "answers garbage": becoming(Mode.GARBAGE),
    }


def _of_the_server(server: PostgresServer | RedisServer, kill: Callable[[], None]) -> dict[str, Fault]:
    @asynccontextmanager
    async def paused() -> AsyncIterator[None]:
        server.pause()
        try:
            yield
        finally:
            server.resume()

    @asynccontextmanager
    async def killed() -> AsyncIterator[None]:
        await asyncio.to_thread(kill)
        yield
        await asyncio.to_thread(server.start)

    return {"server paused": paused, "server killed": killed}


def _setting(apply: Callable[[bool], Coroutine[Any, Any, None]]) -> Fault:
    @asynccontextmanager
    async def begin() -> AsyncIterator[None]:
        await apply(True)  # noqa: FBT003 - on, off
        try:
            yield
        finally:
            await apply(False)  # noqa: FBT003 - as above

    return begin


async def _read_only(on: bool) -> None:  # noqa: FBT001 - on, off
    async with psql() as connection:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
        await connection.execute("SELECT pg_reload_conf()")


@asynccontextmanager
async def _postgres() -> AsyncIterator[Prepared]:
    kind, server = PostgresKind(), postgres_server()
    if not isinstance(server, PostgresServer):
        raise SystemExit("GATEKEY_TEST_POSTGRES_URL is set: faults are made on a server of our own only")
    name = f"gk{uuid.uuid4().hex[:12]}"
    host, port = kind.address()
    async with FaultProxy(host, port) as proxy:
        faults = {
            **_through_proxy(proxy),
            **_of_the_server(server, partial(server.halt, signal.SIGQUIT)),
            "read-only": _setting(_read_only),
        }
        yield Prepared(kind.url(name, "127.0.0.1", proxy.port), kind.url(name, host, port), faults)


@asynccontextmanager
async def _redis() -> AsyncIterator[Prepared]:
    kind, server = RedisKind(), redis_server()
    if not isinstance(server, RedisServer):
        raise SystemExit("GATEKEY_TEST_REDIS_URL is set: faults are made on a server of our own only")
    name = f"gk{uuid.uuid4().hex[:12]}"
    host, port = kind.address()
    async with FaultProxy(host, port) as proxy:
        faults = {
            **_through_proxy(proxy),
            **_of_the_server(server, server.kill),
            "memory full": _setting(server.full),
        }
        yield Prepared(kind.url(name, "127.0.0.1", proxy.port), kind.url(name, host, port), faults)


STORES: Final[dict[str, Callable[[], AbstractAsyncContextManager[Prepared]]]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "postgresql": _postgres,
}
