"""Writes of keys and organizations, each to be run inside one transaction.

What is announced is written by the triggers of the schema in the same transaction.
"""

from __future__ import annotations

from dataclasses import replace as replaced
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from backends.codec import text_of_time
from backends.errors import Conflict, NotFound
from backends.rules import check_replacement, check_state
from backends.sqlite_rows import KEY_COLUMNS, comparable, row_of_key, row_of_organization

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from backends.records import KeyRecord, KeyState, Organization, SecretHash

__all__ = [
    "add",
    "add_many",
    "add_organization",
    "delete",
    "rehash",
    "replace",
    "set_organization_active",
    "set_state",
]

_INSERT_KEY: Final = f"INSERT INTO api_keys ({', '.join(KEY_COLUMNS)}) VALUES ({', '.join('?' * len(KEY_COLUMNS))})"  # noqa: S608 - our own names
_REPLACE_KEY: Final = f"UPDATE api_keys SET {', '.join(f'{name} = ?' for name in KEY_COLUMNS)} WHERE key_id = ?"  # noqa: S608 - likewise
_INSERT_ORGANIZATION: Final = (
    "INSERT INTO organizations (organization_id, is_active, name, created_at) VALUES (?, ?, ?, ?)"
)
_BATCH: Final = 500


def add(connection: sqlite3.Connection, record: KeyRecord) -> None:
    """See ``KeyStore.add``."""
    _check_organization(connection, record.organization_id)
    connection.execute(_INSERT_KEY, row_of_key(record))


def add_many(
    connection: sqlite3.Connection,
    organizations: Sequence[Organization],
    records: Sequence[KeyRecord],
    given_up: Callable[[], None],
) -> int:
    """See ``KeyStore.add_many``; ``given_up`` is called between batches and raises where nobody waits any more."""
    connection.execute("INSERT INTO meta (name) VALUES ('bulk')")
    before = connection.total_changes
    statement = _INSERT_ORGANIZATION + " ON CONFLICT (organization_id) DO NOTHING"
    connection.executemany(statement, map(row_of_organization, organizations))
    count = 0
    for batch in _batches(records):
        given_up()
        count += max(0, connection.executemany(_INSERT_KEY, _new_rows(connection, batch)).rowcount)
    if connection.total_changes == before:
        connection.execute("ROLLBACK")  # nothing is new, so nothing is announced
    else:
        connection.execute("DELETE FROM meta WHERE name = 'bulk'")
    return count


def replace(connection: sqlite3.Connection, record: KeyRecord, *, expected_version: int) -> KeyRecord:
    """See ``KeyStore.replace``."""
    query = "SELECT api_key, organization_id, state, version FROM api_keys WHERE key_id = ?"
    row = connection.execute(query, (comparable(record.key_id),)).fetchone()
    if row is None:
        raise NotFound("there is no such key")
    api_key, organization_id, state, version = row
    check_replacement(
        record,
        expected_version=expected_version,
        api_key=api_key,
        organization_id=organization_id,
        state=state,
        version=version,
    )
    stored = replaced(record, version=expected_version + 1)
    connection.execute(_REPLACE_KEY, (*row_of_key(stored), record.key_id))
    return stored


def set_state(connection: sqlite3.Connection, key_id: str, state: KeyState, *, now: datetime) -> bool:
    """See ``KeyStore.set_state``."""
    row = connection.execute("SELECT state FROM api_keys WHERE key_id = ?", (comparable(key_id),)).fetchone()
    if row is None:
        raise NotFound("there is no such key")
    if row[0] == state.value:
        return False
    check_state(row[0], state)
    statement = "UPDATE api_keys SET state = ?, updated_at = ?, version = version + 1 WHERE key_id = ?"
    connection.execute(statement, (state.value, text_of_time(now), key_id))
    return True


def rehash(connection: sqlite3.Connection, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
    """See ``KeyStore.rehash``."""
    statement = """
        UPDATE api_keys SET
            secret = CASE secret WHEN :old THEN :new ELSE secret END,
            previous_secret = CASE previous_secret WHEN :old THEN :new ELSE previous_secret END
        WHERE key_id = :key_id AND :old IN (secret, previous_secret)
    """
    values = {"key_id": comparable(key_id), "old": old.encode(), "new": new.encode()}
    return connection.execute(statement, values).rowcount == 1


def delete(connection: sqlite3.Connection, key_id: str) -> bool:
    """See ``KeyStore.delete``."""
    return connection.execute("DELETE FROM api_keys WHERE key_id = ?", (comparable(key_id),)).rowcount == 1


def add_organization(connection: sqlite3.Connection, organization: Organization) -> None:
    """See ``KeyStore.add_organization``."""
    connection.execute(_INSERT_ORGANIZATION, row_of_organization(organization))


def set_organization_active(connection: sqlite3.Connection, organization_id: str, *, is_active: bool) -> bool:
    """See ``KeyStore.set_organization_active``."""
    _check_organization(connection, organization_id)
    statement = "UPDATE organizations SET is_active = ? WHERE organization_id = ? AND is_active IS NOT ?"
    return connection.execute(statement, (int(is_active), organization_id, int(is_active))).rowcount == 1


def _check_organization(connection: sqlite3.Connection, organization_id: str) -> None:
    query = "SELECT 1 FROM organizations WHERE organization_id = ?"
    if connection.execute(query, (comparable(organization_id),)).fetchone() is None:
        raise NotFound("there is no such organization")


def _batches(records: Iterable[KeyRecord]) -> Iterable[list[KeyRecord]]:
    source = iter(records)
    while batch := list(islice(source, _BATCH)):
        yield batch


def _new_rows(connection: sqlite3.Connection, batch: list[KeyRecord]) -> Iterator[tuple[Any, ...]]:
    """Of those whose ``api_key`` is not known yet (of two with the same one the first); of all errors the first counts."""
    marks = ", ".join("?" * len(batch))
    query = f"SELECT api_key, organization_id FROM api_keys WHERE api_key IN ({marks})"  # noqa: S608 - question marks
    owners: dict[str, str] = dict(connection.execute(query, [record.api_key for record in batch]))
    organizations = set()
    for record in batch:
        if record.organization_id not in organizations:
            _check_organization(connection, record.organization_id)
            organizations.add(record.organization_id)
        if record.api_key not in owners:
            owners[record.api_key] = record.organization_id
            yield row_of_key(record)
        elif owners[record.api_key] != record.organization_id:
            raise Conflict("an api_key is taken by another organization")
