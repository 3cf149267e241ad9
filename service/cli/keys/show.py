"""``gatekey keys show``: one key, when it was used, and how far its rotation has come."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from service.cli.documents import key_document, print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store, operator
from service.cli.output import ago, duration, fields, second, state_of
from service.manage.changes import has_previous, previous_use

if TYPE_CHECKING:
    from datetime import datetime

    from backends.journal import LastUse
    from backends.records import KeyRecord
    from service.app import Management

__all__ = ["command"]


@click.command("show", short_help="Show one key, and when it was used.")
@click.argument("key_id")
@as_json_option
def command(key_id: str, *, as_json: bool) -> None:
    """Show the key KEY_ID: its rules, its state, when it was last used, and how far a rotation has come.

    \b
    Examples:
      gatekey keys show KEY_ID
      gatekey keys show KEY_ID --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not

    async def find(parts: Management) -> tuple[KeyRecord, LastUse | None, datetime]:
        record = await parts.manager.get_key(operator(), key_id)
        last = await parts.manager.last_use(operator(), [record])
        return record, last.get(key_id), parts.clock.now()

    record, last, now = on_store(find)
    if as_json:
        print_json(key_document(record, last, now=now))
        return
    fields(
        [
            ("key_id", record.key_id),
            ("organization", record.organization_id),
            ("name", record.name),
            ("api_key", record.api_key),
            ("state", state_of(record, now)),
            ("domains", ", ".join(record.domains)),
            ("scopes", " ".join(record.scopes)),
            ("origins", ", ".join(record.origins)),
            ("networks", ", ".join(record.networks)),
            ("expires", second(record.expires_at)),
            ("critical", "yes" if record.critical else "no"),
            ("metadata", record.metadata),
            ("created", second(record.created_at)),
            ("changed", f"{second(record.updated_at)} (version {record.version})"),
            ("last used", ago(None if last is None else last.last_used_at, now)),
            *_rotation(record, last, now),
        ]
    )


def _rotation(record: KeyRecord, last: LastUse | None, now: datetime) -> list[tuple[str, str]]:
    """While two secrets work: who uses which, and how long the old one has."""
    if not has_previous(record, now):
        return []
    until = record.previous_expires_at
    end = "until it is cut" if until is None else f"until {second(until)}"
    if record.previous_grace is not None:
        end += f", or {duration(timedelta(seconds=record.previous_grace))} after the first use of the new one"
    old = previous_use(record, last)
    return [
        ("rotated", second(record.rotated_at)),
        ("new secret", _new_secret(record, last, old, now)),
        ("old secret", f"old secret last used {ago(old, now)}" if old is not None else "not used since the rotation"),
        ("", f"works {end}"),
    ]


def _new_secret(record: KeyRecord, last: LastUse | None, old: datetime | None, now: datetime) -> str:
    """Its last use is the key's, unless that was the old secret's."""
    if record.previous_grace is not None:
        return "not used yet"
    if last is None or (old is not None and last.last_used_at <= old):
        return "used, but not since the old one"
    return f"new secret last used {ago(last.last_used_at, now)}"
