"""One thread's connection: made at its first use, and made anew when another file has taken the place of the one it reads.

Every use looks at the place first (three system calls), so a file that is gone is never read on, and one that was restored is
read at once.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from backends.errors import StoreError, StoreUnavailable
from backends.sqlite_file import StoreGone
from backends.sqlite_schema import check_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backends.sqlite_file import DatabaseFile
    from backends.sqlite_schema import Schema

__all__ = ["Link"]


_STEPS_BETWEEN_QUESTIONS: Final = 50_000  # of SQLite's virtual machine: some milliseconds, never reached by a look-up
_READER: Final = ("query_only = ON",)
_WRITER: Final = (
    "cache_size = -32768",  # KiB; with the usual 2 MiB an import of many keys writes its pages twice
    "journal_size_limit = 16777216",  # bytes of the log that stay on the disk after such an import
)


class Link:
    """For the thread that uses it; ``interrupt`` alone may be called from another one."""

    def __init__(self, file: DatabaseFile, schema: Schema, *, read_only: bool = False) -> None:
        self._file = file
        self._schema = schema
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._given_up = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._connection is not None

    def ready(self) -> sqlite3.Connection:
        """The connection to the file that is there now; raises ``StoreUnavailable`` and its kinds."""
        if self._connection is not None:
            now, held = self._file.identity(), self._file.held[self]
            if now.is_same_file(held):
                now.check_whole(held)
                return self._connection
        return self._connect()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write that happens whole or not at all. It did not happen, too, where the file was replaced meanwhile."""
        connection = self.ready()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            self.check_wanted()
            if connection.in_transaction:  # the call may have found that there is nothing to write
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # some errors of SQLite have rolled back already
                connection.execute("ROLLBACK")
            raise
        if self._file.identity() != self._file.held[self]:
            raise StoreGone("the SQLite file was replaced during the write")

    def check_wanted(self) -> None:
        """Raises ``StoreUnavailable`` when the call was interrupted; long calls ask between their steps."""
        if self._given_up:
            raise StoreUnavailable("the call was given up")

    def begin(self) -> None:
        """What comes now was not interrupted."""
        self._given_up = False

    def interrupt(self) -> None:
        """End what is running: a statement fails, a transaction is rolled back. Too late for a commit under way."""
        self._given_up = True

    def close(self) -> None:
        """Idempotent; the next use connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # the folding of the log into the file is tried again by whoever opens it
                connection.close()
        self._file.held.pop(self, None)

    def _connect(self) -> sqlite3.Connection:
        before = self._file.enter()
        self.close()  # not earlier: what it held tells what is left of another file
        connection = self._file.connect()
        try:
            check_schema(connection, self._schema)
            self._file.keep_log(connection)
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # the log and its index are there from now on
            for pragma in _READER if self._read_only else _WRITER:
                connection.execute(f"PRAGMA {pragma}")
            # asked now and then, it cannot come too early as SQLite's own interruption can
            connection.set_progress_handler(lambda: self._given_up, _STEPS_BETWEEN_QUESTIONS)
            now = self._file.identity()
            if not now.is_same_file(before):
                raise StoreUnavailable("the SQLite file was replaced while it was opened")
        except (sqlite3.Error, StoreError):
            connection.close()
            raise
        self._connection, self._file.held[self] = connection, now
        return connection
