"""What the commands share: settings or one clear word about what is wrong with them."""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from backends.factory import SCHEMES
from service.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.settings import Settings

__all__ = ["Failed", "by_defect", "settings_or_fail"]


class Failed(click.ClickException):
    """Refused or failed: exit status 1 and a line on standard error for each problem."""

    exit_code = 1

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(self.problems))

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the problems."""
        for problem in self.problems:
            click.echo(f"gatekey: {problem}", err=True)


def by_defect(error: Exception) -> Failed:
    """What is said of an exception that nobody meant: its place, and not its text, which could hold a secret."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{PurePath(place.filename).name}, line {place.lineno}"
    return Failed(f"the command failed by a defect: {type(error).__name__} in {where}")


def settings_or_fail() -> Settings:
    """The settings of the environment; ends the command with all their problems."""
    try:
        return load_settings(schemes=SCHEMES)
    except SettingsError as error:
        raise Failed(error.problems) from None
