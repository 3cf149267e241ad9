"""``gatekey orgs``: the group of the commands for the organizations that own keys."""

from __future__ import annotations

from typing import Final

import click

from service.cli.lazy import LazyGroup

__all__ = ["command"]

_COMMANDS: Final = {
    "create": ("service.cli.orgs.create", "Make an organization."),
    "list": ("service.cli.orgs.listing", "List all organizations."),
    "disable": ("service.cli.orgs.switch:disable", "Refuse all keys of an organization."),
    "enable": ("service.cli.orgs.switch:enable", "Let the keys of a disabled organization pass again."),
}


@click.group("orgs", cls=LazyGroup, members=_COMMANDS, short_help="Create, list, disable and enable organizations.")
def command() -> None:
    """Create, list, disable and enable organizations. A key belongs to one; `keys import` makes those that are missing.

    \b
    Examples:
      gatekey orgs create acme --name "Acme Inc."
      gatekey orgs list
      gatekey orgs disable acme
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
