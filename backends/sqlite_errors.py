"""What SQLite's own errors mean in terms of the contract: the one place where ``sqlite3`` exceptions are translated.

No message names the file or repeats a value. ``StoreBusy`` says that trying again may help; the threads do so until the
call's time is over.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from backends.errors import Conflict, NotFound, StoreError, StoreNotReady, StoreUnavailable, StoreUnfit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["StoreBusy", "translated"]

_PRIMARY: Final = 0xFF  # the low byte of an extended result code


class StoreBusy(StoreUnavailable):
    """Another process (or thread) holds the lock at the moment."""


@contextmanager
def translated() -> Iterator[None]:
    """Whatever ``sqlite3`` or the file system raises inside leaves as a ``StoreError``."""
    try:
        yield
    except sqlite3.Error as error:
        raise _store_error(error) from error
    except OSError as error:  # its text holds the path
        raise StoreUnavailable(f"the SQLite file cannot be used: {error.strerror or 'I/O error'}") from None
    except UnicodeEncodeError:  # its text holds the value
        raise ValueError("text with a lone surrogate cannot be stored") from None


def _store_error(error: sqlite3.Error) -> StoreError:
    """The contract's error for one of ``sqlite3``."""
    code = getattr(error, "sqlite_errorcode", None)  # absent where the module itself raised
    if code is None:
        return StoreUnavailable("SQLite refused the call")
    if code in _CONSTRAINTS:
        kind, message = _CONSTRAINTS[code]
        return kind(message)
    kind, message = _CODES.get(code & _PRIMARY, (StoreUnavailable, f"SQLite failed with {error.sqlite_errorname}"))
    return kind(message)


_CONSTRAINTS: Final[Mapping[int, tuple[type[StoreError], str]]] = {
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: (NotFound, "there is no such organization"),
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: (Conflict, "an identifier is taken"),
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: (Conflict, "an identifier is taken"),
}
_CODES: Final[Mapping[int, tuple[type[StoreError], str]]] = {
    # "no such table", "no such column": somebody removed what the version of the schema promises
    sqlite3.SQLITE_ERROR: (StoreNotReady, "the SQLite file lacks tables of Gatekey"),
    sqlite3.SQLITE_BUSY: (StoreBusy, "the SQLite file is locked by another process"),
    sqlite3.SQLITE_LOCKED: (StoreBusy, "the SQLite file is locked"),
    sqlite3.SQLITE_READONLY: (StoreUnavailable, "the SQLite file cannot be written (permissions, or a read-only disk)"),
    sqlite3.SQLITE_INTERRUPT: (StoreUnavailable, "the call was given up"),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "the disk of the SQLite file reported an I/O error"),
    sqlite3.SQLITE_CORRUPT: (StoreUnavailable, "the SQLite file is damaged: restore it from a backup"),
    sqlite3.SQLITE_FULL: (StoreUnavailable, "the disk of the SQLite file is full"),
    sqlite3.SQLITE_CANTOPEN: (StoreUnavailable, "the SQLite file cannot be opened (missing, or no permission)"),
    sqlite3.SQLITE_PERM: (StoreUnavailable, "the SQLite file cannot be opened (no permission)"),
    sqlite3.SQLITE_NOTADB: (
        StoreUnfit,
        "the SQLite file is no database: name another file, or restore it from a backup",
    ),
}
