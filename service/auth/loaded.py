"""A key as this process uses it: what decisions need of its record, checked and compiled once, when it was loaded.

The cache holds up to a million of these. So what keys have in common stands once, and what no decision needs is not kept.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from backends.errors import StoreCorrupt
from backends.records import KeyState, SecretHash
from service.auth.rules import KeyRules

if TYPE_CHECKING:
    from backends.records import FoundKey, KeyRecord

__all__ = ["LoadedKey", "Terms"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def _one_text(text: str) -> str:
    """The same object for all that are equal: every record that comes from a store has its own."""
    return text


@lru_cache(maxsize=4096)
def _one_tuple(texts: tuple[str, ...]) -> tuple[str, ...]:
    return texts


class Terms:
    """What a key may and on which conditions. Keys that agree in all of it share one, so nobody changes it."""

    __slots__ = ("__weakref__", "critical", "is_active", "is_revoked", "rules", "scope_text", "scopes")

    def __init__(self, found: FoundKey) -> None:
        """Raises ``ValueError`` when a rule is not in canonical form."""
        record = found.key
        self.scopes = _one_tuple(record.scopes)
        self.scope_text = _one_text(" ".join(record.scopes))
        self.rules = KeyRules.compile(record)
        self.is_active = record.state is KeyState.ACTIVE and found.organization_is_active
        """Both the key and its organization."""
        self.is_revoked = record.state is KeyState.REVOKED
        self.critical = record.critical

    @staticmethod
    def of(found: FoundKey) -> Terms:
        """The one for such keys, which stays as long as anybody has it; raises ``ValueError`` as above."""
        record = found.key
        name = (
            record.domains,
            record.scopes,
            record.origins,
            record.networks,
            record.state,
            record.critical,
            found.organization_is_active,
        )
        terms = _shared.get(name)
        if terms is None:
            terms = _shared[name] = Terms(found)
        return terms


_shared: WeakValueDictionary[tuple[object, ...], Terms] = WeakValueDictionary()


class LoadedKey:
    """``pepper_version``, ``digest`` and ``prehashed`` are those of its ``SecretHash``: an object less for each key.

    Names are those of ``KeyRecord``; what stands in its record and not here is read from the store by whoever needs it.
    """

    __slots__ = (
        "_expires",
        "digest",
        "key_id",
        "name",
        "organization_id",
        "pepper_version",
        "prehashed",
        "rotation",
        "terms",
    )

    def __init__(self, found: FoundKey) -> None:
        """Compile ``found``; raises ``StoreCorrupt`` when a stored rule is not in canonical form."""
        record = found.key
        try:
            self.terms = Terms.of(found)
        except ValueError as error:
            raise StoreCorrupt("a rule of the stored key is not in canonical form") from error
        self.key_id = record.key_id
        self.organization_id = _one_text(record.organization_id)
        self.name = record.name
        self.pepper_version = record.secret.pepper_version
        self.digest = record.secret.digest
        self.prehashed = record.secret.prehashed
        self.rotation: KeyRecord | None = None if record.previous_secret is None else record
        """The whole record, of a key that still has a secret from before a rotation: few have, and not for long."""
        self._expires = None if record.expires_at is None else (record.expires_at - _EPOCH) // _MICROSECOND

    @property
    def scopes(self) -> tuple[str, ...]:
        """What it may."""
        return self.terms.scopes

    @property
    def secret(self) -> SecretHash:
        """As it is stored."""
        return SecretHash(self.pepper_version, self.digest, self.prehashed)

    @property
    def expires_at(self) -> datetime | None:
        """To the microsecond; ``None`` for a key that does not expire."""
        return None if self._expires is None else _EPOCH + self._expires * _MICROSECOND

    def has_expired(self, wall: float) -> bool:
        """At ``wall`` seconds since the Unix epoch."""
        return self._expires is not None and wall >= self._expires / 1_000_000

    def previous_secret(self, wall: float) -> SecretHash | None:
        """The secret from before a rotation while it is accepted; without an end, for as long as it is stored."""
        record = self.rotation
        if record is None:
            return None
        end = record.previous_expires_at
        return None if end is not None and wall >= end.timestamp() else record.previous_secret
