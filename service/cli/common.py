"""What the commands share: settings or one clear word about what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["Failed", "settings_or_fail"]


class Failed(click.ClickException):
    """Refused or failed: exit status 1 and one line on standard error."""

    exit_code = 1

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the message."""
        click.echo(f"gatekey: {self.format_message()}", err=True)


def settings_or_fail() -> Settings:
    """The settings of the environment; ends the command with all their problems."""
    try:
        return load_settings()
    except SettingsError as error:
        raise Failed("\ngatekey: ".join(error.problems)) from None
