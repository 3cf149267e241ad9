"""The headers of an allow: the identity, and that the days of a secret from before a rotation are numbered.

Identity (contract 3) is all there every time, so that a proxy overwrites what a client forged.
"""

from __future__ import annotations

from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from backends.records import KeyRecord

__all__ = ["EMPTY_IDENTITY", "identity_headers", "rotation_headers"]

# Printable ASCII stays readable; "%" and all else is percent-encoded, so that no server mangles, drops or splits a value.
_SAFE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

Headers = tuple[tuple[str, str], ...]


def _headers(organization: str, key_id: str, scopes: str, method: str) -> Headers:
    return (
        ("x-gatekey-organization", quote(organization, safe=_SAFE)),
        ("x-gatekey-key-id", quote(key_id, safe=_SAFE)),
        ("x-gatekey-scopes", quote(scopes, safe=_SAFE)),
        ("x-gatekey-subject", ""),
        ("x-gatekey-method", method),
    )


EMPTY_IDENTITY: Final = _headers("", "", "", "")
"""Nobody: a preflight, or what shadow mode let through."""


def identity_headers(key: KeyRecord) -> Headers:
    """The headers for a key's principal."""
    return _for_key(key.organization_id, key.key_id, key.scopes)


@lru_cache(maxsize=65536)
def _for_key(organization_id: str, key_id: str, scopes: tuple[str, ...]) -> Headers:
    return _headers(organization_id, key_id, " ".join(scopes), "api-key")


def rotation_headers(key: KeyRecord) -> Headers:
    """``Deprecation`` (RFC 9745) and, where its end is known, ``Sunset`` (RFC 8594) of the secret that was presented."""
    since = key.rotated_at or key.updated_at
    headers = (("deprecation", f"@{int(since.timestamp())}"),)
    if key.previous_expires_at is None:
        return headers
    return (*headers, ("sunset", format_datetime(key.previous_expires_at, usegmt=True)))
