"""The contract that every store keeps, whatever technology is behind it.

The service depends on this module alone; ``tests/contract`` holds every store to it. Time is data: a store never looks
at a clock to decide what to store, callers pass ``now``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backends.records import KeyFilter, Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from backends.journal import Journal
    from backends.records import Connections, FoundKey, KeyRecord, KeyState, Organization, Page, SecretHash

__all__ = ["EVERY_KEY", "ChangeListener", "KeyStore"]

EVERY_KEY = KeyFilter()


class ChangeListener(Protocol):
    """What a store tells about changes, on the event loop that runs ``KeyStore.watch``. No method may block or raise."""

    def key_changed(self, api_key: str, *, at: float | None = None, origin: Origin = Origin.KEY) -> None:
        """The record of ``api_key`` was added, changed or deleted (announcements may repeat).

        ``at`` is when that was written, in seconds since the Unix epoch by the clock of the store; ``None`` if unknown.
        """

    def everything_changed(self, *, at: float | None = None, origin: Origin = Origin.BULK) -> None:
        """Any record may have changed (an organization was switched, a bulk change, a new epoch, a gap in the announcements)."""

    def heartbeat(self, *, delay: float = 0.0) -> None:
        """The announcing path itself is alive: what was announced before this heartbeat was sent has arrived.

        ``delay`` is the seconds since then, by a clock that also runs while the process is paused.
        """


class KeyStore(Protocol):
    """Keys and organizations.

    Every method is a coroutine function and safe to call concurrently on one event loop. Each write is atomic: it
    happens whole or not at all, also when the caller is cancelled, and a look-up never sees half of it. A write is
    visible to ``find`` when its call returns, and is announced through ``watch`` in the same step.
    Every method may raise ``StoreUnavailable``, and ``StoreClosed`` before ``open`` or after ``close``; a failed call
    changes nothing and leaves the store usable. Of a write that ends in ``StoreUnavailable`` nobody knows whether it
    happened, but it happened whole or not at all.
    """

    name: str
    """The store's kind, the value of the metrics' label ``store``: ``memory``, ``sqlite``, ``redis``, ``postgres``."""

    @property
    def journal(self) -> Journal:
        """What is kept beside the keys; one object for the store's whole life."""

    @property
    def connections(self) -> Connections:
        """The state of the pool at this moment; all 0 for a store without connections. Never waits."""

    async def migrate(self) -> tuple[str, ...]:
        """Prepare the store, or bring it up to this version of the code, and write the epoch marker if there is none.

        Returns what was done, a line for each step, nothing when all was done before. Works on a store that is not open.
        Safe while other processes serve from it, and when several run it at once. Raises ``StoreUnfit`` where the store
        is newer than this code can serve from.
        """

    async def open(self) -> None:
        """Get ready on the running loop; idempotent. Does not wait for a server that is down."""

    async def close(self) -> None:
        """Give everything back; idempotent, never raises ``StoreUnavailable``."""

    async def ping(self) -> None:
        """Return when the store answers and has its epoch marker.

        Raises ``StoreUnavailable``, ``StoreNotReady``, or ``StoreUnfit`` (with what is wrong and what to do) where the
        schema is too old or too new for this code, or the server may drop keys by itself.
        """

    async def find(self, api_key: str) -> FoundKey | None:
        """The key with this handle, with its organization's state, in one consistent read.

        ``None`` is evidence: the store answered, its epoch marker was there in the same read, and there is no such
        key. Revoked, disabled and expired keys are found. Raises ``StoreNotReady`` where the marker is missing and
        ``StoreCorrupt`` where this key's stored form cannot be decoded.
        """

    async def get(self, key_id: str) -> KeyRecord:
        """The key with this identifier; raises ``NotFound``."""

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """Keys that match, ordered by ``key_id``, those greater than ``after``, at most ``limit`` (1 to 1,000) of them.

        A key that cannot be decoded is left out. A page may be shorter than ``limit`` while ``next_after`` says that
        there are more.
        """

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        """Number of keys by state: ``active``, ``disabled``, ``revoked``, and ``expired`` (active ones past their time)."""

    async def count_expiring(self, *, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
        """For each moment of ``until`` the number of active keys whose time is over after ``now`` and then at the latest."""

    async def add(self, record: KeyRecord) -> None:
        """Store a new key; raises ``Conflict`` (``key_id`` or ``api_key`` taken) or ``NotFound`` (no such organization)."""

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """Store all of them or none, and return how many keys were new; announced as one ``everything_changed``.

        Organizations that exist are left as they are. A record whose ``api_key`` exists in the same organization
        counts as already there and changes nothing; anything else that collides raises ``Conflict``.
        """

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """Put ``record`` in the place of the one with its ``key_id``; returns it as stored (``version`` grown by one).

        Raises ``NotFound``, ``VersionConflict`` when the stored version is not ``expected_version``, and ``Conflict``
        when the change would move ``api_key`` or ``organization_id`` (both are fixed for a key's life) or leave the
        final state ``revoked``.
        """

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """Switch a key; ``True`` when this call changed it, ``False`` when it already was so.

        ``revoked`` is final: any other state for a revoked key raises ``Conflict``. Raises ``NotFound``.
        """

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """Put ``new`` in the place of ``old``, as the secret or the previous one: the same secret under another pepper.

        ``True`` when this call did so, ``False`` when the key has no such hash (any more) or is not there. Changes
        neither ``version`` nor ``updated_at``.
        """

    async def delete(self, key_id: str) -> bool:
        """Forget the key; ``True`` when this call removed it, ``False`` when there was none."""

    async def add_organization(self, organization: Organization) -> None:
        """Store a new organization; raises ``Conflict``."""

    async def get_organization(self, organization_id: str) -> Organization:
        """The organization with this identifier; raises ``NotFound``."""

    async def list_organizations(self, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """Organizations ordered by ``organization_id``, those greater than ``after``, at most ``limit`` (1 to 1,000)."""

    async def set_organization_active(
        self,
        organization_id: str,
        is_active: bool,  # noqa: FBT001 - the value itself
        *,
        now: datetime,
    ) -> bool:
        """Switch an organization; ``True`` when this call changed it. Announced as ``everything_changed``.

        Raises ``NotFound``.
        """

    async def watch(self, listener: ChangeListener) -> None:
        """Tell ``listener`` of every change from any process until cancelled, with a heartbeat at least every 0.5 s.

        On (re)connection the order is: subscribe, wait for the confirmation, ``everything_changed``, ``heartbeat``.
        Returns only by cancellation; a lost connection is retried inside. Behind the announcements a list of the last
        changes is looked through every few seconds. A process runs one ``watch`` at a time.
        """

    async def barrier(self) -> None:
        """Return when every change that was written before this call has come to this process's ``watch``.

        Sends a heartbeat through the announcing path at once and waits for it. Raises ``StoreUnavailable`` where it does
        not come back within 2 s, or where nobody watches.
        """

    async def replicate(self) -> bool:
        """Wait (at most 1 s) for the copies of the server: ``False`` when fewer than it has hold what was written before.

        ``True`` where a write that returned is durable already, and where there are no copies.
        """
