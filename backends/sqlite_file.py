"""A database file on the disk: created for its owner alone, told apart from another one that takes its place.

A write-ahead log belongs to exactly one database file. Where somebody moves another file into its place, the log and its
index that lie beside it are still those of the file before, and SQLite would mix the two; so they are removed first.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from backends.errors import StoreUnavailable, StoreUnfit
from backends.sqlite_errors import StoreBusy

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DatabaseFile", "Identity", "StoreGone"]

_BUSY: Final = 0.1
"""Seconds that SQLite itself waits for a lock; short, so that a caller who leaves or a store that closes is noticed."""

_TEXT: Final = partial(str, encoding="utf-8", errors="surrogateescape")
"""Text that is no UTF-8 must spoil its own row only; by itself ``sqlite3`` fails, with the value in the message."""

_READ_AND_WRITE_BY_OWNER: Final = 0o600  # SQLite gives the log and its index the same


class StoreGone(StoreUnavailable):
    """The file is not at its place now, or not whole. What is held open of it is not given up: it may come back."""


class Identity(NamedTuple):
    """What tells a file, its log and the log's index from others at the same place, while they are held open."""

    device: int
    inode: int
    log: int
    log_index: int

    def is_same_file(self, other: Identity) -> bool:
        """Whatever lies beside it."""
        return self[:2] == other[:2]

    def check_whole(self, held: Identity) -> None:
        """Raises ``StoreGone`` unless what is held open is still what lies at the place."""
        if self != held:
            raise StoreGone("the log beside the SQLite file was deleted or replaced: restart Gatekey")


class DatabaseFile:
    """One file of SQLite. It is made by ``create`` alone: a missing file is never taken for an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.held: dict[object, Identity] = {}
        """By its holder: what this process has open now."""
        self._real = ((0, 0), "")  # the file whose real path was asked for, which costs more than all the rest
        self.uri = f"file:{quote(os.fspath(path))}?mode=rw"

    def create(self) -> bool:
        """Make an empty file where there is none; ``True`` when this call did so. The folder must exist."""
        if self._path.exists():
            return False
        with self._folder_locked():
            if self._path.exists():
                return False
            self._remove_log()  # of a file that is no more
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _READ_AND_WRITE_BY_OWNER))
            return True

    def connect(self) -> sqlite3.Connection:
        """A connection without implicit transactions; every commit is on the disk when it returns. Changes nothing yet."""
        try:
            connection = sqlite3.connect(self.uri, timeout=_BUSY, isolation_level=None, uri=True)
        except sqlite3.OperationalError as error:
            if not self._path.exists():
                raise StoreGone("the SQLite file is gone") from error
            raise
        try:
            connection.text_factory = _TEXT
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def keep_log(connection: sqlite3.Connection) -> None:
        """WAL mode, in which nobody who reads waits for the writer. Only for a file that is known to be ours."""
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnfit("the SQLite file cannot keep a write-ahead log: it must lie on a local disk")

    def identity(self) -> Identity:
        """Of the file that is at this place now; raises ``StoreGone`` where there is none."""
        try:
            main = os.stat(self._path)  # noqa: PTH116 - asked at every call, and faster
        except FileNotFoundError:
            raise StoreGone("the SQLite file is gone") from None
        file = (main.st_dev, main.st_ino)
        known, place = self._real
        if known != file:
            place = os.path.realpath(self._path)
            self._real = (file, place)
        return Identity(*file, _inode(f"{place}-wal"), _inode(f"{place}-shm"))

    def enter(self) -> Identity:
        """Call before a connection is made: what lies beside the file then must be its own.

        What is left of another file is removed. Raises ``StoreGone`` where this process holds another log of this file:
        SQLite shares logs within a process, so a new connection would use the one that nobody else sees.
        """
        with self._folder_locked():
            now = self.identity()
            for other in list(self.held.values()):
                if now.is_same_file(other):
                    now.check_whole(other)
                elif other.log_index and now.log_index == other.log_index:
                    self._remove_log()
            return now

    def _remove_log(self) -> None:
        place = os.path.realpath(self._path)  # SQLite follows links before it names the files beside it
        for ending in ("-wal", "-shm"):
            Path(place + ending).unlink(missing_ok=True)

    @contextmanager
    def _folder_locked(self) -> Iterator[None]:
        """One process, and one thread, at a time; a lock on the database file itself would undo SQLite's."""
        try:
            folder = os.open(self._path.parent, os.O_RDONLY)
        except FileNotFoundError:
            raise StoreUnavailable("the folder of the SQLite file does not exist") from None
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreBusy("another process is about to open the SQLite file") from None
            yield
        finally:
            os.close(folder)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - likewise
    except FileNotFoundError:
        return 0
