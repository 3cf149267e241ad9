"""What asyncpg raises, as what a store raises: the one place where the two meet.

The driver's messages hold values (``DETAIL: Key (api_key)=(…)``), addresses and users, so nothing of them is repeated:
the cause that is chained is a ``DriverError`` with the name, the SQLSTATE and the traceback of the original.
"""

from __future__ import annotations

import ssl
from typing import Final

import asyncpg  # type: ignore[import-untyped]  # the driver comes without types
from asyncpg import exceptions as pg

from backends.errors import Conflict, NotFound, StoreCorrupt, StoreError, StoreNotReady, StoreUnavailable, StoreUnfit

__all__ = ["DRIVER_ERRORS", "DriverError", "is_lost", "is_pooler", "is_undone", "translate"]

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # TimeoutError, ConnectionError and ssl.SSLError among them
    EOFError,
    OverflowError,
    UnicodeError,
)
"""Everything by which the driver may tell of a failure."""

_NOT_MIGRATED: Final = "the database holds no Gatekey store in this schema: run gatekey migrate"

_TABLE: Final[tuple[tuple[tuple[type[BaseException], ...], type[StoreError], str], ...]] = (
    ((pg.UndefinedTableError, pg.InvalidSchemaNameError), StoreNotReady, _NOT_MIGRATED),
    ((pg.UndefinedColumnError, pg.UndefinedFunctionError), StoreUnfit,
     "the database's schema is not the one of this version: run gatekey migrate, or update Gatekey"),
    ((pg.DuplicateTableError, pg.DuplicateFunctionError), StoreUnfit,
     "a table or function of somebody else has a name that Gatekey needs: give it a schema of its own (?schema=gatekey)"),
    ((pg.UniqueViolationError,), Conflict, "an identifier is taken"),
    ((pg.ForeignKeyViolationError,), NotFound, "there is no such organization"),
    ((pg.ReadOnlySQLTransactionError,), StoreUnavailable, "the database is read-only"),
    ((pg.DiskFullError,), StoreUnavailable, "the database's disk is full"),
    ((pg.TooManyConnectionsError,), StoreUnavailable, "the database takes no more connections"),
    ((pg.InsufficientResourcesError,), StoreUnavailable, "the database is out of resources"),
    ((pg.InsufficientPrivilegeError,), StoreUnavailable, "the database role lacks a right (see docs/stores-postgres.md)"),
    ((pg.InvalidAuthorizationSpecificationError,), StoreUnavailable, "the database refused the role or its password"),
    ((pg.InvalidCatalogNameError,), StoreUnavailable, "the server has no such database"),
    ((pg.QueryCanceledError, pg.LockNotAvailableError), StoreUnavailable, "the database took too long"),
    ((pg.DeadlockDetectedError, pg.SerializationError), StoreUnavailable, "other writes were in the way"),
    ((pg.TargetServerAttributeNotMatched,), StoreUnavailable, "no server of the URL can be written to"),
    ((pg.CannotConnectNowError,), StoreUnavailable, "the database is starting or stopping"),
    ((pg.PostgresConnectionError, pg.OperatorInterventionError), StoreUnavailable, "the connection was lost"),
    ((pg.ClientConfigurationError,), StoreUnavailable, "the connection settings cannot be used (a certificate file?)"),
    ((asyncpg.DataError, UnicodeError, OverflowError), StoreCorrupt, "the database sent what is no value of a key"),
    ((asyncpg.PostgresError,), StoreUnavailable, "the database refused the operation"),
    ((asyncpg.InterfaceError, asyncpg.InternalClientError, EOFError), StoreUnavailable, "the connection was lost"),
    ((ssl.SSLCertVerificationError,), StoreUnavailable, "the database's certificate is not accepted"),
    ((ssl.SSLError,), StoreUnavailable, "no TLS connection to the database"),
    ((TimeoutError,), StoreUnavailable, "the database did not answer in time"),
    ((FileNotFoundError, PermissionError), StoreUnavailable, "a file or socket of the connection settings cannot be opened"),
    ((OSError,), StoreUnavailable, "the database cannot be reached"),
)  # fmt: skip
"""The first line that fits counts."""


class DriverError(Exception):
    """Stands for an exception of the driver, without its message."""


def translate(error: BaseException) -> StoreError:
    """The store's error for the driver's, with a cause that tells no values; raise it outside of the ``except``."""
    state = getattr(error, "sqlstate", None)
    name = f"{type(error).__name__}[{state}]" if state else type(error).__name__
    kind, message = next(
        ((kind, message) for types, kind, message in _TABLE if isinstance(error, types)),
        (StoreUnavailable, "the database driver failed"),
    )
    translated = kind(f"postgres: {message} ({name})")
    translated.__cause__ = DriverError(name).with_traceback(error.__traceback__)
    return translated


def is_lost(error: BaseException) -> bool:
    """The connection ended under the statement: a read may be asked again on another one."""
    return isinstance(
        error,
        (
            pg.PostgresConnectionError,
            pg.OperatorInterventionError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,  # "not connected", when the end came between two messages
            ConnectionError,
        ),
    ) and not isinstance(error, (pg.QueryCanceledError, asyncpg.DataError))


def is_undone(error: BaseException) -> bool:
    """The server has rolled the transaction back for a reason that is gone when it is tried again."""
    return isinstance(
        error,
        (
            pg.DeadlockDetectedError,
            pg.SerializationError,
            pg.UniqueViolationError,  # only an import can meet it: somebody was faster since it looked
            pg.InvalidCachedStatementError,
            pg.OutdatedSchemaCacheError,
        ),
    )


def is_pooler(error: BaseException) -> bool:
    """Only a pooler in transaction mode does so: it loses prepared statements, and takes no settings at the start."""
    return isinstance(error, (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError)) or (
        isinstance(error, pg.ProtocolViolationError) and "startup parameter" in str(error)
    )
