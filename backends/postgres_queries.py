"""The statements on keys and organizations, and how records become their arguments and rows become records.

Every name is qualified by the schema: PgBouncer takes no ``search_path``. Times travel to the server as text, because
the driver would send the first and the last moment of the calendar as infinity; what comes back outside of the calendar
(infinity, written by hand) is told by ``is_strange``, because the driver cannot tell it apart either.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from backends.codec import record_from_values, record_to_values, text_of_time
from backends.errors import StoreCorrupt
from backends.records import KeyRecord, Organization

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "COLUMNS",
    "EPOCH",
    "STANDBY",
    "Queries",
    "arguments",
    "check_storable",
    "copy_row",
    "organization_of",
    "quoted",
    "record_of",
    "rows_of",
    "storable",
]

_TYPES: Final = {
    "key_id": "text", "organization_id": "text", "api_key": "text", "secret": "text", "previous_secret": "text",
    "previous_expires_at": "timestamptz", "previous_grace": "bigint", "rotated_at": "timestamptz",
    "domains": "text[]", "scopes": "text[]", "origins": "text[]", "networks": "text[]",
    "state": "text", "expires_at": "timestamptz", "critical": "boolean", "name": "text", "metadata": "text",
    "created_at": "timestamptz", "updated_at": "timestamptz", "version": "bigint",
}  # fmt: skip
COLUMNS: Final = tuple(_TYPES)
_TIMES: Final = tuple(name for name, kind in _TYPES.items() if kind == "timestamptz")
_FIXED: Final = ("key_id", "organization_id", "api_key")  # for a key's life

_CALENDAR: Final = "BETWEEN '0001-01-01 00:00:00+00'::timestamptz AND '9999-12-31 23:59:59.999999+00'::timestamptz"


def _argument(number: int, kind: str) -> str:
    return f"${number}::text::timestamptz" if kind == "timestamptz" else f"${number}::{kind}"


STANDBY: Final = "standby"
"""What ``EPOCH`` says of a server that is no primary: what it holds may be long out of date."""
EPOCH: Final = f"CASE WHEN pg_is_in_recovery() THEN '{STANDBY}' ELSE m.epoch || '/' || m.tableoid END"
"""The epoch in force of the marker ``m``. The table's number is in it because a restored marker is the old one again."""
_PLACE: Final = re.compile(r"\{([a-z]+)\}")
_PARTS: Final = {
    "epoch": EPOCH,
    "columns": ", ".join(COLUMNS),
    "arguments": ", ".join(_argument(number, kind) for number, kind in enumerate(_TYPES.values(), 1)),
    "settings": ", ".join(
        f"{name} = {_argument(number, kind)}"
        for number, (name, kind) in enumerate(_TYPES.items(), 1)
        if name not in _FIXED
    ),
    "record": ", ".join(
        [
            *(
                f"CASE WHEN k.{name} {_CALENDAR} THEN k.{name} END AS {name}" if name in _TIMES else f"k.{name}"
                for name in COLUMNS
            ),
            "(" + " OR ".join(f"(k.{name} NOT {_CALENDAR}) IS TRUE" for name in _TIMES) + ") AS is_strange",
        ]
    ),
    "organization": f"o.organization_id, o.is_active, o.name, CASE WHEN o.created_at {_CALENDAR} THEN o.created_at END"
    " AS created_at",
}
"""What stands in braces in the statements, beside the schema."""

_SQL: Final = {
    # One statement, so one snapshot: the marker is in the row whether there is such a key or not. Three look-ups in
    # unique indexes; the organization's state is read from the index alone. The key itself cannot be: an entry of a
    # B-tree holds at most 2,704 bytes, and a record's metadata alone may be longer.
    "find": """
        SELECT {epoch} AS epoch, m.schema_version, m.compatible_from, o.is_active AS organization_is_active, {record}
        FROM {schema}.meta m
        LEFT JOIN {schema}.keys k ON k.api_key = $1::text
        LEFT JOIN {schema}.organizations o ON o.organization_id = k.organization_id
        WHERE m.singleton""",
    "ping": "SELECT {epoch} AS epoch, m.schema_version, m.compatible_from FROM {schema}.meta m WHERE m.singleton",
    "get": "SELECT {record} FROM {schema}.keys k WHERE k.key_id = $1::text",
    "list": """
        SELECT {record} FROM {schema}.keys k
        WHERE k.key_id > $1::text AND k.state = ANY($2::text[])
          AND ($3::text IS NULL OR k.organization_id = $3)
          AND ($4::text IS NULL OR position(lower($4 COLLATE "C") IN lower(k.name COLLATE "C")) > 0)
          AND ($5::text IS NULL OR k.expires_at < $5::timestamptz)
          AND ($6::text IS NULL OR NOT EXISTS (
            SELECT FROM {schema}.last_uses u WHERE u.key_id = k.key_id AND u.last_used_at >= $6::timestamptz))
        ORDER BY k.key_id LIMIT $7::bigint""",
    "count": """
        SELECT CASE WHEN state = 'active' AND expires_at <= $1::text::timestamptz THEN 'expired' ELSE state END AS state,
          count(*) AS number
        FROM {schema}.keys GROUP BY 1""",
    "count_expiring": """
        WITH ends AS MATERIALIZED (SELECT expires_at FROM {schema}.keys
          WHERE state = 'active' AND expires_at > $1::text::timestamptz AND expires_at <= (
            SELECT max(moment::timestamptz) FROM unnest($2::text[]) AS moment))
        SELECT (SELECT count(*) FROM ends WHERE expires_at <= moment::timestamptz) AS number
        FROM unnest($2::text[]) WITH ORDINALITY AS each(moment, place) ORDER BY place""",
    "add": """
        INSERT INTO {schema}.keys ({columns}) SELECT {arguments}
        WHERE EXISTS (SELECT FROM {schema}.organizations WHERE organization_id = $2::text) ON CONFLICT DO NOTHING""",
    "lock": "SELECT organization_id, api_key, state, version FROM {schema}.keys WHERE key_id = $1::text FOR UPDATE",
    "replace": """
        UPDATE {schema}.keys SET {settings}
        WHERE key_id = $1::text AND organization_id = $2::text AND api_key = $3::text""",
    "set_state": """
        UPDATE {schema}.keys SET state = $2::text, updated_at = $3::text::timestamptz, version = version + 1
        WHERE key_id = $1::text""",
    "rehash": """
        UPDATE {schema}.keys SET
          secret = CASE WHEN secret = $2::text THEN $3::text ELSE secret END,
          previous_secret = CASE WHEN previous_secret = $2::text THEN $3::text ELSE previous_secret END
        WHERE key_id = $1::text AND (secret = $2::text OR previous_secret = $2::text)""",
    "delete": "DELETE FROM {schema}.keys WHERE key_id = $1::text",
    # Joins, because for "= ANY" a table without statistics (after the first import, say) is read whole each time.
    "known_api_keys": """
        SELECT k.api_key, k.organization_id FROM unnest($1::text[]) AS asked (api_key)
        JOIN {schema}.keys k ON asked.api_key COLLATE "C" = k.api_key""",
    "known_key_ids": """
        SELECT k.key_id FROM unnest($1::text[]) AS asked (key_id)
        JOIN {schema}.keys k ON asked.key_id COLLATE "C" = k.key_id""",
    "known_organizations": """
        SELECT organization_id FROM {schema}.organizations WHERE organization_id = ANY($1::text[])""",
    "lock_imports": "SELECT pg_advisory_xact_lock(hashtextextended('gatekey import {schema}', 0))",
    "announce_everything": "SELECT {schema}.announce_everything()",
    "add_organization": """
        INSERT INTO {schema}.organizations (organization_id, is_active, name, created_at)
        VALUES ($1::text, $2::boolean, $3::text, $4::text::timestamptz) ON CONFLICT DO NOTHING""",
    "get_organization": "SELECT {organization} FROM {schema}.organizations o WHERE o.organization_id = $1::text",
    "list_organizations": """
        SELECT {organization} FROM {schema}.organizations o
        WHERE o.organization_id > $1::text ORDER BY o.organization_id LIMIT $2::bigint""",
    "switch_organization": """
        UPDATE {schema}.organizations SET is_active = $2::boolean
        WHERE organization_id = $1::text AND is_active IS DISTINCT FROM $2::boolean""",
}  # fmt: skip


class Queries:
    """The statements for one schema, as attributes."""

    def __init__(self, schema: str) -> None:
        parts = {**_PARTS, "schema": quoted(schema)}
        self._statements = {name: _PLACE.sub(lambda place: parts[place[1]], sql) for name, sql in _SQL.items()}

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(name) from None


def arguments(record: KeyRecord, **changed: Any) -> list[Any]:
    """What the statements take, in the order of ``COLUMNS``; raises ``ValueError`` where the database cannot hold one."""
    values = {**record_to_values(record), **changed}
    row = [_sent(values[name], kind) for name, kind in _TYPES.items()]
    check_storable([row])
    return row


def _sent(value: Any, kind: str) -> Any:
    if value is None:
        return None
    return text_of_time(value) if kind == "timestamptz" else list(value) if kind == "text[]" else value


def copy_row(record: KeyRecord) -> tuple[Any, ...]:
    """What COPY takes, in the order of ``COLUMNS``; written out, because an import makes very many of them."""
    return (
        record.key_id, record.organization_id, record.api_key,
        record.secret.encode(), None if record.previous_secret is None else record.previous_secret.encode(),
        record.previous_expires_at, record.previous_grace, record.rotated_at,
        record.domains, record.scopes, record.origins, record.networks,
        record.state.value, record.expires_at, record.critical, record.name, record.metadata,
        record.created_at, record.updated_at, record.version,
    )  # fmt: skip


def check_storable(rows: Iterable[Sequence[Any]]) -> None:
    """Raises ``ValueError`` where a text of a row cannot be in the database."""
    texts: list[str] = []
    for row in rows:
        for value in row:
            if type(value) is str:
                texts.append(value)
            elif type(value) in (tuple, list):
                texts.extend(value)
    if not storable("".join(texts)):
        raise ValueError("text with a NUL or half a character cannot be stored in Postgres")


def record_of(row: Mapping[str, Any], *, api_key: str | None = None) -> KeyRecord:
    """The key in this row; raises ``StoreCorrupt``."""
    if row["is_strange"]:
        raise StoreCorrupt("a time of the stored key is not in the calendar")
    return record_from_values(row, api_key=api_key)


def organization_of(row: Mapping[str, Any]) -> Organization:
    """The organization in this row; raises ``StoreCorrupt``."""
    is_active, created_at = row["is_active"], row["created_at"]
    if type(is_active) is not bool or created_at is None or type(row["name"]) is not str:
        raise StoreCorrupt("the stored organization cannot be decoded")
    return Organization(
        organization_id=row["organization_id"],
        is_active=is_active,
        name=row["name"],
        created_at=created_at.astimezone(UTC),
    )


def rows_of(status: str) -> int:
    """How many rows are meant by what the server says it did: ``DELETE 3``."""
    return int(status.rpartition(" ")[2])


def quoted(schema: str) -> str:
    """The schema's name in a statement, where it may also be a word of SQL; it holds no quotes itself."""
    return f'"{schema}"'


def storable(text: str) -> bool:
    """Whether a ``text`` of the database can be this; what cannot be stored is not there."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
