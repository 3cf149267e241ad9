"""Who may tell us about a client, and which address the client then has."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.doors.raw import RawRequest

__all__ = ["FORWARDED_SCHEMES", "TrustedProxies", "parse_address"]

FORWARDED_SCHEMES: Mapping[str, str] = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""What ``X-Forwarded-Proto`` may say; a websocket is an HTTP request."""


_MAX_REMEMBERED: Final = 128  # characters of a list of hops; strangers choose it
_MAX_ADDRESS: Final = 64  # characters: the longest IPv6 address in brackets with a port, and some space around


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in ``text``, also with a port (``192.0.2.1:80``, ``[2001:db8::1]:80``); ``None`` for anything else.

    An IPv4-mapped IPv6 address is its IPv4 address, so that one network rule covers both spellings.
    """
    return _parse_short(text) if len(text) <= _MAX_ADDRESS else None  # longer texts must not fill the memory


@lru_cache(maxsize=8192)
def _parse_short(text: str) -> IPv4Address | IPv6Address | None:
    """Remembered, because addresses repeat."""
    candidate = text.strip()
    if candidate.startswith("["):
        candidate, bracket, port = candidate[1:].partition("]")
        if not bracket or (port and not (port[0] == ":" and port[1:].isdecimal())):
            return None
    elif candidate.count(":") == 1:
        candidate, _, port = candidate.partition(":")
        if not port.isdecimal():
            return None
    try:
        address = ip_address(candidate)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def _canonical(peer: str) -> str:
    address = parse_address(peer)
    return "" if address is None else str(address)


class TrustedProxies:
    """The networks whose word about a client counts (``GATEKEY_TRUSTED_PROXIES``).

    A Unix socket's peer (``""``) is trusted: who may open the socket is decided by its file's permissions.
    """

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self.trusts = lru_cache(maxsize=8192)(self._trusts)
        self._walk_known = lru_cache(maxsize=8192)(self._walk)
        self._own = lru_cache(maxsize=8192)(_canonical)

    def _trusts(self, peer: str) -> bool:
        if not peer:
            return True
        address = parse_address(peer)
        return address is not None and self.covers(address)

    def covers(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether the address lies in one of the networks."""
        return any(address in network for network in self._networks)

    def client(self, peer: str, forwarded_for: Sequence[str]) -> str | None:
        """The client's address by ``X-Forwarded-For`` lines of ``peer``, canonical; ``None`` when they are malformed.

        From a peer that is not trusted the header counts for nothing and the peer is the client. Else the list is
        walked from the right past trusted addresses to the first other one; when all are trusted, the first is it.
        """
        if not forwarded_for or not self.trusts(peer):
            return self._own(peer)
        line = ",".join(forwarded_for)
        return self._walk_known(line) if len(line) <= _MAX_REMEMBERED else self._walk(line)

    def _walk(self, line: str) -> str | None:
        address: IPv4Address | IPv6Address | None = None
        for hop in reversed(line.split(",")):
            address = parse_address(hop)
            if address is None:
                return None
            if not self.covers(address):
                break
        return str(address)

    def scheme_and_client(self, raw: RawRequest) -> tuple[str, str]:
        """The client's scheme and address outside the doors: ``X-Forwarded-Proto`` and ``-For`` of a trusted peer.

        A malformed header counts as "unknown": the connection's own scheme, and no address (``""``).
        """
        scheme = raw.scheme
        if self.trusts(raw.peer):
            scheme = FORWARDED_SCHEMES.get(raw.header("x-forwarded-proto").lower(), scheme)
        return scheme, self.client(raw.peer, raw.headers("x-forwarded-for")) or ""
