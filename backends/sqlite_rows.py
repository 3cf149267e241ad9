"""Between records and the rows of SQLite: lists are JSON text, times are ISO 8601 text in UTC of one fixed width.

One width makes times comparable as text. What a row holds may have been written by hand, so whatever does not fit is
``StoreCorrupt`` for that row, and never an exception of another kind.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from backends.codec import TIMES, record_from_values, record_to_values, text_of_time, time_of_text
from backends.errors import StoreCorrupt
from backends.records import KeyRecord, Organization

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "KEY_COLUMNS",
    "ORGANIZATION_COLUMNS",
    "comparable",
    "key_of_row",
    "organization_of_row",
    "row_of_key",
    "row_of_organization",
]

KEY_COLUMNS: Final = KeyRecord.__slots__
ORGANIZATION_COLUMNS: Final = ("organization_id", "is_active", "name", "created_at")

_LISTS: Final = ("domains", "scopes", "origins", "networks")
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def comparable(text: str) -> str | None:
    """What to compare stored text with: ``NULL``, which equals nothing, for what cannot be stored either."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


@lru_cache(64)  # keys of an import have much in common
def _text_of_list(items: tuple[str, ...]) -> str:
    return _ENCODE(items)


@lru_cache(256)  # and what keys have in common is read again and again
def _list_of_text(text: str) -> tuple[Any, ...]:
    items = orjson.loads(text)
    if type(items) is not list:
        raise TypeError("no list")
    return tuple(items)


def row_of_key(record: KeyRecord) -> tuple[Any, ...]:
    """In the order of ``KEY_COLUMNS``."""
    values = record_to_values(record)
    for name in _LISTS:
        values[name] = _text_of_list(values[name])
    for name in TIMES:
        if values[name] is not None:
            values[name] = text_of_time(values[name])
    values["critical"] = int(record.critical)
    return tuple(values[name] for name in KEY_COLUMNS)


def key_of_row(row: Sequence[Any]) -> KeyRecord:
    """Inverse of ``row_of_key``; raises ``StoreCorrupt``."""
    values = dict(zip(KEY_COLUMNS, row, strict=True))
    for name in _LISTS:
        values[name] = _read(values, name, _list_of_text)
    for name in TIMES:
        if values[name] is not None:
            values[name] = _read(values, name, time_of_text)
    values["critical"] = _read(values, "critical", _switch)
    return record_from_values(values)


def row_of_organization(organization: Organization) -> tuple[Any, ...]:
    """In the order of ``ORGANIZATION_COLUMNS``."""
    return (
        organization.organization_id,
        int(organization.is_active),
        organization.name,
        text_of_time(organization.created_at),
    )


def organization_of_row(row: Sequence[Any]) -> Organization:
    """Inverse of ``row_of_organization``; raises ``StoreCorrupt``."""
    values = dict(zip(ORGANIZATION_COLUMNS, row, strict=True))
    return Organization(
        organization_id=_read(values, "organization_id", _text),
        is_active=_read(values, "is_active", _switch),
        name=_read(values, "name", _text),
        created_at=_read(values, "created_at", time_of_text),
    )


def _read(values: dict[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    try:
        return read(values[name])
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise StoreCorrupt(f"the stored {name} is wrong") from None


def _switch(value: Any) -> bool:
    if type(value) is not int or value not in (0, 1):
        raise ValueError("neither 0 nor 1")
    return value == 1


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("no text")
    value.encode()  # what was no UTF-8 was read as lone surrogates
    return value
