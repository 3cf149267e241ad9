"""``gatekey orgs``: the organizations that own keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.documents import in_force_document, organization_document, print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store, operator
from service.cli.output import say_in_force, second, table

if TYPE_CHECKING:
    from backends.records import Organization
    from service.app import Management
    from service.manage.manager import InForce

__all__ = ["command"]

_PAGE = 1_000


@click.group("orgs", short_help="Create, list, disable and enable organizations.")
def command() -> None:
    """Create, list, disable and enable organizations. A key belongs to one; `keys import` makes those that are missing.

    \b
    Examples:
      gatekey orgs create acme --name "Acme Inc."
      gatekey orgs list
      gatekey orgs disable acme
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not


@command.command("create", short_help="Make an organization.")
@click.argument("slug")
@click.option("--name", default="", help="Its name, for people.")
@as_json_option
def create(slug: str, *, name: str, as_json: bool) -> None:
    """Make the organization SLUG: lower-case letters, digits and -.

    \b
    Examples:
      gatekey orgs create acme
      gatekey orgs create acme --name "Acme Inc." --json
    """  # noqa: D301 - as above

    async def make(parts: Management) -> Organization:
        return await parts.manager.create_organization(operator(), slug, name=name)

    made = on_store(make)
    if as_json:
        print_json(organization_document(made))
    else:
        click.echo(
            f"Organization {made.organization_id} is made. Give it a key: gatekey keys create --organization {slug}"
        )


@command.command("list", short_help="List all organizations.")
@as_json_option
def show_all(*, as_json: bool) -> None:
    """List all organizations.

    \b
    Examples:
      gatekey orgs list
      gatekey orgs list --json
    """  # noqa: D301 - as above
    organizations = on_store(_all)
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


@command.command("disable", short_help="Refuse all keys of an organization.")
@click.argument("slug")
@as_json_option
def disable(slug: str, *, as_json: bool) -> None:
    """Refuse all keys of the organization SLUG, until it is enabled again. Its keys keep their own states.

    \b
    Examples:
      gatekey orgs disable acme
      gatekey orgs disable acme --json
    """  # noqa: D301 - as above
    _switch(slug, is_active=False, as_json=as_json)


@command.command("enable", short_help="Let the keys of a disabled organization pass again.")
@click.argument("slug")
@as_json_option
def enable(slug: str, *, as_json: bool) -> None:
    """Let the active keys of the organization SLUG pass again.

    \b
    Examples:
      gatekey orgs enable acme
      gatekey orgs enable acme --json
    """  # noqa: D301 - as above
    _switch(slug, is_active=True, as_json=as_json)


def _switch(slug: str, *, is_active: bool, as_json: bool) -> None:
    async def switch(parts: Management) -> tuple[Organization, InForce]:
        organization = await parts.manager.set_organization_active(operator(), slug, is_active)
        return organization, await parts.manager.in_force(wait=False)

    organization, in_force = on_store(switch)
    if as_json:
        print_json({**organization_document(organization), **in_force_document(in_force)})
        return
    click.echo(
        f"Organization {slug} is {'enabled: its active keys pass' if is_active else 'disabled: its keys are refused'}."
    )
    say_in_force(in_force)
