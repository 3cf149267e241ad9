"""``gatekey keys rotate``: a new secret for the same key, and what becomes of the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.inputs import a_duration, as_json_option
from service.cli.keys.written import Written, print_document, print_secret, written
from service.cli.on_store import on_store, operator
from service.cli.output import duration, say_in_force, second
from service.manage.manager import DEFAULT_GRACE, DEFAULT_LIMIT

if TYPE_CHECKING:
    from datetime import timedelta

    from service.app import Management

__all__ = ["command"]


@click.command("rotate", short_help="Give a key a new secret; the old one works for a while.")
@click.argument("key_id")
@click.option(
    "--grace",
    callback=a_duration,
    metavar="24h",
    help="How long the old secret lives on after the new one's first use.",
)
@click.option("--limit", callback=a_duration, metavar="30d", help="How long it lives from now, at most.")
@click.option("--cancel", is_flag=True, help="Undo a rotation: the old secret is the only one again.")
@click.option("--cut", is_flag=True, help="End the old secret of a rotation now.")
@as_json_option
def command(
    key_id: str, *, grace: timedelta | None, limit: timedelta | None, cancel: bool, cut: bool, as_json: bool
) -> None:
    """Give the key KEY_ID a new secret, and print it: this once, to standard output only.

    The old secret works for --grace (24h) after the new one's first use and for --limit (30d) at most, so that no request
    fails while the new one is being rolled out. --grace 0 ends the old one at once: do so when it has leaked.

    \b
    Examples:
      gatekey keys rotate KEY_ID
      gatekey keys rotate KEY_ID --grace 0
      gatekey keys rotate KEY_ID --cancel
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    if cancel and cut:
        raise click.UsageError("--cancel and --cut exclude each other")
    if (cancel or cut) and (grace is not None or limit is not None):
        raise click.UsageError("--grace and --limit are for a new rotation, without --cancel and --cut")
    if cancel or cut:
        _end(key_id, cancel=cancel, as_json=as_json)
    else:
        _rotate(
            key_id,
            DEFAULT_GRACE if grace is None else grace,
            DEFAULT_LIMIT if limit is None else limit,
            as_json=as_json,
        )


def _rotate(key_id: str, grace: timedelta, limit: timedelta, *, as_json: bool) -> None:
    async def rotate(parts: Management) -> Written:
        issued = await parts.manager.rotate(operator(), key_id, grace=grace, limit=limit)
        return await written(parts, issued.record, issued.secret)

    result = on_store(rotate)
    if as_json:
        print_document(result)
        return
    print_secret(result)
    until = result.record.previous_expires_at
    if result.record.previous_secret is None or until is None:
        click.echo("The old secret has ended.")
    else:
        click.echo(
            f"The old secret works for {duration(grace)} after the new one's first use, at most until {second(until)}."
        )
    say_in_force(result.in_force)


def _end(key_id: str, *, cancel: bool, as_json: bool) -> None:
    async def end(parts: Management) -> Written:
        change = parts.manager.cancel_rotation if cancel else parts.manager.cut_previous
        return await written(parts, await change(operator(), key_id))

    result = on_store(end)
    if as_json:
        print_document(result)
        return
    click.echo("The old secret is the only one again." if cancel else "The old secret has ended.")
    say_in_force(result.in_force)
