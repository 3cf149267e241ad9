"""``gatekey audit``: the group."""

from __future__ import annotations

from typing import Final

import click

from service.cli.lazy import LazyGroup

__all__ = ["command"]

_COMMANDS: Final = {
    "list": ("service.cli.audit.listing", "What was done in an organization, newest first."),
    "verify": ("service.cli.audit.verify", "Find out whether anything was changed or taken away."),
}


@click.group("audit", cls=LazyGroup, members=_COMMANDS, short_help="Read the audit trail, and prove that it is whole.")
def command() -> None:
    """Read the audit trail, and prove that it is whole. Every organization has a chain of its own.

    \b
    Examples:
      gatekey audit list acme
      gatekey audit verify
      gatekey audit verify --json > heads.json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
