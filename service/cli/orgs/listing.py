"""``gatekey orgs list``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from service.cli.documents import organization_document, print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import CORRUPT_ORGANIZATION, on_store, operator
from service.cli.output import second, table

if TYPE_CHECKING:
    from backends.records import Organization
    from service.app import Management

__all__ = ["command"]

_PAGE: Final = 1_000


@click.command("list", short_help="List all organizations.")
@as_json_option
def command(*, as_json: bool) -> None:
    """List all organizations.

    \b
    Examples:
      gatekey orgs list
      gatekey orgs list --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    organizations = on_store(_all, corrupt=CORRUPT_ORGANIZATION)
    if as_json:
        print_json({"items": [organization_document(item) for item in organizations]})
        return
    rows = [(o.organization_id, "yes" if o.is_active else "no", second(o.created_at), o.name) for o in organizations]
    table(("ORGANIZATION", "ACTIVE", "CREATED", "NAME"), rows)


async def _all(parts: Management) -> list[Organization]:
    found: list[Organization] = []
    after: str | None = ""
    while after is not None:
        page = await parts.manager.list_organizations(operator(), after=after, limit=_PAGE)
        found += page.items
        after = page.next_after
    return found
