"""``gatekey audit list``: what was done by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from service.cli.documents import entry_document, print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store, operator
from service.cli.output import second, table

if TYPE_CHECKING:
    from backends.journal import AuditEntry
    from service.app import Management

__all__ = ["command"]

_PAGE: Final = 1_000
_CORRUPT: Final = "an entry of the audit trail cannot be read; `gatekey audit verify` says what else is wrong with it"


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

    entries = on_store(find, corrupt=_CORRUPT)
    if as_json:
        print_json({"items": [entry_document(entry) for entry in entries]})
        return
    rows = [(second(e.at), str(e.seq), e.action, e.target, e.actor, e.client_ip) for e in entries]
    table(("AT", "SEQ", "ACTION", "TARGET", "BY", "FROM"), rows)
