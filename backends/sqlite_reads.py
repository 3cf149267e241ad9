"""Reads of keys and organizations: each is one statement, so it sees one moment."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from backends.codec import text_of_time
from backends.errors import NotFound, StoreCorrupt, StoreNotReady
from backends.paging import readable_page
from backends.records import FoundKey, KeyState
from backends.sqlite_rows import (
    KEY_COLUMNS,
    ORGANIZATION_COLUMNS,
    comparable,
    key_of_row,
    organization_of_row,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backends.records import KeyFilter, KeyRecord, Organization, Page

__all__ = [
    "check_marker",
    "count_expiring",
    "count_keys",
    "find",
    "get",
    "get_organization",
    "list_keys",
    "list_organizations",
]

_KEY: Final = ", ".join(f"k.{name}" for name in KEY_COLUMNS)
_ORGANIZATION: Final = ", ".join(ORGANIZATION_COLUMNS)
_MARKER: Final = "(SELECT value FROM meta WHERE name = 'epoch')"

# One row always, so that the marker is seen in the same read that finds no key.
_FIND: Final = f"""
    SELECT {_MARKER}, o.is_active, {_KEY} FROM (SELECT 1)
    LEFT JOIN api_keys k ON k.api_key = ? LEFT JOIN organizations o ON o.organization_id = k.organization_id
"""  # noqa: S608 - our own names
_GET: Final = f"SELECT {_KEY} FROM api_keys k WHERE k.key_id = ?"  # noqa: S608 - our own names
_COUNT_KEYS: Final = """
    SELECT CASE WHEN state = 'active' AND expires_at <= ? THEN 'expired' ELSE state END AS counted, count(*)
    FROM api_keys GROUP BY counted
"""


def check_marker(connection: sqlite3.Connection) -> None:
    """Raises ``StoreNotReady`` where the epoch marker is missing."""
    _check_marker(connection.execute(f"SELECT {_MARKER}").fetchone()[0])


def find(connection: sqlite3.Connection, api_key: str) -> FoundKey | None:
    """See ``KeyStore.find``."""
    marker, is_active, *row = _read_quickly(connection, _FIND, comparable(api_key))
    _check_marker(marker)
    if row[0] is None:
        return None
    record = key_of_row(row)
    if is_active not in (0, 1):
        raise StoreCorrupt("the key's organization is missing or wrong")
    return FoundKey(record, is_active == 1)


def _read_quickly(connection: sqlite3.Connection, query: str, value: str | None) -> Sequence[Any]:
    """The one row of a look-up. Reading text that may be anything costs more than all the rest of it, and few is."""
    tolerant, connection.text_factory = connection.text_factory, str
    try:
        return connection.execute(query, (value,)).fetchone()  # type: ignore[no-any-return]  # rows come without types
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) is not None:
            raise  # SQLite's own: the module's, whose message may hold the text, has none
    finally:
        connection.text_factory = tolerant
    return connection.execute(query, (value,)).fetchone()  # type: ignore[no-any-return]  # likewise


def get(connection: sqlite3.Connection, key_id: str) -> KeyRecord:
    """See ``KeyStore.get``."""
    row = connection.execute(_GET, (comparable(key_id),)).fetchone()
    if row is None:
        raise NotFound("there is no such key")
    return key_of_row(row)


def list_keys(connection: sqlite3.Connection, where: KeyFilter, *, after: str, limit: int) -> Page[KeyRecord]:
    """See ``KeyStore.list_keys``; for ``last_used_before`` the history must be attached under that name."""
    conditions, values = ["k.key_id > ?"], [comparable(after)]
    if where.organization_id is not None:
        conditions.append("k.organization_id = ?")
        values.append(comparable(where.organization_id))
    if where.name is not None:
        conditions.append("instr(lower(k.name), lower(?)) > 0")
        values.append(comparable(where.name))
    if where.states != frozenset(KeyState):
        conditions.append(f"k.state IN ({', '.join('?' * len(where.states))})")
        values.extend(state.value for state in where.states)
    if where.expires_before is not None:
        conditions.append("k.expires_at < ?")
        values.append(text_of_time(where.expires_before))
    if where.last_used_before is not None:
        uses = "SELECT 1 FROM history.last_uses u WHERE u.key_id = k.key_id AND u.last_used_at >= ?"
        conditions.append(f"NOT EXISTS ({uses})")
        values.append(text_of_time(where.last_used_before))
    query = f"SELECT {_KEY} FROM api_keys k WHERE {' AND '.join(conditions)} ORDER BY k.key_id LIMIT ?"  # noqa: S608 - likewise
    rows = connection.execute(query, (*values, limit + 1)).fetchall()
    return readable_page(rows, limit, key_of_row, cursor=lambda row: comparable(row[0]))


def count_keys(connection: sqlite3.Connection, now: datetime) -> Mapping[str, int]:
    """See ``KeyStore.count_keys``."""
    counts = {"active": 0, "disabled": 0, "revoked": 0, "expired": 0}
    counts.update(
        (state, count) for state, count in connection.execute(_COUNT_KEYS, (text_of_time(now),)) if state in counts
    )
    return counts


def count_expiring(connection: sqlite3.Connection, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
    """See ``KeyStore.count_expiring``; the index by state and end makes each count a short one."""
    query = "SELECT count(*) FROM api_keys WHERE state = 'active' AND expires_at > ? AND expires_at <= ?"
    ranges = ((text_of_time(now), text_of_time(moment)) for moment in until)
    return tuple(int(connection.execute(query, each).fetchone()[0]) for each in ranges)


def get_organization(connection: sqlite3.Connection, organization_id: str) -> Organization:
    """See ``KeyStore.get_organization``."""
    query = f"SELECT {_ORGANIZATION} FROM organizations WHERE organization_id = ?"  # noqa: S608 - our own names
    row = connection.execute(query, (comparable(organization_id),)).fetchone()
    if row is None:
        raise NotFound("there is no such organization")
    return organization_of_row(row)


def list_organizations(connection: sqlite3.Connection, *, after: str, limit: int) -> Page[Organization]:
    """See ``KeyStore.list_organizations``."""
    query = f"SELECT {_ORGANIZATION} FROM organizations WHERE organization_id > ? ORDER BY organization_id LIMIT ?"  # noqa: S608 - our own names
    rows = connection.execute(query, (comparable(after), limit + 1)).fetchall()
    return readable_page(rows, limit, organization_of_row, cursor=lambda row: comparable(row[0]))


def _check_marker(marker: object) -> None:
    if not marker:
        raise StoreNotReady("the SQLite file has no epoch marker: run gatekey migrate")
