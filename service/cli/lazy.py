"""Groups of commands whose modules are imported when a command is called: help and a wrong name must not wait for drivers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """``members`` gives for each command its place (``module:name``) and its line in the help of the group.

    The line stands here as well as in the command itself, because the list of commands would else import all of them;
    a test holds both to the same words.
    """

    def __init__(self, *args: Any, members: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.members = members

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the table."""
        return list(self.members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command, imported now; ``None`` where there is none of this name."""
        if cmd_name not in self.members:
            return None
        module, _, name = self.members[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name or "command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it does not expect is told in one line, also where a result is shown."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, Exit, BrokenPipeError):  # a reader that has gone: click ends quietly
            raise
        except Exception as error:
            from service.cli.common import by_defect  # here: it loads the settings, which help need not wait for

            raise by_defect(error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.members.items()])
