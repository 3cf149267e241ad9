"""How long something lasts, as people write it: in options of commands and in JSON alike, within the same bounds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

__all__ = ["DURATION", "IN_WORDS", "read_duration", "whole_seconds"]

DURATION: Final = "[0-9]{1,9}[smhdw]"
"""Its form."""
IN_WORDS: Final = "a number with a unit, s, m, h, d or w, such as 90d"

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_TOO_LONG: Final = 100 * 366 * 86_400


def read_duration(text: str) -> timedelta:
    """``90d``, ``12h``, ``30m``, ``45s``, ``2w``; raises ``ValueError``."""
    if not re.fullmatch(DURATION, text):
        raise ValueError(f"must be {IN_WORDS}")
    return whole_seconds(int(text[:-1]) * _SECONDS[text[-1]])


def whole_seconds(seconds: int) -> timedelta:
    """The same as a number; raises ``ValueError`` outside the bounds."""
    if not 0 <= seconds < _TOO_LONG:
        raise ValueError("must be 0 to 100 years")
    return timedelta(seconds=seconds)
