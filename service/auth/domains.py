"""Where a key may be used: the one place that parses hosts and decides whether a rule covers an address (contract 1).

Both sides are brought to one canonical form first; whatever has none matches nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import idna

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OWN_HOST", "DomainRules", "Target", "canonical_domain", "parse_target", "parse_target_url"]

OWN_HOST: Final = "@gatekey"
"""The rule that stands for every host on Gatekey's own paths."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_HOST: Final = 253
_MAX_HOST_PORT: Final = _MAX_HOST + len(".:65535") + 8  # and some space around; longer texts must not fill the caches
_MAX_RULE: Final = 2048
_MAX_PORT: Final = 65535
_AMBIGUOUS: Final = re.compile(
    rb"//|\\|[\x00-\x1f\x7f]|/\.{1,2}(?:/|$|;)|%(?:2[ef5]|5c|[01][0-9a-f]|7f)", re.IGNORECASE
)
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_SAFE: Final = "/:@!$&'()*+,;=~"  # what a path may hold unencoded (RFC 3986 3.3)
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#\\]*)(?P<path>/[^?#]*)?(?P<rest>[?#].*)?", re.ASCII | re.IGNORECASE
)


class Target:
    """What a request addresses: canonical scheme, host and effective port, and the path as it was sent."""

    __slots__ = ("host", "path", "port", "scheme")

    def __init__(self, scheme: str, host: str, port: int, path: str) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.path = path


class _HostPort(NamedTuple):
    host: str
    port: int | None


def parse_target(host_header: str, scheme: str, path: str) -> Target | None:
    """The target of a request by its ``Host`` header (``host[:port]``); ``None`` when that is missing or malformed.

    ``scheme`` is ``http`` or ``https``; ``path`` is raw and only looked at when a rule with a path needs it.
    """
    parsed = _parse_host(host_header)
    if parsed is None:
        return None
    return Target(scheme, parsed.host, parsed.port or _DEFAULT_PORTS[scheme], path)


def parse_target_url(text: str) -> Target | None:
    """The target of ``host[:port]`` (then by https) or an ``http(s)://`` URL; ``None`` for anything else."""
    if "://" not in text:
        return parse_target(text, "https", "/")
    match = _URL.fullmatch(text.strip())
    if match is None:
        return None
    return parse_target(match["authority"], match["scheme"].lower(), match["path"] or "/")


def _parse_host(text: str) -> _HostPort | None:
    """Canonical host and explicit port (``None`` where there is none)."""
    return _parse_short_host(text) if len(text) <= _MAX_HOST_PORT else None


@lru_cache(maxsize=8192)
def _parse_short_host(text: str) -> _HostPort | None:
    """Remembered, because hosts repeat."""
    text = text.strip(" \t")
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        canonical, port = _ipv6(host), port[1:] if port else ""
        colon = bool(text.rpartition("]")[2])
    else:
        host, separator, port = text.partition(":")
        canonical, colon = _canonical_host(host), bool(separator)
    if canonical is None or (colon and not _is_port(port)):
        return None
    return _HostPort(canonical, int(port) if colon else None)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len("65535") and 0 < int(text) <= _MAX_PORT


def _ipv6(text: str) -> str | None:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return None
    if address.scope_id is not None or address.ipv4_mapped is not None:
        return None  # a zone means something on one machine only; Python versions spell mapped addresses differently
    return f"[{address.compressed}]"


def _canonical_host(text: str) -> str | None:
    """Lower-cased, IDNA-encoded (UTS 46) and without a trailing dot; ``None`` when it is no host name or IPv4 address."""
    host = text.lower()
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    host = host.removesuffix(".")
    if not 0 < len(host) <= _MAX_HOST or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        return None
    if _ends_in_number(host):  # so it must be an IPv4 address (WHATWG URL, RFC 3986 3.2.2)
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            return None
    return host


def _ends_in_number(host: str) -> bool:
    return host.rpartition(".")[2].isdecimal()


class _Rule(NamedTuple):
    """One parsed rule. ``scheme`` and ``port`` are ``None`` where the rule leaves them to the request."""

    scheme: str | None
    host: str
    port: int | None
    path: str | None
    wildcard: bool

    def text(self) -> str:
        port = "" if self.port is None or self.port == _DEFAULT_PORTS.get(self.scheme or "") else f":{self.port}"
        prefix = "" if self.scheme is None else f"{self.scheme}://"
        return f"{prefix}{'*.' if self.wildcard else ''}{self.host}{port}{quote(self.path or '', _PATH_SAFE)}"

    def covers(self, target: Target) -> bool:
        if self.scheme is not None and target.scheme != self.scheme:
            return False
        if target.port != (self.port or _DEFAULT_PORTS[target.scheme]):
            return False
        return self.path is None or _is_under(target.path, self.path)


def canonical_domain(text: str) -> str:
    """The one spelling of a rule; raises ``ValueError`` (without repeating the text) when it is none."""
    if len(text) > _MAX_RULE:
        raise ValueError(f"must have at most {_MAX_RULE} characters")
    return OWN_HOST if text.strip().lower() == OWN_HOST else _parse_rule(text).text()


@lru_cache(maxsize=8192)
def _parse_rule(text: str) -> _Rule:
    text = text.strip()
    scheme: str | None = None
    path: str | None = None
    authority = text
    if "://" in text:
        match = _URL.fullmatch(text)
        if match is None or match["rest"]:
            raise ValueError("must be a host, host:port, *.host, or an http(s) origin or URL prefix without query")
        scheme, authority = match["scheme"].lower(), match["authority"]
        path = _prefix(match["path"] or "/")
    elif "/" in text:
        raise ValueError("a rule with a path needs a scheme, for instance https://")
    wildcard = authority.startswith("*.")
    parsed = _parse_host(authority.removeprefix("*."))
    if parsed is None or (wildcard and (parsed.host.startswith("[") or _ends_in_number(parsed.host))):
        raise ValueError("is not a host name or IP address with an optional port, * being the whole first label only")
    return _Rule(scheme, parsed.host, parsed.port, path, wildcard)


def _prefix(path: str) -> str | None:
    """The decoded path of a rule without its trailing slash, ``None`` for the root (an origin)."""
    decoded = _decoded(path)
    if decoded is None:
        raise ValueError("its path must have no dot segments, //, backslashes, encoded slashes or control characters")
    return decoded.rstrip("/") or None


def _is_under(path: str, prefix: str) -> bool:
    decoded = _decoded(path)
    return decoded is not None and (decoded == prefix or decoded.startswith(prefix + "/"))


def _decoded(path: str) -> str | None:
    """The path percent-decoded once; ``None`` where two parties could read it differently.

    That is: encoded slashes, dot segments (also with a path parameter), ``//``, backslashes, control characters, any of
    these escaped twice (for whoever decodes once more), and escapes that are none.
    """
    if not path.startswith("/") or "%2f" in path.lower() or _BROKEN_ESCAPE.search(path):
        return None
    try:
        raw = unquote_to_bytes(path)
        return None if _AMBIGUOUS.search(raw) else raw.decode("utf-8")
    except UnicodeError:
        return None


_NO_RULES: Final[dict[str, tuple[_Rule, ...]]] = {}


class DomainRules:
    """The compiled rules of one key. Host rules are one dictionary look-up, whatever their number."""

    __slots__ = ("_exact", "_own", "_wild")

    def __init__(self, own: bool, exact: dict[str, tuple[_Rule, ...]], wild: dict[str, tuple[_Rule, ...]]) -> None:  # noqa: FBT001 - private
        self._own = own
        self._exact = exact
        self._wild = wild or _NO_RULES

    @classmethod
    def compile(cls, texts: Iterable[str]) -> DomainRules:
        """The rules; raises ``ValueError`` for one that is not in canonical form."""
        own = False
        exact: dict[str, tuple[_Rule, ...]] = {}
        wild: dict[str, tuple[_Rule, ...]] = {}
        for text in texts:
            if text == OWN_HOST:
                own = True
                continue
            rule = _parse_rule(text)
            if rule.text() != text:
                raise ValueError("is not in canonical form")
            table = wild if rule.wildcard else exact
            table[rule.host] = (*table.get(rule.host, ()), rule)
        return cls(own, exact, wild)

    def match(self, target: Target | None, *, own_path: bool) -> bool:
        """Whether one of the rules covers the target; ``@gatekey`` does on Gatekey's own paths (of a usable host)."""
        if target is None:
            return False
        if own_path and self._own:
            return True
        for rule in self._exact.get(target.host, ()):  # a loop: on the way of every request, a generator costs more
            if rule.covers(target):
                return True
        return bool(self._wild) and any(
            rule.covers(target) for rule in self._wild.get(target.host.partition(".")[2], ())
        )
