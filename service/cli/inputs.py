"""What people type: durations, times, JSON; and the options that several commands share."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli.common import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DURATION", "JSON_OBJECT", "TIME", "as_json_option", "confirm", "yes_option"]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)


class _Duration(click.ParamType):
    """``90d``, ``12h``, ``30m``, ``45s``, ``2w``; a plain 0 needs no unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _DURATION.fullmatch("0s" if value == "0" else value)
        if match is None:
            self.fail("must be a number with a unit, s, m, h, d or w, such as 90d", param, ctx)
        try:
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
        except OverflowError:
            self.fail("is too long", param, ctx)


class _Time(click.ParamType):
    """RFC 3339 with a zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
            if found.tzinfo is None:
                self.fail("needs a time zone, for instance a final Z", param, ctx)
            return found.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("must be a time such as 2027-01-31T12:00:00Z", param, ctx)


class _JsonObject(click.ParamType):
    """A JSON object, kept as text; what may stand in it is the management's affair."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.fail('must be a JSON object, such as {"team": "payments"}', param, ctx)
        return str(value)


DURATION: Final = _Duration()
TIME: Final = _Time()
JSON_OBJECT: Final = _JsonObject()


def as_json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--yes``, for commands that ask on a terminal."""
    return click.option("--yes", "sure", is_flag=True, help="Do not ask, also on a terminal.")(command)


def confirm(question: str, *, sure: bool) -> None:
    """Ask, where somebody sits at a terminal who can answer; ends the command at a no."""
    if sure or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if not click.confirm(question, err=True):
        raise Failed("nothing was changed")
