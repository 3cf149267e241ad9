from __future__ import annotations

import asyncio
import uuid
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import Commands
from tests.support.sqlite_kind import folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.stores import NetworkKind

SERVERS = {
    "postgresql": "tests.support.postgres_kind:PostgresKind",
    "redis": "tests.support.redis_kind:RedisKind",
}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Commands]:
    """``gatekey`` on an SQLite file that nobody has prepared."""
    with folder("gatekey-commands-") as place:
        yield Commands(f"sqlite:///{place}/keys.db", tmp_path)


@pytest.fixture
def gatekey(empty: Commands) -> Commands:
    """``gatekey`` on a prepared SQLite file with the organization ``acme``."""
    empty.ok("migrate")
    empty.ok("orgs", "create", "acme", "--name", "Acme Inc.")
    return empty


@pytest.fixture(params=sorted(SERVERS))
def remote(request: pytest.FixtureRequest, tmp_path: Path, require_all: bool) -> Iterator[Commands]:  # noqa: FBT001 - a fixture
    """``gatekey`` on a real server's store that nobody has prepared."""
    module, _, name = SERVERS[request.param].partition(":")
    kind: NetworkKind = getattr(import_module(module), name)()
    if missing := kind.missing():
        (pytest.fail if require_all else pytest.skip)(missing)
    place = f"commands_{uuid.uuid4().hex[:12]}"
    yield Commands(kind.url(place, *kind.address()), tmp_path)
    asyncio.run(_forget(kind, place))


async def _forget(kind: NetworkKind, place: str) -> None:
    async with kind.make(place):
        pass  # on the way out it takes away what is there
