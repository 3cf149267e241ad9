"""Bringing a schema up to this version of the code, and telling whether a schema that was found can be used.

Only ``migrate`` writes the epoch marker. Several at once take turns, each step in a transaction of its own.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from backends.errors import StoreNotReady, StoreUnavailable, StoreUnfit
from backends.postgres_errors import DRIVER_ERRORS, translate
from backends.postgres_migrations import MIGRATIONS, OLDEST_USABLE, SCHEMA_VERSION
from backends.postgres_queries import STANDBY, quoted

if TYPE_CHECKING:
    from backends.postgres_connect import Connector
    from backends.postgres_migrations import Migration

__all__ = ["check_marker", "migrate"]

_OLDEST_SERVER: Final = 13  # the first one with xid8, by which the list of changes finds what committed late

_BEGIN: Final = """
    SET LOCAL statement_timeout = '120s';
    SET LOCAL lock_timeout = '120s';
    SELECT pg_advisory_xact_lock(hashtextextended('gatekey migrate {schema}', 0));
    SET LOCAL lock_timeout = '5s'"""
"""Waits for whoever migrates at the moment, but only briefly for whoever uses a table that a step changes: what waits
longer there holds up everybody behind it."""

_WHAT_IS_THERE: Final = """
    SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1::text),
      to_regclass(quote_ident($1::text) || '.migrations') IS NOT NULL"""
_APPLIED: Final = "SELECT version, compatible_from FROM {schema}.migrations ORDER BY version DESC LIMIT 1"
_RECORD: Final = """
    INSERT INTO {schema}.migrations (version, title, compatible_from) VALUES ({version}, '{title}', {compatible_from});
    UPDATE {schema}.meta SET schema_version = {version}, compatible_from = {compatible_from}"""
_MARK: Final = """
    INSERT INTO {schema}.meta (epoch, schema_version, compatible_from)
    SELECT $1::text, version, compatible_from FROM {schema}.migrations ORDER BY version DESC LIMIT 1
    ON CONFLICT DO NOTHING"""


def check_marker(epoch: str | None, schema_version: int | None, compatible_from: int | None) -> str:
    """The epoch, where the marker is there and the schema is one that this code works with."""
    if epoch is None or schema_version is None or compatible_from is None:
        raise StoreNotReady("postgres: the epoch marker is missing: run gatekey migrate")
    if epoch == STANDBY:
        raise StoreUnavailable("postgres: the server is a standby, which may lag: name the primary")
    if schema_version < OLDEST_USABLE:
        raise StoreUnfit(
            f"postgres: the schema is version {schema_version}, too old for this Gatekey, which needs {OLDEST_USABLE} "
            "or later: run gatekey migrate"
        )
    if compatible_from > SCHEMA_VERSION:
        raise StoreUnfit(
            f"postgres: the schema is version {schema_version}, too new for this Gatekey, which knows {SCHEMA_VERSION} "
            f"(it can be used from version {compatible_from} on): update Gatekey"
        )
    return epoch


async def migrate(connector: Connector, schema: str) -> tuple[str, ...]:
    """A line for each step that was done; raises ``StoreUnfit`` where the schema or the server cannot be used."""
    done: list[str] = []
    try:
        connection = await connector.connect()
    except DRIVER_ERRORS as error:
        failure: BaseException = error
    else:
        try:
            _check_server(connection)
            await _migrate(connection, schema, done)
        except DRIVER_ERRORS as error:
            failure = error
        else:
            return tuple(done)
        finally:
            connection.terminate()
    raise translate(failure)


def _check_server(connection: Any) -> None:
    version = connection.get_server_version()
    if version.major < _OLDEST_SERVER:
        raise StoreUnfit(f"postgres: the server is version {version.major}; Gatekey needs {_OLDEST_SERVER} or later")
    if getattr(connection.get_settings(), "server_encoding", "UTF8") != "UTF8":
        raise StoreUnfit(
            "postgres: the database's encoding is not UTF8: make one with ENCODING 'UTF8' TEMPLATE template0"
        )


async def _migrate(connection: Any, schema: str, done: list[str]) -> None:
    begin, mark = _BEGIN.replace("{schema}", schema), _MARK.replace("{schema}", quoted(schema))
    while True:
        async with connection.transaction():
            await connection.execute(begin)
            version = await _version(connection, schema)
            step = next((step for step in MIGRATIONS if step.version > version), None)
            if step is None:
                if await connection.execute(mark, uuid.uuid4().hex) == "INSERT 0 1":
                    done.append("wrote the epoch marker")
                return
            await connection.execute(_step_sql(step, schema))
        done.append(f"brought the schema to version {step.version}: {step.title}")


async def _version(connection: Any, schema: str) -> int:
    """The version of the schema, 0 when nothing is there; the schema itself is made where it is missing."""
    has_schema, has_tables = await connection.fetchrow(_WHAT_IS_THERE, schema)
    if not has_schema:
        await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
    if not has_tables:
        return 0
    row = await connection.fetchrow(_APPLIED.replace("{schema}", quoted(schema)))
    if row is None:
        raise StoreUnfit("postgres: the table migrations of the schema is empty; restore the schema from a backup")
    check_marker("", max(row["version"], OLDEST_USABLE), row["compatible_from"])
    return int(row["version"])


def _step_sql(step: Migration, schema: str) -> str:
    sql = step.sql + _RECORD.replace("{schema}", quoted("{schema}"))
    values = {"schema": schema, "version": step.version, "compatible_from": step.compatible_from, "title": step.title}
    for name, value in values.items():
        sql = sql.replace(f"{{{name}}}", str(value))
    return sql
