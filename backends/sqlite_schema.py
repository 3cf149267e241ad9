"""The tables of both files, by numbered migrations that only go forward, and the check that a file is one of ours.

Triggers write every change of a key into ``changes``, so that one made by hand in the ``sqlite3`` shell counts like any
other. Each migration must be safe while processes of the version before still work on the file.
"""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backends.errors import StoreNotReady, StoreUnfit

if TYPE_CHECKING:
    from backends.sqlite_file import DatabaseFile

__all__ = ["HISTORY", "KEYS", "Schema", "check_schema", "prepare"]

_NOW: Final = "(julianday('now') - 2440587.5) * 86400.0"
"""SQL for seconds since the Unix epoch, with milliseconds; ``unixepoch('subsec')`` is younger than Debian 12."""

_KEPT_CHANGES: Final = 10_000
"""Rows of ``changes``. A process that was away for longer finds the gap, and takes everything for changed."""

_STRICT: Final = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_STRICT_WITHOUT_ROWID: Final = f"{_STRICT}, WITHOUT ROWID".removeprefix(", ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a file holds. Migration n leads to ``user_version`` n."""

    what: str
    application_id: int
    migrations: tuple[tuple[str, ...], ...]
    has_marker: bool

    @property
    def version(self) -> int:
        """The version that this code works with."""
        return len(self.migrations)


def _trigger(name: str, event: str, api_key: str) -> str:
    """Writes one row of ``changes``; without an ``api_key`` it says that everything may have changed."""
    row = f"INSERT INTO changes (at, api_key) VALUES ({_NOW}, {api_key})"  # noqa: S608 - our own expressions
    return f"CREATE TRIGGER {name} AFTER {event} BEGIN {row}; END"


# Constraints refuse a mistake made by hand where SQLite can tell; what gets in nevertheless is ``StoreCorrupt`` when read.
_KEYS_1: Final = (
    f"CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value TEXT) {_STRICT_WITHOUT_ROWID}",
    f"""CREATE TABLE organizations (
        organization_id TEXT PRIMARY KEY NOT NULL,
        is_active INTEGER CHECK (is_active IS NOT NULL AND is_active IN (0, 1)),
        name TEXT CHECK (name IS NOT NULL),
        created_at TEXT CHECK (created_at IS NOT NULL)
    ) {_STRICT}""",
    f"""CREATE TABLE api_keys (
        key_id TEXT PRIMARY KEY NOT NULL,
        organization_id TEXT NOT NULL REFERENCES organizations,
        api_key TEXT UNIQUE NOT NULL,
        secret TEXT CHECK (secret IS NOT NULL),
        previous_secret TEXT,
        previous_expires_at TEXT,
        previous_grace INTEGER,
        rotated_at TEXT,
        domains TEXT CHECK (domains IS NOT NULL),
        scopes TEXT CHECK (scopes IS NOT NULL),
        origins TEXT CHECK (origins IS NOT NULL),
        networks TEXT CHECK (networks IS NOT NULL),
        state TEXT CHECK (state IS NOT NULL AND state IN ('active', 'disabled', 'revoked')),
        expires_at TEXT,
        critical INTEGER CHECK (critical IS NOT NULL AND critical IN (0, 1)),
        name TEXT CHECK (name IS NOT NULL),
        metadata TEXT CHECK (metadata IS NOT NULL),
        created_at TEXT CHECK (created_at IS NOT NULL),
        updated_at TEXT CHECK (updated_at IS NOT NULL),
        version INTEGER CHECK (version IS NOT NULL AND version >= 1)
    ) {_STRICT}""",
    "CREATE INDEX api_keys_of_organization ON api_keys (organization_id, key_id)",
    "CREATE INDEX api_keys_by_state ON api_keys (state, expires_at)",
    f"CREATE TABLE changes (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, api_key TEXT) {_STRICT}",
    _trigger("key_added", "INSERT ON api_keys WHEN NOT EXISTS (SELECT 1 FROM meta WHERE name = 'bulk')", "NEW.api_key"),
    _trigger("key_changed", "UPDATE ON api_keys", "NEW.api_key"),
    _trigger("key_renamed", "UPDATE OF api_key ON api_keys WHEN OLD.api_key <> NEW.api_key", "OLD.api_key"),
    _trigger("key_moved", "UPDATE OF key_id ON api_keys WHEN OLD.key_id <> NEW.key_id", "NULL"),
    # REPLACE takes a row away without its DELETE trigger, so whoever is about to be overwritten is told of before
    f"""CREATE TRIGGER key_overwritten BEFORE INSERT ON api_keys
    WHEN EXISTS (SELECT 1 FROM api_keys WHERE key_id = NEW.key_id AND api_key <> NEW.api_key) BEGIN
        INSERT INTO changes (at, api_key) SELECT {_NOW}, api_key FROM api_keys WHERE key_id = NEW.key_id;
    END""",  # noqa: S608 - our own expression
    f"""CREATE TRIGGER organization_overwritten BEFORE INSERT ON organizations
    WHEN NOT EXISTS (SELECT 1 FROM meta WHERE name = 'bulk')
        AND EXISTS (SELECT 1 FROM organizations WHERE organization_id = NEW.organization_id) BEGIN
        INSERT INTO changes (at, api_key) VALUES ({_NOW}, NULL);
    END""",  # noqa: S608 - as above
    _trigger("key_deleted", "DELETE ON api_keys", "OLD.api_key"),
    _trigger("organization_changed", "UPDATE ON organizations", "NULL"),
    _trigger("organization_deleted", "DELETE ON organizations", "NULL"),
    _trigger("meta_changed", "UPDATE ON meta", "NULL"),
    # ends a bulk change too: the mark stands in ``meta`` during its transaction, and no other one ever sees it
    _trigger("meta_deleted", "DELETE ON meta", "NULL"),
    f"""CREATE TRIGGER changes_pruned AFTER INSERT ON changes WHEN NEW.id % 1000 = 0 BEGIN
        DELETE FROM changes WHERE id <= NEW.id - {_KEPT_CHANGES};
    END""",  # noqa: S608 - a number of our own
)
_HISTORY_1: Final = (
    f"""CREATE TABLE usage_hours (
        key_id TEXT NOT NULL, hour TEXT NOT NULL, uses INTEGER NOT NULL, PRIMARY KEY (key_id, hour)
    ) {_STRICT_WITHOUT_ROWID}""",
    "CREATE INDEX usage_hours_by_hour ON usage_hours (hour)",  # or clearing away would read all of them
    f"""CREATE TABLE last_uses (
        key_id TEXT PRIMARY KEY NOT NULL, last_used_at TEXT NOT NULL, previous_secret_used_at TEXT
    ) {_STRICT_WITHOUT_ROWID}""",
    f"""CREATE TABLE audit (
        organization_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        actor_organization_id TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        client_ip TEXT NOT NULL,
        request_id TEXT NOT NULL,
        before TEXT NOT NULL,
        after TEXT NOT NULL,
        previous_hash TEXT NOT NULL,
        hash TEXT NOT NULL,
        PRIMARY KEY (organization_id, seq)
    ) {_STRICT}""",
    f"""CREATE TABLE audit_heads (
        organization_id TEXT PRIMARY KEY NOT NULL,
        seq INTEGER NOT NULL, hash TEXT NOT NULL,
        pruned_seq INTEGER NOT NULL, pruned_hash TEXT NOT NULL
    ) {_STRICT}""",
    f"""CREATE TABLE claims (
        name TEXT PRIMARY KEY NOT NULL, fingerprint TEXT NOT NULL, answer TEXT, until TEXT NOT NULL
    ) {_STRICT}""",
)

KEYS: Final = Schema(what="keys", application_id=0x474B4B59, migrations=(_KEYS_1,), has_marker=True)  # "GKKY"
HISTORY: Final = Schema(what="history", application_id=0x474B4849, migrations=(_HISTORY_1,), has_marker=False)  # "GKHI"


def check_schema(connection: sqlite3.Connection, schema: Schema) -> None:
    """Raises ``StoreUnfit`` or ``StoreNotReady``, with what to do, unless the file is what this code works with."""
    version = _version(connection, schema)
    if version is None:
        raise StoreNotReady(f"the SQLite file of the {schema.what} is empty: run gatekey migrate")
    if version < schema.version:
        raise StoreUnfit(
            f"the SQLite file of the {schema.what} has schema {version}, this Gatekey needs {schema.version}:"
            " run gatekey migrate"
        )


def prepare(file: DatabaseFile, schema: Schema, *, marker: bool) -> tuple[str, ...]:
    """Create or migrate the file; returns what was done. ``marker``: also write a marker that is missing."""
    done = [f"created the SQLite file of the {schema.what}"] if file.create() else []
    file.enter()
    connection = file.connect()
    try:
        version = _version(connection, schema)
        if version == schema.version and not (marker and _lacks_marker(connection, schema)):
            return tuple(done)
        file.keep_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection, schema)  # another process may have been first
        for number in range((version or 0) + 1, schema.version + 1):
            for statement in schema.migrations[number - 1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            done.append(f"brought the SQLite file of the {schema.what} to schema {number}")
        if version is None:
            connection.execute(f"PRAGMA application_id = {schema.application_id}")
        if (marker or version is None) and _lacks_marker(connection, schema):
            connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('epoch', ?)", (uuid.uuid4().hex,))
            done.append("wrote the epoch marker")
        connection.execute("COMMIT")
    finally:
        connection.close()  # what was not committed is rolled back
    return tuple(done)


def _version(connection: sqlite3.Connection, schema: Schema) -> int | None:
    """The file's version, ``None`` for an empty file; raises ``StoreUnfit`` for a strange or too new one."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != schema.application_id:
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application_id or version or objects:
            raise StoreUnfit(f"the SQLite file of the {schema.what} is a database of something else: name another file")
        return None
    if version > schema.version:
        raise StoreUnfit(
            f"the SQLite file of the {schema.what} has schema {version}, this Gatekey knows {schema.version} at most:"
            " run the newer Gatekey"
        )
    return int(version)


def _lacks_marker(connection: sqlite3.Connection, schema: Schema) -> bool:
    if not schema.has_marker:
        return False
    return connection.execute("SELECT 1 FROM meta WHERE name = 'epoch' AND value <> ''").fetchone() is None
