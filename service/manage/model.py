"""What goes into the management and what comes out of it; frozen, and free of secrets but for ``IssuedKey``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from service.auth.key_fields import DEFAULT_GRACE, DEFAULT_LIMIT

if TYPE_CHECKING:
    from datetime import datetime

    from backends.records import KeyRecord
    from service.auth.keyfile import LineProblem
    from service.auth.secret import Secret

__all__ = ["DEFAULT_GRACE", "DEFAULT_LIMIT", "ImportReport", "InForce", "IssuedKey", "KeyDraft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDraft:
    """A key that is to be made; every text is checked and brought into canonical form by ``KeyManager.create_key``."""

    organization_id: str
    domains: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    critical: bool = False
    env: Literal["live", "test"] = "live"
    name: str = ""
    metadata: str = "{}"
    key_id: str | None = None
    """``None``: a new one. Given by idempotent requests, which must not make a second key."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key whose secret was made now and is shown once."""

    record: KeyRecord
    secret: Secret


@dataclass(frozen=True, slots=True)
class InForce:
    """When a write counts: ``here`` whether this process has heard of it (``None``: nobody waited for it)."""

    here: bool | None
    everywhere_by: datetime
    """At the latest, whatever fails; with everything in order it is a tenth of a second."""
    durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a file."""

    is_stored: bool
    """``False``: a line was refused and nobody said to keep going, so nothing was stored at all."""
    created: int
    unchanged: int
    refused: int
    reports: tuple[LineProblem, ...] = ()
    """The first 1,000 refused lines, in order."""
    notes: tuple[str, ...] = ()
    """What is worth telling the operator, beginning with ``line <number>:``; the first 100."""
    digest: str
    """HMAC-SHA-256 of the file under a key of the installation, in hex: it names the file and betrays nothing of it."""
