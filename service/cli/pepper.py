"""``gatekey pepper``: which peppers the stored secrets still need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.common import Failed
from service.cli.documents import print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store
from service.cli.output import table
from service.manage.pepper import pepper_status

if TYPE_CHECKING:
    from service.app import Management
    from service.manage.pepper import PepperRow, PepperStatus

__all__ = ["command"]


@click.group("pepper", short_help="Say which peppers are still in use.")
def command() -> None:
    """Say which peppers are still in use.

    \b
    Examples:
      gatekey pepper status
      gatekey pepper status --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not


@command.command("status", short_help="Count the stored secrets under each pepper.")
@as_json_option
def status(*, as_json: bool) -> None:
    """Count the stored secrets under each pepper, and say which pepper may be taken out of the settings.

    A secret moves to the current pepper when it is next used. Counting reads every key and may take long. Exit status 1
    when a pepper is missing from the settings.

    \b
    Examples:
      gatekey pepper status
      gatekey pepper status --json
    """  # noqa: D301 - as above

    async def count(parts: Management) -> PepperStatus:
        return await pepper_status(parts.store, parts.peppers, now=parts.clock.now())

    found = on_store(count)
    if as_json:
        rows = [{name: getattr(row, name) for name in row.__slots__} for row in found.rows]
        print_json({"items": rows, "problems": list(found.problems)})
    else:
        _print(found)
    if found.problems:
        raise Failed(found.problems)


def _print(found: PepperStatus) -> None:
    table(
        ("VERSION", "CONFIGURED", "CURRENT", "SECRETS", "WHAT NOW"),
        [
            (
                str(r.version),
                "yes" if r.configured else "no",
                "yes" if r.current else "no",
                f"{r.secrets:,}",
                _advice(r),
            )
            for r in found.rows
        ],
    )


def _advice(row: PepperRow) -> str:
    if not row.configured:
        return "give it back: these secrets can not be checked without it"
    if row.current:
        return "new secrets use it"
    return "may be removed" if row.removable else "keep it until no secret needs it"
