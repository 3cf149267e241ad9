"""SQLite for the contract suite: a folder of each test's own."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.factory import create_store
from tests.support import leaks
from tests.support.stores import StoreUnderTest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


MEMORY_DISK = "/dev/shm"  # noqa: S108 - a folder of our own is made in it


@contextmanager
def folder(prefix: str) -> Iterator[str]:
    """For files of one test; in memory where the machine can, because hundreds of tests wait for the disk otherwise.

    No database in it may hold a secret at the end.
    """
    where = MEMORY_DISK if os.access(MEMORY_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=prefix, dir=where) as place:
        yield place
        leaks.search_databases(Path(place))


class SqliteKind:
    network = False

    def missing(self) -> str:
        return ""

    @asynccontextmanager
    async def make(self, name: str) -> AsyncIterator[StoreUnderTest]:
        with folder(name) as place:
            path = Path(place, "keys.db")
            url = f"sqlite:///{path}"
            store = create_store(url)

            async def stored() -> bytes:
                return dump(path)

            try:
                yield StoreUnderTest(store, stored, lambda: create_store(url))
            finally:
                await store.close()


def dump(path: Path) -> bytes:
    """Every byte of the files (deleted rows too, where SQLite left them), and every table as SQL, where no text is cut."""
    parts = [file.read_bytes() for file in sorted(path.parent.iterdir())]
    for name in (path, path.with_name(f"{path.name}.history")):
        with closing(sqlite3.connect(f"file:{name}?mode=ro", uri=True)) as connection:
            parts += [line.encode() for line in connection.iterdump()]
    return b"\n".join(parts)


def by_hand(path: Path, *statements: str) -> None:
    """What somebody types into the ``sqlite3`` shell, who has also switched the constraints off."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, past the store."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(query).fetchall()
