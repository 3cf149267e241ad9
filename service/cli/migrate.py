"""``gatekey migrate``: prepare the store, or bring it up to this version of the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.documents import print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store

if TYPE_CHECKING:
    from service.app import Management

__all__ = ["command"]


@click.command("migrate", short_help="Prepare the store, or bring it up to this version.")
@click.option("--check", is_flag=True, help="Change nothing; fail when something is to be done.")
@as_json_option
def command(*, check: bool, as_json: bool) -> None:
    """Prepare the store, or bring it up to this version, and print a line for each step.

    It may run again and again, several times at once, and while services of this or the previous version serve: migrate
    first, then start the new version.

    \b
    Examples:
      gatekey migrate
      gatekey migrate --check
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not

    async def migrate(parts: Management) -> tuple[str, ...]:
        if not check:
            return await parts.store.migrate()
        await parts.store.ping()
        return ()

    steps = on_store(migrate, prepared=False, opened=check)
    if as_json:
        print_json({"steps": list(steps)})
        return
    for step in steps or ("nothing to do",):
        click.echo(step)
