"""Text that is safe in a log: what a client sent is cut, made printable, and never breaks a line or its encoding."""

from __future__ import annotations

from time import gmtime, strftime
from typing import Any, Final

import orjson

__all__ = ["json_line", "printable", "timestamp"]

_MICRO: Final = 1_000_000
_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def printable(text: str, limit: int) -> str:
    r"""Return at most ``limit`` characters, those that are not printable as ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``.

    Not printable are control characters, line and paragraph separators, direction marks and lone surrogates: what a
    terminal or a log viewer obeys instead of showing it.
    """
    text = text[:limit]
    if text.isprintable():
        return text
    escaped = (
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )
    return "".join(escaped)[:limit]


def timestamp(wall: float) -> str:
    """Return seconds since the Unix epoch as RFC 3339 in UTC with microseconds.

    The part up to the second is made once a second; threads that race for it write the same.
    """
    global _second  # noqa: PLW0603 - a memory of one entry, replaced as a whole
    second, micro = divmod(round(wall * _MICRO), _MICRO)
    known, text = _second
    if known != second:
        text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        _second = (second, text)
    return f"{text}.{micro:06d}Z"


def json_line(event: dict[str, Any]) -> bytes:
    """Return the event as one line of JSON with its newline; all text must be encodable."""
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
