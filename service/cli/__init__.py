"""The command line: each command in a module of its own, loaded when it is called."""

from __future__ import annotations

import importlib
from typing import Final

import click

from service import __version__

__all__ = ["main"]

_COMMANDS: Final = {"serve": "service.cli.serve", "check": "service.cli.check", "doctor": "service.cli.doctor"}


class _Lazy(click.Group):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatekey")
def main() -> None:
    """Gatekey decides for every request to your API whether the caller's key and secret are valid for the domain.

    \b
    Examples:
      gatekey serve --demo        try it, with a demo key, nothing to configure
      gatekey check               are the settings right?
      gatekey doctor --url URL    is the proxy in front of Gatekey set up safely?
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
