"""How the contract suite makes stores in PostgreSQL: one server, and a schema for each test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg  # type: ignore[import-untyped]  # the driver comes without types

from backends.factory import create_store
from tests.support import leaks, postgres_server
from tests.support.postgres_server import PostgresServer, shared_server
from tests.support.stores import StoreUnderTest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connection: TypeAlias = Any
"""``asyncpg.Connection``, which has no types."""


class PostgresKind:
    network = True

    def missing(self) -> str:
        return postgres_server.missing()

    def address(self) -> tuple[str, int]:
        server = shared_server()
        return ("127.0.0.1" if isinstance(server, PostgresServer) else server.host), server.port

    def url(self, name: str, host: str, port: int) -> str:
        """Without TLS: a proxy in between only passes bytes on."""
        return shared_server().url(host=host, port=port, schema=name, sslmode="disable")

    def pause(self) -> None:
        server = shared_server()
        assert isinstance(server, PostgresServer), "somebody else's server is not paused"
        server.pause()

    def resume(self) -> None:
        server = shared_server()
        assert isinstance(server, PostgresServer)
        server.resume()

    @asynccontextmanager
    async def make(self, name: str) -> AsyncIterator[StoreUnderTest]:
        url = self.url(name, *self.address())
        store = create_store(url)
        await store.migrate()
        try:
            yield StoreUnderTest(store, lambda: dump(name), lambda: create_store(url))
            leaks.check_bytes(await dump(name), "the tables of a test")
        finally:
            async with psql() as connection:
                await connection.execute(f"SET lock_timeout = '10s'; DROP SCHEMA {name} CASCADE")


@asynccontextmanager
async def psql(url: str | None = None) -> AsyncIterator[Connection]:
    """A connection apart from every store, for what is done by hand."""
    connection = await asyncpg.connect(url or shared_server().url(sslmode="disable"))
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def dump(schema: str) -> bytes:
    """Every row of every table of the schema."""
    async with psql() as connection:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = $1 ORDER BY 1", schema
        )
        rows = [
            row[0]
            for table in tables
            for row in await connection.fetch(f"SELECT t::text FROM {schema}.{table[0]} t")  # noqa: S608 - names of ours
        ]
    return "\n".join(rows).encode()
