"""What a store keeps beside the keys: use counts, the audit trail, claims of idempotent requests.

Nothing here is announced, changes a key's version, or is read on the way to a decision; else its writes would empty
every cache for ever. A store that has no place for it may use ``backends.memory_journal.MemoryJournal``, which forgets
when the process ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from backends.records import Page

__all__ = ["NO_HASH", "AuditEntry", "AuditHead", "Claim", "HourCount", "Journal", "LastUse", "UsageCount"]

NO_HASH: Final = "0" * 64
"""What stands for the hash before a chain's first entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageCount:
    """Uses of one key in one hour, to be added to what is stored."""

    key_id: str
    hour: datetime
    """The hour's start, aware UTC."""
    count: int
    """Allowed requests; at least 1."""
    last_used_at: datetime
    previous_secret_used_at: datetime | None = None
    """When the secret from before a rotation was last accepted; ``None`` if it was not."""


@dataclass(frozen=True, slots=True)
class HourCount:
    """Allowed requests of one key in the hour that starts at ``hour``."""

    hour: datetime
    count: int


@dataclass(frozen=True, slots=True)
class LastUse:
    """When a key, and when its secret from before a rotation, was last accepted."""

    last_used_at: datetime
    previous_secret_used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to which object, when, from where. Text of JSON objects in ``before`` and ``after``; never a secret.

    ``hash`` covers every other field, ``previous_hash`` included, so that entries of one organization form a chain
    (``seq`` from 1 without a gap). How it is computed is the service's affair; a store only keeps it.
    """

    organization_id: str
    seq: int
    at: datetime
    actor: str
    """``key:<key_id>`` or ``command:<user of the machine>``."""
    actor_organization_id: str
    action: str
    """What was done, past tense: ``key.created``."""
    target: str
    """``key:<key_id>``, ``organization:<organization_id>`` or ``import:<digest of the file>``."""
    client_ip: str
    request_id: str
    before: str
    after: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Where a chain ends, and where what was pruned of it ended; 0 and ``NO_HASH`` for "nothing"."""

    seq: int = 0
    hash: str = NO_HASH
    pruned_seq: int = 0
    pruned_hash: str = NO_HASH


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotent request that was made before. ``answer`` is ``None`` while it is still under way."""

    fingerprint: str
    answer: str | None


class Journal(Protocol):
    """Every method is a coroutine function, atomic, and may raise ``StoreUnavailable`` and ``StoreClosed``.

    It opens and closes with its store.
    """

    async def add_usage(self, batch: Sequence[UsageCount]) -> None:
        """Add the counts to those of the same key and hour, and move times of last use forward, never back."""

    async def usage(self, key_id: str, *, since: datetime, until: datetime) -> tuple[HourCount, ...]:
        """The hours that start in ``since <= hour < until`` and have uses, in order."""

    async def last_use(self, key_ids: Iterable[str]) -> Mapping[str, LastUse]:
        """When the keys were last used; those that never were are left out."""

    async def forget_uses(self, key_id: str) -> None:
        """Forget the counts and the time of last use of a key; nothing happens where there are none."""

    async def append_audit(self, entry: AuditEntry) -> None:
        """Put ``entry`` at its chain's end, and move the head; both in one step.

        Raises ``Conflict`` unless ``seq`` and ``previous_hash`` continue the head (somebody else was first).
        """

    async def audit_head(self, organization_id: str) -> AuditHead:
        """The head of the organization's chain."""

    async def list_audit(
        self, organization_id: str, *, after: str = "", limit: int = 100, newest_first: bool = False
    ) -> Page[AuditEntry]:
        """Entries of one chain in the order of ``seq``, those beyond the one whose ``seq`` is ``after`` in decimal.

        ``newest_first`` turns the order round: then "beyond" means a smaller ``seq``. ``limit`` is 1 to 1,000.
        """

    async def audit_chains(self) -> tuple[str, ...]:
        """The ``organization_id`` of every chain, sorted: of each that has a head, and of each that has entries.

        Also where one of the two is missing, which somebody must be told; and of organizations without keys.
        """

    async def claim(self, name: str, fingerprint: str, *, now: datetime, until: datetime) -> Claim | None:
        """Take ``name`` until ``until``: ``None`` when it is the caller's now, else whose it is already.

        A claim whose time is over at ``now`` counts as none. Of several at once exactly one gets ``None``.
        """

    async def settle(self, name: str, answer: str, *, until: datetime) -> None:
        """Keep the answer of a claimed request until ``until``; nothing happens where there is no such claim."""

    async def release(self, name: str) -> None:
        """Give up a claim whose request failed; nothing happens where there is none."""

    async def prune(
        self, *, now: datetime, usage_before: datetime | None = None, audit_before: datetime | None = None
    ) -> int:
        """Forget claims that are over, use counts of hours and audit entries before the given times; how many.

        A chain is pruned from its start without a gap, and its head keeps the ``seq`` and ``hash`` of the last entry
        that was pruned, so that the rest can still be verified. Times of last use stay.
        """
