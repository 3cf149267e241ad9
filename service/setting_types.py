"""How the text of a setting becomes a value, one function for each kind; what is said of a wrong one never repeats it."""

from __future__ import annotations

import base64
import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.auth.domains import parse_target, parse_target_url
from service.auth.key_fields import SLUG
from service.auth.rules import canonical_network, canonical_origin
from service.auth.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Network",
    "choice",
    "file_path",
    "host_name",
    "host_port",
    "hosts",
    "login_url",
    "networks",
    "number",
    "pepper_table",
    "public_url",
    "secret_text",
    "slug",
    "store_url",
    "switch",
    "whole_number",
]

Network = IPv4Network | IPv6Network

MIN_PEPPER: Final = 32  # bytes
_MAX_PORT: Final = 65535
_MAX_PATH: Final = 4096
_DIGITS: Final = 20  # far more than any number here needs, and few enough to convert at once
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\x00-\x1f\x7f]*")
_VERSION: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic reports ValueError, and lets TypeError through
    return value.strip()


def _items(value: Any) -> list[str]:
    """The items of a list in TOML, or of text with commas."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise ValueError("must be a list of text")


def number(low: float, high: float) -> Callable[[Any], float]:
    """A number within bounds, both included."""

    def read(value: Any) -> float:
        try:
            found = float(value) if not isinstance(value, bool) and len(str(value)) <= _DIGITS else None
        except (ValueError, TypeError):
            found = None
        if found is None or not low <= found <= high:  # not a number (NaN) is in no range
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return found

    return read


def whole_number(low: int, high: int) -> Callable[[Any], int]:
    """A whole number within bounds, both included."""

    def read(value: Any) -> int:
        text = str(value).strip()
        if not text.isdecimal() or len(text) > _DIGITS or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def choice(*allowed: str) -> Callable[[Any], str]:
    """One of a few words, in upper or lower case."""

    def read(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return word

    return read


def switch(value: Any) -> bool:
    """On or off."""
    known = {"on": True, "true": True, "off": False, "false": False}
    found = value if isinstance(value, bool) else known.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be on or off")
    return found


def slug(value: Any) -> str:
    """An organization's identifier."""
    if not isinstance(value, str) or not re.fullmatch(SLUG, value):
        raise ValueError("must be an organization's identifier (lower-case letters, digits and -)")
    return value


def networks(value: Any) -> tuple[Network, ...]:
    """IP networks; a single address is a network of its own."""
    try:
        return tuple(ip_network(canonical_network(item)) for item in _items(value))
    except ValueError:
        raise ValueError(
            "must be IP networks without host bits, such as 10.0.0.0/8, or addresses, separated by commas"
        ) from None


def hosts(value: Any) -> tuple[str, ...]:
    """Host names in their canonical form; a leading dot covers the sub-domains."""
    found = []
    for item in _items(value):
        dot = "." if item.startswith(".") else ""
        name = item.removeprefix(".")
        target = None if "/" in name or ":" in name else parse_target(name, "https", "/")
        if target is None:
            raise ValueError(
                "must be host names without port, separated by commas; .example.com covers its sub-domains"
            )
        found.append(dot + target.host)
    return tuple(found)


def host_name(value: Any) -> str:
    """An address or a host name to listen on."""
    text = _text(value).removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    if ":" in text or parse_target(text, "http", "/") is None:
        raise ValueError("must be an IP address or a host name")
    return text


def host_port(value: Any) -> tuple[str, int]:
    """``host:port``."""
    host, _, port = (value if isinstance(value, str) else "").strip().rpartition(":")
    try:
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError("an IPv6 address stands in brackets")  # noqa: TRY301 - one message for all defects
        return host_name(host), whole_number(1, _MAX_PORT)(port)
    except ValueError:
        raise ValueError("must be host:port") from None


def public_url(value: Any) -> str:
    """An origin."""
    try:
        return canonical_origin(_text(value).rstrip("/"))
    except ValueError:
        raise ValueError("must be an origin such as https://auth.example.com") from None


def login_url(value: Any) -> str:
    """A path on Gatekey's own host, or an absolute address."""
    text = _text(value)
    local = text.startswith("/") and not text.startswith("//")
    remote = "://" in text and parse_target_url(text) is not None
    if not (local or remote) or not text.isascii() or not text.isprintable() or re.search(r"[\\ #]", text):
        raise ValueError("must be a path that begins with one /, or an http(s) URL")
    return text


def file_path(longest: int = _MAX_PATH) -> Callable[[Any], Path]:
    """A path; a Unix socket's must be short."""

    def read(value: Any) -> Path:
        if not isinstance(value, str) or not value or not value.isprintable() or len(value.encode()) > longest:
            raise ValueError(f"must be a path of at most {longest} bytes")
        return Path(value)

    return read


def secret_text(value: Any) -> Secret:
    """Text that nothing shows."""
    if isinstance(value, Secret):
        return value
    try:
        value.encode("utf-8")
    except (AttributeError, UnicodeEncodeError):  # no text, or bytes that are not UTF-8 in the environment
        raise ValueError("must be text in UTF-8") from None
    return Secret(value)


def store_url(value: Any) -> Secret:
    """A URL that may hold a password."""
    secret = secret_text(value)
    if not _URL.fullmatch(secret.reveal()):
        raise ValueError("must be a URL such as memory://")
    return secret


def pepper_table(text: str) -> dict[int, bytes]:
    """``2:<base64>,1:<base64>``, by version; raises ``ValueError``."""
    by_version: dict[int, bytes] = {}
    for item in text.split(","):
        version, _, encoded = item.strip().partition(":")
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            data = b""
        if not _VERSION.fullmatch(version) or len(data) < MIN_PEPPER or int(version) in by_version:
            raise ValueError(
                f"must be <version>:<base64 of at least {MIN_PEPPER} bytes>, separated by commas, each version once"
            )
        by_version[int(version)] = data
    return by_version
