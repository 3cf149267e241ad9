"""What SQLite's errors become, and that none of them repeats a value or a path."""

from __future__ import annotations

import sqlite3

import pytest

from backends.errors import Conflict, NotFound, StoreError, StoreNotReady, StoreUnavailable, StoreUnfit
from backends.sqlite_errors import StoreBusy, translated

CODES: dict[str, tuple[int, type[StoreError]]] = {
    "locked by another process": (sqlite3.SQLITE_BUSY, StoreBusy),
    "locked, with the log just restored": (sqlite3.SQLITE_BUSY_RECOVERY, StoreBusy),
    "locked by this process": (sqlite3.SQLITE_LOCKED, StoreBusy),
    "full disk": (sqlite3.SQLITE_FULL, StoreUnavailable),
    "read-only": (sqlite3.SQLITE_READONLY, StoreUnavailable),
    "read-only, moved": (sqlite3.SQLITE_READONLY_DBMOVED, StoreUnavailable),
    "I/O error": (sqlite3.SQLITE_IOERR, StoreUnavailable),
    "I/O error of fsync": (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
    "damaged": (sqlite3.SQLITE_CORRUPT, StoreUnavailable),
    "cannot open": (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
    "no permission": (sqlite3.SQLITE_PERM, StoreUnavailable),
    "interrupted": (sqlite3.SQLITE_INTERRUPT, StoreUnavailable),
    "anything else": (sqlite3.SQLITE_NOMEM, StoreUnavailable),
    "no such table": (sqlite3.SQLITE_ERROR, StoreNotReady),
    "no database": (sqlite3.SQLITE_NOTADB, StoreUnfit),
    "taken": (sqlite3.SQLITE_CONSTRAINT_UNIQUE, Conflict),
    "taken as primary key": (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, Conflict),
    "no organization": (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, NotFound),
    "another constraint": (sqlite3.SQLITE_CONSTRAINT_CHECK, StoreUnavailable),
}


@pytest.mark.parametrize(("code", "expected"), CODES.values(), ids=CODES)
def test_a_code_of_sqlite_becomes_an_error_of_the_contract(code: int, expected: type[StoreError]) -> None:
    """Extended codes as their primary one, unless they are told apart."""
    error = sqlite3.OperationalError("telltale")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_NAME"
    with pytest.raises(StoreError) as caught, translated():
        raise error
    assert type(caught.value) is expected
    assert "telltale" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_an_error_without_a_code_is_unavailability() -> None:
    """The module raises some itself."""
    with pytest.raises(StoreUnavailable) as caught, translated():
        sqlite3.connect(":memory:", isolation_level=None).execute("SELECT ?", ())
    assert "SQLite" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied", "/telltale"), StoreUnavailable),
        (OSError("telltale"), StoreUnavailable),
        (UnicodeEncodeError("utf-8", "telltale\ud800", 8, 9, "surrogates not allowed"), ValueError),
    ],
)
def test_what_names_a_path_or_a_value_is_not_repeated(error: Exception, expected: type[Exception]) -> None:
    """Not even by the error behind it."""
    with pytest.raises(expected) as caught, translated():
        raise error
    assert "telltale" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_what_is_not_of_sqlite_passes() -> None:
    """A defect stays a defect."""
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError
