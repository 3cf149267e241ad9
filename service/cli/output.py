"""How results look: tables and sentences for people, one JSON document for programs; never a secret but a new one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from backends.journal import LastUse
    from backends.records import KeyRecord, Organization
    from service.manage.manager import InForce

__all__ = [
    "ago",
    "counted",
    "duration",
    "fields",
    "force_document",
    "key_document",
    "moment",
    "organization_document",
    "print_json",
    "say_in_force",
    "table",
]

_STEPS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def print_json(document: Any) -> None:
    """The one document on standard output."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def second(at: datetime | None) -> str:
    """For people: to the second, ``-`` for none."""
    return "-" if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(span: timedelta) -> str:
    """``3 min``: one unit, the largest that fits, rounded down."""
    seconds = max(int(span.total_seconds()), 0)
    size, unit = next((step for step in _STEPS if seconds >= step[0]), _STEPS[-1])
    return f"{seconds // size} {unit}"


def ago(at: datetime | None, now: datetime) -> str:
    """``3 min ago``, ``never``."""
    return "never" if at is None else f"{duration(now - at)} ago"


def counted(number: int, thing: str, things: str = "") -> str:
    """``1 key``, ``12,000 keys``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns; nothing stands behind the last one, so that lines can be cut with a pipe."""
    lines = [tuple(head), *(tuple(_printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """One line for each field, names aligned."""
    shown = [(name, _printable(value)) for name, value in pairs]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        click.echo(f"{name:{width}}  {value}")


def _printable(text: str) -> str:
    """A name or a message that somebody stored must not move a terminal's cursor."""
    return (text if text.isprintable() else ascii(text)[1:-1]) or "-"


def organization_document(organization: Organization) -> dict[str, Any]:
    """The organization, for ``--json``."""
    return {
        "organization_id": organization.organization_id,
        "name": organization.name,
        "is_active": organization.is_active,
        "created_at": moment(organization.created_at),
    }


def key_document(record: KeyRecord, last: LastUse | None = None) -> dict[str, Any]:
    """The key without its hashes, for ``--json``."""
    return {
        "key_id": record.key_id,
        "organization_id": record.organization_id,
        "api_key": record.api_key,
        "name": record.name,
        "state": record.state.value,
        "domains": list(record.domains),
        "scopes": list(record.scopes),
        "origins": list(record.origins),
        "networks": list(record.networks),
        "expires_at": moment(record.expires_at),
        "critical": record.critical,
        "metadata": json.loads(record.metadata),
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
        "version": record.version,
        "last_used_at": moment(None if last is None else last.last_used_at),
        "rotation": None if record.previous_secret is None else _rotation_document(record, last),
    }


def _rotation_document(record: KeyRecord, last: LastUse | None) -> dict[str, Any]:
    return {
        "rotated_at": moment(record.rotated_at),
        "previous_expires_at": moment(record.previous_expires_at),
        "previous_grace": record.previous_grace,
        "previous_secret_used_at": moment(None if last is None else last.previous_secret_used_at),
    }


def force_document(in_force: InForce) -> dict[str, Any]:
    """When the write counts, for ``--json``."""
    return {"in_force_everywhere_by": moment(in_force.everywhere_by), "durable": in_force.durable}


def say_in_force(in_force: InForce) -> None:
    """When the write counts, for people."""
    click.echo(f"In force in every process within a moment, at the latest by {second(in_force.everywhere_by)}.")
    if not in_force.durable:
        click.echo("gatekey: the store's copies have not confirmed it yet; a failover now could lose it", err=True)
