"""The operations on keys and organizations, each checked, written, recorded in the audit trail and counted in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from backends.contract import EVERY_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from backends.contract import KeyStore
    from backends.journal import AuditEntry, HourCount, LastUse
    from backends.records import KeyFilter, KeyRecord, KeyState, Organization, Page
    from service.auth.clock import Clock
    from service.auth.peppers import Peppers
    from service.auth.secret import Secret
    from service.manage.actor import Actor

__all__ = ["DEFAULT_GRACE", "DEFAULT_LIMIT", "InForce", "IssuedKey", "KeyDraft", "KeyManager", "LineReport"]

DEFAULT_GRACE: Final = timedelta(hours=24)
DEFAULT_LIMIT: Final = timedelta(days=30)

Metadata = "Mapping[str, Any]"


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


@dataclass(frozen=True, slots=True)
class LineReport:
    """What became of one line of an import: ``created``, ``unchanged`` or ``refused``."""

    line: int
    result: Literal["created", "unchanged", "refused"]
    problem: str = ""


class KeyManager:
    """All operations; every one takes the ``Actor`` and raises ``NotFound`` for what the actor must not know of.

    ``count`` is told of each event (``created``, ``updated``, ``rotated``, ``disabled``, ``enabled``, ``revoked``,
    ``deleted``, ``imported``) and how many; ``bound`` is the seconds after which a write is in force everywhere
    at the latest.
    """
