"""What else a key is bound to: origins, client networks and scopes; canonical text when written, compiled when loaded."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from service.auth.domains import DomainRules, canonical_domain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backends.records import KeyRecord

__all__ = [
    "MAX_SCOPES",
    "RESERVED_SCOPES",
    "KeyRules",
    "canonical_network",
    "canonical_origin",
    "canonical_scope",
    "missing_scopes",
]

MAX_SCOPES: Final = 32
RESERVED_SCOPES: Final = "gatekey:"
"""How the scopes begin that are for Gatekey's own API."""

_NO_ORIGINS: Final[frozenset[str]] = frozenset()
_MAX_ORIGIN: Final = 300  # characters: scheme, the longest host, a port; longer texts must not fill the cache
_SCOPE: Final = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,64}")  # scope-token of RFC 6749 3.3, without comma


def canonical_origin(text: str) -> str:
    """``scheme://host[:port]`` in lower case without a default port (RFC 6454); raises ``ValueError``."""
    origin = canonical_domain(text)
    scheme, separator, authority = origin.partition("://")
    if not separator or "/" in authority or "*" in authority or scheme not in ("http", "https"):
        raise ValueError("must be an origin, scheme://host[:port]")
    return origin


def canonical_network(text: str) -> str:
    """A network in CIDR notation (a single address is a network of its own); raises ``ValueError``."""
    try:
        network = ip_network(text.strip())
    except ValueError:
        raise ValueError("must be an IP network such as 192.0.2.0/24, without host bits") from None
    if isinstance(network, IPv6Network):
        if network.network_address.ipv4_mapped is not None:
            raise ValueError("must be written as an IPv4 network")
        if network.network_address.scope_id is not None:
            raise ValueError("must have no zone: it means something on one machine only")
    return str(network)


def canonical_scope(text: str) -> str:
    """The scope itself when it is one: 1 to 64 printable characters, ``*`` only at the end after ``:``.

    Raises ``ValueError``. Wildcards never reach ``gatekey:`` scopes, so ``gatekey:*`` is none.
    """
    if not _SCOPE.fullmatch(text):
        raise ValueError("must be 1 to 64 characters of printable ASCII without space, comma, quote or backslash")
    if "*" in text and (not text.endswith(":*") or text.count("*") > 1 or text.startswith(RESERVED_SCOPES)):
        raise ValueError("may hold * only as its last part, as in orders:*, and not for gatekey: scopes")
    return text


def missing_scopes(granted: tuple[str, ...], required: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``required`` that ``granted`` does not cover; ``orders:*`` covers ``orders:read``, never ``gatekey:…``."""
    return tuple(scope for scope in required if scope not in granted and not _covered(granted, scope))


def _covered(granted: tuple[str, ...], scope: str) -> bool:
    if scope.startswith(RESERVED_SCOPES):
        return False
    return any(grant.endswith(":*") and scope.startswith(grant[:-1]) for grant in granted)


@lru_cache(maxsize=8192)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


@lru_cache(maxsize=8192)
def _origin(text: str) -> str | None:
    try:
        return canonical_origin(text)
    except ValueError:
        return None


class KeyRules:
    """All rules of one key, compiled."""

    __slots__ = ("_networks", "_origins", "domains")

    def __init__(
        self, domains: DomainRules, origins: frozenset[str], networks: tuple[IPv4Network | IPv6Network, ...]
    ) -> None:
        self.domains = domains
        self._origins = origins
        self._networks = networks

    @classmethod
    def compile(cls, record: KeyRecord) -> KeyRules:
        """The record's rules; raises ``ValueError`` when one is not in canonical form, which makes the record corrupt."""
        _canonical(record.origins, canonical_origin)
        _canonical(record.networks, canonical_network)
        _canonical(record.scopes, canonical_scope)
        if len(record.scopes) > MAX_SCOPES:
            raise ValueError("has too many scopes")
        return cls(
            DomainRules.compile(record.domains),
            frozenset(record.origins) if record.origins else _NO_ORIGINS,
            tuple(ip_network(text) for text in record.networks),
        )

    def origin_allowed(self, origin: str | None) -> bool:
        """Whether the request's ``Origin`` may use the key; a key bound to origins refuses a request without one."""
        if not self._origins:
            return True
        return origin is not None and len(origin) <= _MAX_ORIGIN and _origin(origin) in self._origins

    def network_allowed(self, ip: str) -> bool:
        """Whether the client's address may use the key; a key bound to networks refuses an unknown address."""
        if not self._networks:
            return True
        address = _address(ip)
        return address is not None and any(address in network for network in self._networks)


def _canonical(texts: Iterable[str], canonical: Callable[[str], str]) -> None:
    for text in texts:
        if canonical(text) != text:
            raise ValueError("is not in canonical form")
