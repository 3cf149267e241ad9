"""``gatekey keys``: the group; each command in a module of its own or beside its likes, loaded when it is called."""

from __future__ import annotations

from typing import Final

import click

from service.cli.lazy import LazyGroup

__all__ = ["command"]

_COMMANDS: Final = {
    "create": ("service.cli.keys.create", "Make a key, and show its secret once."),
    "list": ("service.cli.keys.listing", "List keys, all or some."),
    "show": ("service.cli.keys.show", "Show one key, and when it was used."),
    "revoke": ("service.cli.keys.state:revoke", "Refuse a key for ever."),
    "disable": ("service.cli.keys.state:disable", "Refuse a key until it is enabled again."),
    "enable": ("service.cli.keys.state:enable", "Let a disabled key pass again."),
    "delete": ("service.cli.keys.state:delete", "Forget a key."),
    "rotate": ("service.cli.keys.rotate", "Give a key a new secret; the old one works for a while."),
    "import": ("service.cli.keys.transfer:import_keys", "Read keys from a file of JSON lines."),
    "export": ("service.cli.keys.transfer:export_keys", "Write keys as JSON lines, secrets as hashes."),
}


@click.group(
    "keys", cls=LazyGroup, members=_COMMANDS, short_help="Create, list, rotate, revoke, import and export keys."
)
def command() -> None:
    """Create, list, rotate, revoke, import and export keys. A key is named by its key_id.

    \b
    Examples:
      gatekey keys create --organization acme --domain api.example.com --expires-in 90d
      gatekey keys list --organization acme
      gatekey keys revoke KEY_ID
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
