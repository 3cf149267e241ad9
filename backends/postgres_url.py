"""From ``postgresql://…`` to how to connect; no message repeats anything of the URL, which may hold a password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

__all__ = ["ConnectOptions", "StoreOptions", "parse_url"]

_SCHEMA: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,47}")  # short enough that channel names fit into 63 bytes
_HOST: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]{1,5})?)?")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS: Final = ("any", "primary", "read-write")
_PASSED_ON: Final = frozenset(
    {
        "application_name", "database", "dbname", "gsslib", "host", "krbsrvname", "options", "passfile", "password",
        "port", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert",
        "ssl_max_protocol_version", "ssl_min_protocol_version", "target_session_attrs", "user",
    }
)  # fmt: skip
_OWN: Final = ("connect_timeout", "pgbouncer", "pool_size", "schema")
_CONNECT_TIMEOUT: Final = 2.0
"""Seconds for all hosts together; a server that answers at all does so much sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """One way to the server. ``hosts`` are tried one after the other; none means that the driver finds them itself."""

    dsn: str = field(repr=False)
    hosts: tuple[tuple[str, int | None], ...] = field(repr=False)
    target_session_attrs: str | None
    names_itself: bool
    """The URL gives an ``application_name``."""
    timeout: float
    pgbouncer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """What the URL of a store says."""

    connect: ConnectOptions
    schema: str
    pool_size: int


def parse_url(url: str) -> StoreOptions:
    """Raises ``ValueError`` that names what is wrong and never its value."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("the postgresql:// URL cannot be read: percent-encode what is special in it") from None
    if parts.scheme != "postgresql" or parts.fragment:
        raise ValueError("a postgresql:// URL is wanted, without a fragment (percent-encode # in a password)")
    options = dict(pairs)
    if len(options) != len(pairs):
        raise ValueError("an option of the postgresql:// URL is given twice")
    if not options.keys() <= _PASSED_ON.union(_OWN):
        known = ", ".join(sorted(_PASSED_ON.union(_OWN)))
        raise ValueError(f"an option of the postgresql:// URL is not known; known are {known}")
    passed_on = {name: value for name, value in options.items() if name in _PASSED_ON}
    hosts = _hosts(parts.netloc.rpartition("@")[2])
    return StoreOptions(
        connect=ConnectOptions(
            dsn=urlunsplit(parts._replace(query=urlencode(passed_on))),
            hosts=() if "host" in options else hosts,
            target_session_attrs=_session(options, several=len(hosts) > 1 or "," in options.get("host", "")),
            names_itself="application_name" in options,
            timeout=float(_number(options, "connect_timeout", _CONNECT_TIMEOUT, 1, 60)),
            pgbouncer=_choice(options, "pgbouncer", ("false", "true")) == "true",
        ),
        schema=_schema(options),
        pool_size=int(_number(options, "pool_size", 10, 1, 1_000)),
    )


def _hosts(text: str) -> tuple[tuple[str, int | None], ...]:
    found = []
    for item in text.split(",") if text else ():
        match = _HOST.fullmatch(item)
        if match is None:
            raise ValueError("a host of the postgresql:// URL cannot be read (is an @ or : in the password encoded?)")
        port = int(match["port"]) if match["port"] else None
        if port is not None and not 0 < port < 65_536:  # noqa: PLR2004 - what a port is
            raise ValueError("a port of the postgresql:// URL is not 1 to 65535")
        found.append((unquote(match["host"]).strip("[]") or "localhost", port))
    return tuple(found)


def _session(options: dict[str, str], *, several: bool) -> str | None:
    """Of several hosts the one that can be written to: a copy that lags would bring back a record from before a revocation."""
    _choice(options, "sslmode", _SSL_MODES)
    return _choice(options, "target_session_attrs", _SESSIONS) or ("read-write" if several else None)


def _schema(options: dict[str, str]) -> str:
    schema = options.get("schema", "public")
    if not _SCHEMA.fullmatch(schema):
        raise ValueError("schema of the postgresql:// URL is not a name of a-z, 0-9 and _ with at most 48 characters")
    return schema


def _choice(options: dict[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    value = options.get(name)
    if value is not None and value not in choices:
        raise ValueError(f"{name} of the postgresql:// URL is none of {', '.join(choices)}")
    return value


def _number(options: dict[str, str], name: str, default: float, least: int, most: int) -> float:
    value = options.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,5}", value) or not least <= int(value) <= most:
        raise ValueError(f"{name} of the postgresql:// URL is not a number from {least} to {most}")
    return int(value)
