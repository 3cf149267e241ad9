"""What is probed: the site's address, the caller's key, and what the operator says about both."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from service.auth.secret import Secret

__all__ = ["Key", "Site", "Situation", "parse_address", "parse_path", "parse_site"]

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[0-9A-Za-z._-]{1,253}|[0-9A-Fa-f:.]{2,45}")  # a name or an IPv4 address | an IPv6 address
_PATH: Final = re.compile(r"/[\x21\x24-\x3e\x40-\x7e]*")  # no space, quote, "#", "?" or control character


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A public address. ``connect`` is where the socket really goes (the name's own address unless told otherwise)."""

    scheme: str
    host: str
    port: int
    path: str
    connect: tuple[str, int]

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header: as a browser writes it, without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that is valid for the site."""

    api_key: str
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a probe may know. ``marker`` is a random word that only this run uses, to be recognized in an echo."""

    site: Site
    key: Key | None = field(default=None, repr=False)
    echo_path: str = ""
    client: str = "auto"
    marker: str = "doctor"

    @property
    def valid_key(self) -> Key:
        """The key; ``LookupError`` without one, since a probe that needs it does not run then."""
        if self.key is None:
            raise LookupError("no key was given")
        return self.key


def parse_site(url: str, connect: tuple[str, int] | None = None) -> Site:
    """The site at ``url``; ``ValueError`` says what is wrong with it, without repeating it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is no URL") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("it must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it must not hold credentials")
    if "?" in url or "#" in url:
        raise ValueError("it must not have a query or a fragment")
    host = _ascii_host(parts.hostname)
    port = _PORTS[parts.scheme] if port is None else port
    return Site(
        scheme=parts.scheme, host=host, port=port, path=parse_path(parts.path or "/"), connect=connect or (host, port)
    )


def parse_path(path: str) -> str:
    """A plain path, as it goes into a request line; ``ValueError`` otherwise."""
    if not _PATH.fullmatch(path):
        raise ValueError("its path must begin with a slash and be percent-encoded where it is not plain ASCII")
    return path


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT``; ``ValueError`` otherwise."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not _HOST.fullmatch(host) or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:  # noqa: PLR2004 - TCP
        raise ValueError("it must be HOST:PORT")
    return host, int(port)


def _ascii_host(host: str) -> str:
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("its host is no host name") from None
    if not _HOST.fullmatch(ascii_host):
        raise ValueError("its host is no host name")
    return ascii_host
