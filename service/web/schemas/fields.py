"""The types of fields that JSON and queries have as text; a problem says what a value must be and never repeats it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StringConstraints, WithJsonSchema

from service.auth.durations import DURATION, IN_WORDS, read_duration, whole_seconds
from service.auth.key_fields import MAX_RULES, FieldProblem, metadata
from service.auth.rules import MAX_SCOPES

__all__ = [
    "Domains",
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

_SWITCH: Final = {"1": True, "true": True, "0": False, "false": False}


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
    if type(value) is int:
        return whole_seconds(value)
    if not isinstance(value, str) or not re.fullmatch(DURATION, value):
        raise ValueError(f"must be seconds, or {IN_WORDS}")
    return read_duration(value)


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


def _not_empty(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise ValueError("must not be empty: the key would be good for nothing")
    return texts


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
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{DURATION}$"}],
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
    Field(max_length=MAX_RULES),  # before the validator, or it would count as the length of a text
    BeforeValidator(_texts_of),
]
Domains = Annotated[Texts, AfterValidator(_not_empty), Field(json_schema_extra={"minItems": 1})]
"""Not by ``min_length``, which would count the good ones: of a single bad domain two problems would be told."""
ScopeTexts = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=64)], ...],
    Field(max_length=MAX_SCOPES),
    BeforeValidator(_texts_of),
]
Flag = StrictBool
Switch = Annotated[bool, BeforeValidator(_switch_of), WithJsonSchema({"type": "boolean"})]
"""A flag in a query: ``1``, ``true``, ``0``, ``false``."""
