"""``gatekey keys list``: what there is, and when it was used. Secrets are not there to be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from backends.records import KeyFilter, KeyState
from service.cli.documents import key_document, print_json
from service.cli.inputs import a_time, as_json_option
from service.cli.on_store import on_store, operator
from service.cli.output import ago, second, state_of, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backends.journal import LastUse
    from backends.records import KeyRecord
    from service.app import Management

__all__ = ["command"]

_PAGE: Final = 1_000
_STATES: Final = [state.value for state in KeyState]


@click.command("list", short_help="List keys, all or some.")
@click.option("--organization", metavar="ORG", help="Only its keys.")
@click.option("--name", help="Only keys with this in their name.")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Only these; may be repeated.")
@click.option("--expires-before", callback=a_time, metavar="TIME", help="Only keys that expire before it.")
@click.option("--last-used-before", callback=a_time, metavar="TIME", help="Only keys not used since then.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@as_json_option
def command(
    *,
    organization: str | None,
    name: str | None,
    states: tuple[str, ...],
    expires_before: datetime | None,
    last_used_before: datetime | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List keys, oldest first, those that match every option that is given.

    \b
    Examples:
      gatekey keys list --organization acme
      gatekey keys list --state active --expires-before 2027-01-01T00:00:00Z
      gatekey keys list --last-used-before 2026-06-01T00:00:00Z --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    where = KeyFilter(
        organization_id=organization,
        name=name,
        states=frozenset(map(KeyState, states)) or frozenset(KeyState),
        expires_before=expires_before,
        last_used_before=last_used_before,
    )

    async def find(parts: Management) -> tuple[list[tuple[KeyRecord, LastUse | None]], datetime]:
        if organization is not None:
            await parts.manager.get_organization(operator(), organization)  # a mistyped name is told
        return await _all(parts, where, limit), parts.clock.now()

    found, now = on_store(find)
    if as_json:
        print_json({"items": [key_document(record, last, now=now) for record, last in found]})
        return
    table(
        ("KEY_ID", "ORGANIZATION", "STATE", "EXPIRES", "LAST USED", "NAME"),
        [
            (
                record.key_id,
                record.organization_id,
                state_of(record, now),
                second(record.expires_at),
                ago(None if last is None else last.last_used_at, now),
                record.name,
            )
            for record, last in found
        ],
    )


async def _all(parts: Management, where: KeyFilter, limit: int | None) -> list[tuple[KeyRecord, LastUse | None]]:
    found: list[tuple[KeyRecord, LastUse | None]] = []
    after: str | None = ""
    while after is not None and (limit is None or len(found) < limit):
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = await parts.manager.list_keys(operator(), where, after=after, limit=size)
        last: Mapping[str, LastUse] = await parts.manager.last_use(operator(), page.items)
        found += [(record, last.get(record.key_id)) for record in page.items]
        after = page.next_after
    return found
