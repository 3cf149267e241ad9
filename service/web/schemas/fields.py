"""The types of fields that JSON and queries have as text; a problem says what a value must be and never repeats it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, StrictBool, StringConstraints, WithJsonSchema

from service.auth.key_fields import FieldProblem, metadata

__all__ = [
    "Duration",
    "Flag",
    "Metadata",
    "Name",
    "ScopeTexts",
    "Switch",
    "Texts",
    "Time",
    "duration_of",
    "printable",
    "time_of",
    "whole_number_of",
]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_TOO_LONG: Final = timedelta(days=100 * 366)
_SWITCH: Final = {"1": True, "true": True, "0": False, "false": False}
_MAX_TEXTS: Final = 1000


def time_of(value: Any) -> datetime:
    """RFC 3339 with a zone, as UTC; raises ``ValueError``."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a time such as 2027-01-31T12:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError("needs a time zone, for instance a final Z (a + in an address is written %2B)")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def duration_of(value: Any) -> timedelta:
    """Whole seconds, or a number with a unit such as ``24h``, ``90d``; raises ``ValueError``."""
    if isinstance(value, timedelta):
        return value
    seconds = value if type(value) is int else None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None and seconds is None:
        raise ValueError("must be seconds, or a number with a unit, s, m, h, d or w, such as 90d")
    try:
        found = timedelta(seconds=seconds or 0) if match is None else timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        found = _TOO_LONG
    if not timedelta(0) <= found < _TOO_LONG:
        raise ValueError("must be 0 to 100 years")
    return found


def _metadata_of(value: Any) -> str:
    """A JSON object as the text that a record holds."""
    try:
        return metadata(value)
    except FieldProblem as error:
        raise ValueError(error.problem) from None


def _texts_of(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of texts")  # noqa: TRY004 - pydantic reports a ValueError as the field's problem
    return tuple(value)


def _switch_of(value: Any) -> bool:
    if value not in _SWITCH:
        raise ValueError("must be true or false")
    return _SWITCH[value]


def printable(text: str) -> str:
    """The text itself; raises ``ValueError`` where it holds what no name can."""
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


def whole_number_of(value: Any) -> int:
    """Decimal digits of a query; raises ``ValueError``."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        return int(value)
    if type(value) is int:
        return value
    raise ValueError("must be a whole number")


Time = Annotated[datetime, BeforeValidator(time_of)]
Duration = Annotated[
    timedelta,
    BeforeValidator(duration_of),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,9}[smhdw]$"}],
            "description": "Seconds, or a number with a unit (s, m, h, d, w).",
            "examples": ["90d", 86400],
        }
    ),
]
Metadata = Annotated[
    str,
    BeforeValidator(_metadata_of),
    WithJsonSchema({"type": "object", "description": "Anything of the owner's; at most 8 KiB as JSON."}),
]
Name = Annotated[str, StringConstraints(max_length=200)]
Texts = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=2048)], ...],
    BeforeValidator(_texts_of),
    Field(max_length=_MAX_TEXTS),
]
ScopeTexts = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=64)], ...],
    BeforeValidator(_texts_of),
    Field(max_length=32),
]
Flag = StrictBool
Switch = Annotated[bool, BeforeValidator(_switch_of), WithJsonSchema({"type": "boolean"})]
"""A flag in a query: ``1``, ``true``, ``0``, ``false``."""
