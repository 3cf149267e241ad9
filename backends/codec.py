"""Between a ``KeyRecord`` and what stores hold; whatever does not fit is ``StoreCorrupt``, for that one key.

A stored form may have been edited by hand into anything, so every field is checked by its type. Messages name the field
and never its value.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from backends.errors import StoreCorrupt
from backends.records import KeyRecord, KeyState, SecretHash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FORM",
    "TIMES",
    "record_from_json",
    "record_from_values",
    "record_to_json",
    "record_to_values",
    "text_of_time",
    "time_of_text",
]

FORM: Final = 1
"""Version of the JSON form; one that is not known is corrupt."""

TIMES: Final = ("previous_expires_at", "rotated_at", "expires_at", "created_at", "updated_at")
"""The fields of a record that are times; the last two always are, the others may be ``None``."""

_WRONG: Final = (KeyError, ValueError, TypeError, OverflowError, RecursionError)
"""What the checks raise."""

_MAX_INTEGER: Final = 2**53 - 1  # what JSON readers of other languages (Lua among them) keep exact


def record_to_values(record: KeyRecord) -> dict[str, Any]:
    """Every field by name; hashes, states and times stay typed as in SQL: text, text, aware datetime."""
    values = {name: getattr(record, name) for name in KeyRecord.__slots__}
    values["secret"] = record.secret.encode()
    values["previous_secret"] = None if record.previous_secret is None else record.previous_secret.encode()
    values["state"] = record.state.value
    return values


def record_from_values(values: Mapping[str, Any], *, api_key: str | None = None) -> KeyRecord:
    """The record of such values (lists may stand for tuples); raises ``StoreCorrupt``.

    ``api_key`` is what was looked up: a record that names another one was copied there by somebody.
    """
    try:
        fields = {name: check(values[name]) for name, check in _CHECK_OF_FIELD}
    except _WRONG:  # a look-up has no time to be ready for a defect at each field
        fields = {name: _checked(values, name, check) for name, check in _CHECK_OF_FIELD}
    if api_key is not None and fields["api_key"] != api_key:
        raise StoreCorrupt("the stored key is another one than its place says")
    return KeyRecord(**fields)


def record_to_json(record: KeyRecord) -> str:
    """One line of JSON: the form's number, then the fields; times as ISO 8601 in UTC with microseconds."""
    values = record_to_values(record)
    for name in TIMES:
        values[name] = None if values[name] is None else text_of_time(values[name])
    return json.dumps({"form": FORM, **values}, ensure_ascii=False, separators=(",", ":"))


def record_from_json(text: str | bytes, *, api_key: str | None = None) -> KeyRecord:
    """Inverse of ``record_to_json``; raises ``StoreCorrupt`` for anything else."""
    try:
        values = json.loads(text, object_pairs_hook=_without_repeats, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise StoreCorrupt("the stored key is no JSON") from error
    if not isinstance(values, dict):
        raise StoreCorrupt("the stored key is no JSON object")
    if type(values.get("form")) is not int or values["form"] != FORM:
        raise StoreCorrupt("the stored key has a form that this version does not know")
    for name in TIMES:
        if values.get(name) is not None:
            values[name] = _checked(values, name, time_of_text)
    return record_from_values(values, api_key=api_key)


def text_of_time(time: datetime) -> str:
    """ISO 8601 in UTC, of one width, so that texts are in the order of time: ``2026-01-02T03:04:05.000006+00:00``."""
    return (time if time.tzinfo is UTC else time.astimezone(UTC)).isoformat(timespec="microseconds")


def time_of_text(text: Any) -> datetime:
    """Inverse of ``text_of_time``, in whatever form of ISO 8601 with a zone; raises ``ValueError`` or ``OverflowError``."""
    return _time(datetime.fromisoformat(_text(text)))


def _checked(values: Mapping[str, Any], name: str, check: Callable[[Any], Any]) -> Any:
    try:
        return check(values[name])
    except _WRONG:
        raise StoreCorrupt(f"the stored key's {name} is missing or wrong") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _refuse(_: str) -> Any:
    raise ValueError("no number in a record is fractional or infinite")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    value.encode()  # a lone surrogate is no text
    return value


def _some_text(value: Any) -> str:
    text = _text(value)
    if not text:
        raise ValueError
    return text


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return tuple(_some_text(item) for item in value)


def _switch(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise ValueError
    return value


def _version(value: Any) -> int:
    version = _count(value)
    if version < 1:
        raise ValueError
    return version


def _secret(value: Any) -> SecretHash:
    return SecretHash.decode(_text(value))


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _metadata(value: Any) -> str:
    """Strictly JSON: the standard library also takes NaN, 1e999 and half surrogates, which nobody could be shown."""
    text = _text(value)
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise ValueError  # noqa: TRY004 - every defect is the same to the caller
    orjson.dumps(found)  # raises TypeError where it nests deeper than can be written
    return text


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


_CHECK_OF_FIELD: Final[tuple[tuple[str, Callable[[Any], Any]], ...]] = (
    ("key_id", _some_text),
    ("organization_id", _some_text),
    ("api_key", _some_text),
    ("secret", _secret),
    ("previous_secret", _optional(_secret)),
    ("previous_expires_at", _optional(_time)),
    ("previous_grace", _optional(_count)),
    ("rotated_at", _optional(_time)),
    ("domains", _texts),
    ("scopes", _texts),
    ("origins", _texts),
    ("networks", _texts),
    ("state", KeyState),
    ("expires_at", _optional(_time)),
    ("critical", _switch),
    ("name", _text),
    ("metadata", _metadata),
    ("created_at", _time),
    ("updated_at", _time),
    ("version", _version),
)
