"""Secrets at rest: HMAC-SHA-256 under a versioned pepper (contract 1).

A 256-bit random secret needs no slow hash; the pepper, which is not in the store, makes a stolen store worthless.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from backends.records import SecretHash

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Peppers", "SecretMatch", "StoredSecret", "UnknownPepper"]

_BLOCK: Final = 64  # bytes; HMAC replaces a longer key by its digest (RFC 2104), at every use if nobody did so before


class SecretMatch(IntEnum):
    """Which of a key's secrets was presented; false when none."""

    NONE = 0
    CURRENT = 1
    PREVIOUS = 2


class UnknownPepper(LookupError):
    """A stored hash names a pepper version that is not configured, so it can neither match nor mismatch."""


class StoredSecret(Protocol):
    """What a secret is compared with: a ``SecretHash``, or the key that it belongs to."""

    @property
    def pepper_version(self) -> int:
        """Under which the HMAC was made."""

    @property
    def digest(self) -> bytes:
        """The HMAC."""

    @property
    def prehashed(self) -> bool:
        """Whether the secret's SHA-256 went into it."""


class _Hmac:
    """HMAC-SHA-256 (RFC 2104 2) with the key of at most 64 bytes already in its inner and its outer hash.

    A copy of both costs a fifth of ``hmac.digest``, which looks its algorithm up and takes the key in at every call.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, data: bytes) -> bytes:
        """Any thread: the prepared hashes are only copied."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()


class Peppers:
    """The configured peppers by version, and the one that new hashes are made with. Picklable, never printable."""

    def __init__(self, by_version: Mapping[int, bytes], *, current: int) -> None:
        if current not in by_version:
            raise ValueError("the current pepper version is not among the configured ones")
        self._by_version = {
            version: pepper if len(pepper) <= _BLOCK else hashlib.sha256(pepper).digest()
            for version, pepper in by_version.items()
        }
        self._hmacs = {version: _Hmac(pepper) for version, pepper in self._by_version.items()}
        self._current = current
        self._key = self._by_version[current]
        self._nobodys = SecretHash(current, bytes(32))
        self._fingerprint = _Hmac(self.derived_key("fingerprint"))

    def __reduce__(self) -> tuple[Any, ...]:  # a hash under way cannot be pickled
        return _made_again, (self._by_version, self._current)

    def __repr__(self) -> str:
        return f"Peppers(versions={sorted(self._by_version)}, current={self._current})"

    @property
    def versions(self) -> frozenset[int]:
        """The configured versions."""
        return frozenset(self._by_version)

    def hash(self, secret: str) -> SecretHash:
        """The form in which the secret is stored, under the current pepper."""
        return SecretHash(self._current, hmac.digest(self._key, secret.encode(), "sha256"))

    def wrap_sha256(self, digest: bytes) -> SecretHash:
        """The stored form of a secret of which only the SHA-256 digest is known (an import)."""
        return SecretHash(self._current, hmac.digest(self._key, digest, "sha256"), prehashed=True)

    @property
    def current(self) -> int:
        """The version that new hashes are made with."""
        return self._current

    def match(self, secret: str, stored: StoredSecret, previous: StoredSecret | None = None) -> SecretMatch:
        """Which of ``stored`` and ``previous`` was made from ``secret``, in constant time; raises ``UnknownPepper``.

        Every refusal is one SHA-256 and two HMACs, whatever forms the hashes have and whether there is a previous one.
        """
        data = secret.encode()
        digest = hashlib.sha256(data).digest() if stored.prehashed else b""
        if self._equals(digest or data, stored):
            return SecretMatch.CURRENT
        digest = digest or hashlib.sha256(data).digest()
        previous = previous or self._nobodys
        if self._equals(digest if previous.prehashed else data, previous):
            return SecretMatch.PREVIOUS
        return SecretMatch.NONE

    def waste(self, secret: str) -> None:
        """The work of a refusal by ``match``: an unknown key must not be told from a wrong secret by time."""
        self.match(secret, self._nobodys)

    def _equals(self, data: bytes, stored: StoredSecret) -> bool:
        prepared = self._hmacs.get(stored.pepper_version)
        if prepared is None:
            raise UnknownPepper
        return hmac.compare_digest(prepared.digest(data), stored.digest)

    def derived_key(self, purpose: str) -> bytes:
        """A key of 32 bytes for another purpose than secrets: what is made with it cannot be guessed without the pepper.

        It is never what a secret is stored as: no secret holds a space, and an imported digest has another length.
        """
        return hmac.digest(self._key, b"gatekey " + purpose.encode(), "sha256")

    def fingerprint(self, text: str) -> str:
        """12 hex digits that group what is the same without telling what it is, for log lines about unknown keys."""
        return self._fingerprint.digest(text.encode("utf-8", "surrogatepass")).hex()[:12]


def _made_again(by_version: Mapping[int, bytes], current: int) -> Peppers:
    return Peppers(by_version, current=current)
