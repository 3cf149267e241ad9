"""``gatekey audit list``: what was done by whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli.documents import print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store, operator
from service.cli.output import second, table

if TYPE_CHECKING:
    from backends.journal import AuditEntry
    from service.app import Management

__all__ = ["command"]

_PAGE: Final = 1_000


@click.command("list", short_help="What was done in an organization, newest first.")
@click.argument("organization", metavar="ORG")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="At most so many.")
@as_json_option
def command(organization: str, *, limit: int, as_json: bool) -> None:
    """What was done in the organization ORG, by whom, newest first.

    \b
    Examples:
      gatekey audit list acme
      gatekey audit list acme --limit 1000 --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not

    async def find(parts: Management) -> list[AuditEntry]:
        found: list[AuditEntry] = []
        after: str | None = ""
        while after is not None and len(found) < limit:
            size = min(_PAGE, limit - len(found))
            page = await parts.manager.list_audit(operator(), organization, after=after, limit=size)
            found += page.items
            after = page.next_after
        return found

    entries = on_store(find)
    if as_json:
        print_json({"items": [_document(entry) for entry in entries]})
        return
    rows = [(second(e.at), str(e.seq), e.action, e.target, e.actor, e.client_ip) for e in entries]
    table(("AT", "SEQ", "ACTION", "TARGET", "BY", "FROM"), rows)


def _document(entry: AuditEntry) -> dict[str, Any]:
    return {
        "organization_id": entry.organization_id,
        "seq": entry.seq,
        "at": entry.at.isoformat().replace("+00:00", "Z"),
        "actor": entry.actor,
        "actor_organization_id": entry.actor_organization_id,
        "action": entry.action,
        "target": entry.target,
        "client_ip": entry.client_ip,
        "request_id": entry.request_id,
        "before": _object(entry.before),
        "after": _object(entry.after),
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }


def _object(text: str) -> Any:
    """What somebody spoilt by hand is shown as the text that it is: `audit verify` says that it was changed."""
    try:
        return json.loads(text)
    except ValueError:
        return text
