"""What a ``redis://`` or ``rediss://`` URL says.

Every part is checked when the store is made, and no error repeats the URL or a value: either may hold a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["RedisOptions", "parse_url"]

_DEFAULT_PORT: Final = 6379
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # no braces: they mark what decides a key's slot
_MAX_POOL: Final = 1_000
_SWITCH: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Where the server is and how it is talked to."""

    host: str
    port: int = _DEFAULT_PORT
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "gk"
    pool_size: int = 20
    tls: Mapping[str, Any] | None = None
    """Arguments of the driver's TLS connection; ``None`` for a connection in clear."""


def parse_url(url: str) -> RedisOptions:
    """The options of ``redis[s]://[user:password@]host[:port][/db][?option=value&…]``; raises ``ValueError``."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("redis: the URL's host or port cannot be read") from None
    if not host:
        raise ValueError("redis: the URL names no host")
    if parts.fragment:
        raise ValueError("redis: the URL has a fragment (write # in a password as %23)")
    options = _options(parts.query)
    tls = {name: options.pop(name) for name in tuple(options) if name.startswith("ssl_")}
    if parts.scheme != "rediss" and tls:
        raise ValueError(f"redis: the option {min(tls)} is for rediss:// only")
    return RedisOptions(
        host=host,
        port=_DEFAULT_PORT if port is None else port,
        db=_database(parts.path),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=tls if parts.scheme == "rediss" else None,
        **options,
    )


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _READERS:
            # what has no value may be anything, part of a password for one
            shown = name if value and re.fullmatch(r"[a-z_]{1,32}", name) else "(not shown)"
            raise ValueError(f"redis: unknown option {shown}; known: {', '.join(sorted(_READERS))}")
        if name in found:
            raise ValueError(f"redis: the option {name} stands twice")
        try:
            found[name] = _READERS[name](value)
        except (ValueError, KeyError):
            raise ValueError(f"redis: the value of the option {name} is wrong") from None
    return found


def _database(path: str) -> int:
    number = path.strip("/")
    if number and not (number.isascii() and number.isdecimal()):
        raise ValueError("redis: the URL's path is the number of a database")
    return int(number or "0")


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError
    return value


def _pool_size(value: str) -> int:
    if not 1 <= int(value) <= _MAX_POOL:
        raise ValueError
    return int(value)


def _file(value: str) -> str:
    if not Path(value).is_file():
        raise ValueError
    return value


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "prefix": _prefix,
    "pool_size": _pool_size,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_check_hostname": lambda value: _SWITCH[value.lower()],
}
