"""The records that cross the border between Gatekey and its stores; frozen, so that no caller can change what a store holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Self, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "Connections",
    "FoundKey",
    "KeyFilter",
    "KeyRecord",
    "KeyState",
    "Organization",
    "Origin",
    "Page",
    "SecretHash",
]

T = TypeVar("T")

_STORED: Final = re.compile(
    r"(?P<scheme>hmac-sha256(?:-sha256)?):(?P<version>0|[1-9][0-9]{0,8}):(?P<digest>[0-9a-f]{64})"
)


class KeyState(StrEnum):
    """A key's life: ``active`` and ``disabled`` may alternate, ``revoked`` is final."""

    ACTIVE = "active"
    DISABLED = "disabled"
    REVOKED = "revoked"


class Origin(StrEnum):
    """By which way a process heard of a change."""

    KEY = "key"  # one key was announced
    BULK = "bulk"  # many keys, or an organization, were announced as one
    CHANGE_LOG = "change_log"  # the announcement did not arrive; the list of changes behind it told
    RECONNECT = "reconnect"  # the announcing path was down, so anything may have changed


@dataclass(frozen=True, slots=True)
class SecretHash:
    """A secret as it may be stored: HMAC-SHA-256 under the pepper of a version.

    ``prehashed`` says what was fed to the HMAC: the secret's bytes, or (for imported ``sha256:`` hashes, whose
    secret nobody knows) the secret's 32-byte SHA-256 digest.
    """

    pepper_version: int
    digest: bytes = field(repr=False)
    prehashed: bool = False

    _PLAIN: ClassVar[str] = "hmac-sha256"
    _PREHASHED: ClassVar[str] = "hmac-sha256-sha256"

    def encode(self) -> str:
        """``hmac-sha256:<pepper version>:<64 hex>`` (``hmac-sha256-sha256:…`` when prehashed)."""
        return f"{self._PREHASHED if self.prehashed else self._PLAIN}:{self.pepper_version}:{self.digest.hex()}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """Inverse of ``encode``. Raises ``ValueError`` (whose message holds nothing of ``text``) for anything else."""
        match = _STORED.fullmatch(text)
        if match is None:
            raise ValueError("not of the form hmac-sha256:<pepper version>:<64 hex digits>")
        return cls(int(match["version"]), bytes.fromhex(match["digest"]), match["scheme"] == cls._PREHASHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A tenant that owns keys. ``organization_id`` is a slug, ``[a-z0-9][a-z0-9-]{0,62}``."""

    organization_id: str
    is_active: bool = True
    name: str = ""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One credential of an organization.

    Rules (``domains``, ``origins``, ``networks``, ``scopes``) are canonical text, validated by whoever wrote them;
    a store neither reads nor changes them. Empty ``origins`` or ``networks`` mean "no restriction"; empty ``domains``
    match nothing. ``metadata`` is a JSON object as text (a record must not hold anything that can be changed), at most
    8 KiB. Times are aware UTC with microseconds. ``version`` starts at 1 and grows by one at every change.

    After a rotation ``previous_secret`` is accepted until ``previous_expires_at`` (``None``: for as long as it is
    stored). ``previous_grace`` is the seconds that it lives on after the new secret's first use; ``None`` once that
    has happened, when ``previous_expires_at`` has been moved accordingly.
    """

    key_id: str
    organization_id: str
    api_key: str
    secret: SecretHash
    previous_secret: SecretHash | None = None
    previous_expires_at: datetime | None = None
    previous_grace: int | None = None
    rotated_at: datetime | None = None
    domains: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    state: KeyState = KeyState.ACTIVE
    expires_at: datetime | None = None
    critical: bool = False
    name: str = ""
    metadata: str = "{}"
    created_at: datetime
    updated_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True)
class FoundKey:
    """What a look-up proves: the key, and whether its organization is active, read in one step."""

    key: KeyRecord
    organization_is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Which keys a listing shows; every field that is given must match."""

    organization_id: str | None = None
    name: str | None = None
    """A part of the name, in any case of its ASCII letters."""
    states: frozenset[KeyState] = frozenset(KeyState)
    expires_before: datetime | None = None
    """Only keys that expire, and before this time."""
    last_used_before: datetime | None = None
    """Only keys whose last use was before this time, or that were never used."""

    def matches(self, record: KeyRecord, last_used_at: datetime | None) -> bool:
        """Whether the listing shows ``record``; ``last_used_at`` is ``None`` for a key that was never used."""
        return (
            self.organization_id in (None, record.organization_id)
            and (self.name is None or _folded(self.name) in _folded(record.name))
            and record.state in self.states
            and (
                self.expires_before is None
                or (record.expires_at is not None and record.expires_at < self.expires_before)
            )
            and (self.last_used_before is None or last_used_at is None or last_used_at < self.last_used_before)
        )


def _folded(name: str) -> bytes:
    return name.encode().lower()  # of bytes: ASCII letters alone, as the databases can do it too


@dataclass(frozen=True, slots=True)
class Connections:
    """A store's pool: connections that are idle, that are used, and how many there may be."""

    idle: int = 0
    used: int = 0
    maximum: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing. ``next_after`` is the cursor of the following page, ``None`` on the last one."""

    items: tuple[T, ...]
    next_after: str | None
