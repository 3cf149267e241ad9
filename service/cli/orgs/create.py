"""``gatekey orgs create``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.documents import organization_document, print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import CORRUPT_ORGANIZATION, on_store, operator

if TYPE_CHECKING:
    from backends.records import Organization
    from service.app import Management

__all__ = ["command"]


@click.command("create", short_help="Make an organization.")
@click.argument("slug")
@click.option("--name", default="", help="Its name, for people.")
@as_json_option
def command(slug: str, *, name: str, as_json: bool) -> None:
    """Make the organization SLUG: lower-case letters, digits and -.

    \b
    Examples:
      gatekey orgs create acme
      gatekey orgs create acme --name "Acme Inc." --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not

    async def make(parts: Management) -> Organization:
        return await parts.manager.create_organization(operator(), slug, name=name)

    made = on_store(make, corrupt=CORRUPT_ORGANIZATION)
    if as_json:
        print_json(organization_document(made))
    else:
        click.echo(
            f"Organization {made.organization_id} is made. Give it a key: gatekey keys create --organization {slug}"
        )
