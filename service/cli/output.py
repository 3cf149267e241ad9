"""How results look to people: tables and sentences. What somebody stored never moves their cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from backends.records import KeyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from backends.records import KeyRecord
    from service.manage.manager import InForce

__all__ = [
    "ago",
    "counted",
    "duration",
    "fields",
    "printable",
    "say_in_force",
    "second",
    "state_of",
    "table",
]

_STEPS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


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
    lines = [tuple(head), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """One line for each field, names aligned."""
    shown = [(name, printable(value)) for name, value in pairs]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        click.echo(f"{name:{width}}  {value}")


def printable(text: str) -> str:
    """A name or a message that somebody stored must not move a terminal's cursor."""
    return (text if text.isprintable() else ascii(text)[1:-1]) or "-"


def state_of(record: KeyRecord, now: datetime) -> str:
    """The state in one word; of an active key past its time ``expired``."""
    expired = record.expires_at is not None and record.expires_at <= now
    return "expired" if expired and record.state is KeyState.ACTIVE else record.state.value


def say_in_force(in_force: InForce) -> None:
    """When the write counts, for people."""
    click.echo(f"In force in every process within a moment, at the latest by {second(in_force.everywhere_by)}.")
    if not in_force.durable:
        click.echo("gatekey: the store's copies have not confirmed it yet; a failover now could lose it", err=True)
