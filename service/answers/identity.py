"""The headers of an allow: the identity, and that the days of a secret from before a rotation are numbered.

Identity (contract 3) is all there every time, so that a proxy overwrites what a client forged.
"""

from __future__ import annotations

from email.utils import format_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from service.auth.loaded import LoadedKey

__all__ = ["EMPTY_IDENTITY", "identity_headers", "rotation_headers"]

# Printable ASCII stays readable; "%" and all else is percent-encoded, so that no server mangles, drops or splits a value.
_SAFE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

Headers = tuple[tuple[str, str], ...]


def _headers(organization: str, key_id: str, scopes: str, method: str) -> Headers:
    return (
        ("x-gatekey-organization", organization),
        ("x-gatekey-key-id", key_id),
        ("x-gatekey-scopes", scopes),
        ("x-gatekey-subject", ""),
        ("x-gatekey-method", method),
    )


EMPTY_IDENTITY: Final = _headers("", "", "", "")
"""Nobody: a preflight, or what shadow mode let through."""


def identity_headers(key: LoadedKey) -> Headers:
    """The headers for a key's principal. Made anew each time: to look them up among a million would cost more."""
    organization, key_id, scopes = key.organization_id, key.key_id, key.terms.scope_text
    texts = f"{organization}{key_id}{scopes}"
    if not texts.isascii() or not texts.isprintable() or "%" in texts:  # hardly ever: no name of ours is like that
        organization, key_id, scopes = (quote(text, safe=_SAFE) for text in (organization, key_id, scopes))
    return _headers(organization, key_id, scopes, "api-key")


def rotation_headers(key: LoadedKey) -> Headers:
    """``Deprecation`` (RFC 9745) and, where its end is known, ``Sunset`` (RFC 8594) of the secret that was presented."""
    record = key.rotation
    if record is None:
        return ()
    since = record.rotated_at or record.updated_at
    headers = (("deprecation", f"@{int(since.timestamp())}"),)
    if record.previous_expires_at is None:
        return headers
    return (*headers, ("sunset", format_datetime(record.previous_expires_at, usegmt=True)))
