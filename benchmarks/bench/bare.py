"""The look-up of a key by nothing but the store's driver, on the same event loop as Gatekey's: what a miss is held against.

The statements read the same rows as Gatekey's own. SQLite is asked on a thread, as any service on an event loop must.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]  # the driver comes without types
import orjson
import uvloop
from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["look_ups", "names_of_record"]

_SQLITE: Final = """
    SELECT (SELECT value FROM meta WHERE name = 'epoch'), o.is_active, k.* FROM api_keys k
    LEFT JOIN organizations o ON o.organization_id = k.organization_id WHERE k.api_key = ?
"""
_POSTGRES: Final = """
    SELECT m.*, o.is_active AS organization_is_active, k.* FROM {schema}.meta m
    LEFT JOIN {schema}.keys k ON k.api_key = $1
    LEFT JOIN {schema}.organizations o ON o.organization_id = k.organization_id WHERE m.singleton
"""
_WARM_UP: Final = 50
_PAUSE: Final = 0.001
"""Seconds between two calls. Gatekey's misses come with a client's round trip between them, in which the core does other
things; calls one right after the other find it warm and take a third of the time, which no service sees."""


@asynccontextmanager
async def _sqlite(url: str) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    loop = asyncio.get_running_loop()
    with (
        ThreadPoolExecutor(1) as thread,
        closing(sqlite3.connect(urlsplit(url).path[1:], check_same_thread=False)) as db,
    ):

        def select(api_key: str) -> object:
            return db.execute(_SQLITE, (api_key,)).fetchone()

        yield lambda api_key: loop.run_in_executor(thread, select, api_key)


@asynccontextmanager
async def _postgres(url: str) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    address, _, query = url.partition("?")
    (schema,) = parse_qs(query)["schema"]
    connection: Any = await asyncpg.connect(f"{address}?sslmode=disable")
    statement = _POSTGRES.format(schema=schema)
    try:
        yield lambda api_key: connection.fetchrow(statement, api_key)
    finally:
        await connection.close()


def names_of_record(record: str) -> tuple[str, str, str]:
    """What one look-up in Redis reads: a record, and its bucket's marker and switches."""
    bucket = record[: record.index("}:") + 2]
    return record, f"{bucket}epoch", f"{bucket}disabled"


@asynccontextmanager
async def _redis(url: str) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    address, _, query = url.partition("?")
    (prefix,) = parse_qs(query)["prefix"]
    client: Redis = Redis.from_url(address)
    names: dict[str, tuple[str, str, str]] = {}
    pattern = f"{prefix}:{{b*}}:*"
    async for name in client.scan_iter(match=pattern, count=10_000):
        record = name.decode()
        names[re.sub(r"^[^}]*}:", "", record)] = names_of_record(record)
    try:
        yield lambda api_key: client.mget(names[api_key])
    finally:
        await client.aclose()


_DRIVERS: Final[dict[str, Callable[[str], AbstractAsyncContextManager[Callable[[str], Awaitable[object]]]]]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "postgresql": _postgres,
}


async def look_ups(url: str, api_keys: list[str]) -> list[float]:
    """Milliseconds of each, one after the other."""
    taken = []
    async with _DRIVERS[urlsplit(url).scheme](url) as look_up:
        for api_key in api_keys[:_WARM_UP]:
            await look_up(api_key)
        for api_key in api_keys:
            await asyncio.sleep(_PAUSE)
            started = time.perf_counter()
            found = await look_up(api_key)
            taken.append((time.perf_counter() - started) * 1000)
            if not found:
                raise LookupError("a key that was imported is not there")
    return taken


def main() -> None:
    """``{"url": …, "api_keys": […]}`` on standard input, the milliseconds as JSON on standard output."""
    given = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(look_ups(given["url"], given["api_keys"]))))


if __name__ == "__main__":
    main()
