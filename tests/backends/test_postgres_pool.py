"""When whoever asks has the answer, and when the connection is free again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]  # the driver comes without types
import pytest

from backends.errors import StoreUnavailable
from backends.postgres_connect import Connector
from backends.postgres_pool import Pool
from backends.postgres_url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.postgres_kind import PostgresKind


@pytest.fixture
async def pool(kind: PostgresKind) -> AsyncIterator[Pool]:
    """With one connection."""
    pool = Pool(Connector(parse_url(kind.url("nothing", *kind.address())).connect), 1)
    await pool.open()
    yield pool
    await pool.close()


async def test_an_answer_comes_before_the_connection_is_given_back(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may take its time; whoever asks next waits for it."""
    release, may_go_on = asyncpg.Pool.release, asyncio.Event()

    async def hesitate(self: asyncpg.Pool, *args: Any, **options: Any) -> None:
        await may_go_on.wait()
        await release(self, *args, **options)

    monkeypatch.setattr(asyncpg.Pool, "release", hesitate)
    assert await pool.read(lambda connection: connection.fetchval("SELECT 1")) == 1
    with pytest.raises(StoreUnavailable, match="busy"):
        await pool.fetch("SELECT 2", within=0.05)
    assert pool.connections.used == 1
    may_go_on.set()
    assert await pool.read(lambda connection: connection.fetchval("SELECT 3")) == 3


@pytest.mark.parametrize("way", ["read", "write"])
async def test_a_connection_that_cannot_be_given_back_changes_no_answer(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Nor is anything done twice."""
    asked = []

    async def fail(_: asyncpg.Pool, connection: Any, *__: Any, **___: Any) -> None:
        connection.terminate()
        raise ConnectionResetError

    async def one(connection: Any) -> Any:
        asked.append(1)
        return await connection.fetchval("SELECT 1")

    monkeypatch.setattr(asyncpg.Pool, "release", fail)
    assert await getattr(pool, way)(one) == 1
    await pool.close()
    assert asked == [1]
