"""What people type: durations, times, JSON; and the options that several commands share."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from service.auth.durations import read_duration
from service.cli.common import Failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

__all__ = ["a_duration", "a_json_object", "a_time", "as_json_option", "asks", "confirm", "yes_option"]


def a_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """``90d``, ``12h``, ``30m``, ``45s``, ``2w``; a plain 0 needs no unit."""
    if value is None:
        return None
    try:
        return read_duration("0s" if value == "0" else value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def a_time(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """RFC 3339 with a zone."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter("must be a time such as 2027-01-31T12:00:00Z", ctx, param) from None
    raise click.BadParameter("needs a time zone, for instance a final Z", ctx, param)


def a_json_object(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A JSON object, kept as text; what may stand in it is the management's affair."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter('must be a JSON object, such as {"team": "payments"}', ctx, param)
    return value


def as_json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--yes``, for commands that ask on a terminal."""
    return click.option("--yes", "sure", is_flag=True, help="Do not ask, also on a terminal.")(command)


def asks(*, sure: bool) -> bool:
    """Whether a question is to be asked: somebody sits at a terminal who can answer, and did not say so before."""
    return not sure and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Ask; ends the command at a no."""
    if not click.confirm(question, err=True):
        raise Failed("nothing was changed")
