"""From a URL to a store: the built-in schemes and those of installed packages (entry points of ``gatekey.stores``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from backends.errors import StoreError, UnknownScheme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.contract import KeyStore

__all__ = ["GROUP", "SCHEMES", "certificate_files", "create_store", "find_schemes"]

GROUP: Final = "gatekey.stores"
"""Entry-point group: the name is the URL scheme, the object a callable ``from_url(url) -> KeyStore``."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}")  # RFC 3986 3.1

_Loader = Callable[[], Callable[..., "KeyStore"]]

_LISTENING: Final = frozenset({"postgresql"})
"""Schemes whose servers are reached through poolers that cannot carry announcements."""

_CERTIFICATES: Final = {
    "sslcert": "store_client",
    "sslrootcert": "store_ca",
    "ssl_certfile": "store_client",
    "ssl_ca_certs": "store_ca",
}
"""The options of Postgres' and of Redis' URLs that name files of certificates, and what those are."""

_BUILT_IN: Final = {
    "memory": "backends.memory:MemoryKeyStore",
    "postgresql": "backends.postgres:PostgresKeyStore",
    "redis": "backends.redis:RedisKeyStore",
    "rediss": "backends.redis:RedisKeyStore",
    "sqlite": "backends.sqlite:SqliteKeyStore",
}
"""Imported when they are used: a process that keeps keys in SQLite needs no driver for Postgres in its memory."""


def find_schemes() -> Mapping[str, _Loader]:
    """All schemes of this installation, each with what loads its ``from_url``. Built-in schemes cannot be replaced."""
    found: dict[str, _Loader] = {point.name: _plugin(point) for point in entry_points(group=GROUP)}
    found.update({scheme: _built_in(place) for scheme, place in _BUILT_IN.items()})
    return MappingProxyType(found)


def _built_in(place: str) -> _Loader:
    def load() -> Callable[..., KeyStore]:
        module, _, name = place.partition(":")
        from_url: Callable[..., KeyStore] = getattr(import_module(module), name).from_url
        return from_url

    return load


def _plugin(point: EntryPoint) -> _Loader:
    def load() -> Callable[..., KeyStore]:
        try:
            from_url: Callable[..., KeyStore] = point.load()
        except Exception as error:
            package = point.dist.name if point.dist is not None else point.value
            raise StoreError(f"the store for {point.name}:// in the package {package} cannot be loaded") from error
        if not callable(from_url):
            raise StoreError(f"the entry point of the store for {point.name}:// is no callable")
        return from_url

    return load


SCHEMES: Final = find_schemes()
"""The schemes that were installed when the process started."""


def create_store(url: str, *, listen_url: str | None = None) -> KeyStore:
    """The store for ``url``, not yet open; ``listen_url`` is a direct way to the same server, for announcements.

    Only ``postgresql://`` takes one; ``ValueError`` for every other scheme. Raises ``UnknownScheme`` (naming the scheme and
    the known ones, never the rest of the URL, which may hold a password), ``StoreError`` for a package that cannot be
    loaded, and ``ValueError`` where the URL itself is wrong.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        shown = scheme if separator and _SCHEME.fullmatch(scheme) else "(none)"
        raise UnknownScheme(f"no store for the scheme {shown}; known: {', '.join(sorted(SCHEMES))}")
    from_url = SCHEMES[scheme]()
    if listen_url is None:
        return from_url(url)
    if scheme not in _LISTENING:
        raise ValueError(f"{scheme}:// takes no listen URL of its own")
    return from_url(url, listen_url=listen_url)


def certificate_files(url: str) -> Mapping[str, Path]:
    """The files that a built-in store's URL names: of its own certificate (``store_client``), of authorities (``store_ca``)."""
    scheme, _, rest = url.partition("://")
    options = parse_qsl(rest.partition("?")[2]) if scheme in _BUILT_IN else []
    return {_CERTIFICATES[name]: Path(value) for name, value in options if name in _CERTIFICATES}
