"""The records that cross the border between Gatekey and its stores; frozen, so that no caller can change what a store holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Self, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["FoundKey", "KeyRecord", "KeyState", "Organization", "Page", "SecretHash"]

T = TypeVar("T")

_STORED: Final = re.compile(
    r"(?P<scheme>hmac-sha256(?:-sha256)?):(?P<version>0|[1-9][0-9]{0,8}):(?P<digest>[0-9a-f]{64})"
)


class KeyState(StrEnum):
    """A key's life: ``active`` and ``disabled`` may alternate, ``revoked`` is final."""

    ACTIVE = "active"
    DISABLED = "disabled"
    REVOKED = "revoked"


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
    """

    key_id: str
    organization_id: str
    api_key: str
    secret: SecretHash
    previous_secret: SecretHash | None = None
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


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing. ``next_after`` is the cursor of the following page, ``None`` on the last one."""

    items: tuple[T, ...]
    next_after: str | None
