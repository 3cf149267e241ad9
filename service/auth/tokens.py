"""The form of Gatekey's own keys and secrets: prefix, entropy, checksum (contract 1).

The checksum lets a mistyped or made-up token be refused without asking anybody, and leak scanners be sure.
"""

from __future__ import annotations

import re
import secrets
import zlib
from typing import TYPE_CHECKING, Final, Literal

from service.auth.secret import Secret

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "MAX_LENGTH",
    "api_key_problem",
    "checksum",
    "generate_api_key",
    "generate_key_id",
    "generate_secret_token",
    "secret_problem",
]

MAX_LENGTH: Final = 256
"""Characters that an ``api_key`` or a ``secret_token`` may have."""

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
"""All pairs of digits: three look-ups make a checksum, which every request computes."""

_CHECKSUM_LENGTH: Final = 6
_KEY_BODY: Final = 22  # base62 digits: 131 bits
_SECRET_BODY: Final = 43  # base62 digits: 256 bits
_OWN_KEY: Final = re.compile(r"gk_(?:live|test)_[0-9A-Za-z]{28}")
_OWN_SECRET: Final = re.compile(r"gks_[0-9A-Za-z]{49}")
_PRINTABLE: Final = re.compile(rf"[\x21-\x2b\x2d-\x7e]{{1,{MAX_LENGTH}}}")  # printable ASCII without space and comma


def checksum(text: str) -> str:
    """CRC-32 of ``text`` (ASCII) in base62, left-padded with ``0`` to six digits."""
    rest, low = divmod(zlib.crc32(text.encode("ascii")), len(_PAIRS))
    high, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def generate_api_key(env: Literal["live", "test"]) -> str:
    """A new public handle, ``gk_<env>_<22 base62><6 checksum>``."""
    body = f"gk_{env}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_KEY_BODY))
    return body + checksum(body)


def generate_secret_token() -> Secret:
    """A new secret of 256 bits, ``gks_<43 base62><6 checksum>``."""
    body = "gks_" + _base62(secrets.randbits(256), _SECRET_BODY)
    return Secret(body + checksum(body))


def generate_key_id(now: datetime) -> str:
    """A new identifier that sorts by the time of its making: ``key_`` and 32 hex digits (48 bits of ms, 80 random)."""
    return f"key_{int(now.timestamp() * 1000):012x}{secrets.randbits(80):020x}"


def api_key_problem(text: str) -> str | None:
    """What is wrong with an ``api_key``, without repeating it; ``None`` when it may exist."""
    return _problem(text, "gk_", _OWN_KEY)


def secret_problem(text: str) -> str | None:
    """What is wrong with a ``secret_token``, without repeating it; ``None`` when it may exist."""
    return _problem(text, "gks_", _OWN_SECRET)


def _problem(text: str, prefix: str, own: re.Pattern[str]) -> str | None:
    if own.fullmatch(text):
        return None if text.endswith(checksum(text[:-_CHECKSUM_LENGTH])) else "its checksum is wrong"
    if not _PRINTABLE.fullmatch(text):
        return f"must be 1 to {MAX_LENGTH} characters of printable ASCII without space or comma"
    return f"begins with {prefix} but has not that form" if text.startswith(prefix) else None  # others are imported


def _base62(number: int, length: int) -> str:
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits)).rjust(length, "0")
