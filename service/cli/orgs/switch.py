"""``gatekey orgs disable`` and ``enable``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.documents import in_force_document, organization_document, print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import CORRUPT_ORGANIZATION, on_store, operator
from service.cli.output import say_in_force

if TYPE_CHECKING:
    from backends.records import Organization
    from service.app import Management
    from service.manage.manager import InForce

__all__ = ["disable", "enable"]


@click.command("disable", short_help="Refuse all keys of an organization.")
@click.argument("slug")
@as_json_option
def disable(slug: str, *, as_json: bool) -> None:
    """Refuse all keys of the organization SLUG, until it is enabled again. Its keys keep their own states.

    \b
    Examples:
      gatekey orgs disable acme
      gatekey orgs disable acme --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    _switch(slug, is_active=False, as_json=as_json)


@click.command("enable", short_help="Let the keys of a disabled organization pass again.")
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

    organization, in_force = on_store(switch, corrupt=CORRUPT_ORGANIZATION)
    if as_json:
        print_json({**organization_document(organization), **in_force_document(in_force)})
        return
    click.echo(
        f"Organization {slug} is {'enabled: its active keys pass' if is_active else 'disabled: its keys are refused'}."
    )
    say_in_force(in_force)
