"""Keys in this process's memory: for trying, for tests, and as the trusted model of what every other store must do.

All methods run on one event loop and never wait between reading and writing, which is what makes each write atomic.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right, insort
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backends.contract import EVERY_KEY
from backends.errors import Conflict, NotFound, StoreClosed, StoreUnavailable
from backends.memory_journal import MemoryJournal
from backends.paging import page_of
from backends.records import Connections, FoundKey, KeyFilter, KeyRecord, KeyState, Organization, Origin
from backends.rules import check_state, replacement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

    from backends.contract import ChangeListener, KeyStore
    from backends.records import Page, SecretHash

__all__ = ["MemoryKeyStore"]

_HEARTBEAT: Final = 0.5  # seconds


class MemoryKeyStore:
    """See ``backends.contract.KeyStore``. What it holds is gone when the process ends; closing forgets nothing."""

    name = "memory"

    def __init__(self) -> None:
        self._open = False
        self._organizations: dict[str, Organization] = {}
        self._by_key_id: dict[str, KeyRecord] = {}
        self._key_ids: dict[str, str] = {}  # api_key -> key_id
        self._sorted_key_ids: list[str] = []
        self._listeners: list[ChangeListener] = []
        self._journal = MemoryJournal(lambda: self._open)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The store for ``memory://``; anything more in the URL is a mistake and raises ``ValueError``."""
        if url not in ("memory://", "memory:///"):
            raise ValueError("memory:// takes no host, path or options")
        return cls()

    @property
    def journal(self) -> MemoryJournal:
        """See the contract."""
        return self._journal

    @property
    def connections(self) -> Connections:
        """See the contract."""
        return Connections()

    async def migrate(self) -> tuple[str, ...]:
        """See the contract; there is nothing to prepare."""
        return ()

    async def open(self) -> None:
        """See the contract."""
        self._open = True

    async def close(self) -> None:
        """See the contract."""
        self._open = False

    async def ping(self) -> None:
        """See the contract; the marker of a store that lives and dies with the process is always there."""
        self._check_open()

    async def find(self, api_key: str) -> FoundKey | None:
        """See the contract."""
        self._check_open()
        key_id = self._key_ids.get(api_key)
        if key_id is None:
            return None
        record = self._by_key_id[key_id]
        return FoundKey(record, self._organizations[record.organization_id].is_active)

    async def get(self, key_id: str) -> KeyRecord:
        """See the contract."""
        self._check_open()
        return self._key(key_id)

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """See the contract."""
        self._check_open()
        items: list[KeyRecord] = []
        for key_id in self._sorted_key_ids[bisect_right(self._sorted_key_ids, after) :]:
            record = self._by_key_id[key_id]
            if where.matches(record, await self._last_used_at(key_id) if where.last_used_before is not None else None):
                items.append(record)
                if len(items) > limit:
                    break
        return page_of(items, limit, cursor=lambda record: record.key_id)

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        """See the contract."""
        self._check_open()
        counts = {"active": 0, "disabled": 0, "revoked": 0, "expired": 0}
        for record in self._by_key_id.values():
            expired = record.expires_at is not None and record.expires_at <= now
            counts["expired" if expired and record.state is KeyState.ACTIVE else record.state.value] += 1
        return counts

    async def count_expiring(self, *, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
        """See the contract."""
        self._check_open()
        active = (record.expires_at for record in self._by_key_id.values() if record.state is KeyState.ACTIVE)
        ends = [end for end in active if end is not None and end > now]
        return tuple(sum(end <= moment for end in ends) for moment in until)

    async def add(self, record: KeyRecord) -> None:
        """See the contract."""
        self._check_open()
        if record.organization_id not in self._organizations:
            raise NotFound("there is no such organization")
        if record.key_id in self._by_key_id or record.api_key in self._key_ids:
            raise Conflict("the key_id or the api_key is taken")
        self._insert(record)
        self._announce(record.api_key)

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """See the contract."""
        self._check_open()
        new_organizations = {
            item.organization_id: item for item in organizations if item.organization_id not in self._organizations
        }
        new_keys: dict[str, KeyRecord] = {}
        new_ids: set[str] = set()
        for record in records:
            if record.organization_id not in self._organizations and record.organization_id not in new_organizations:
                raise NotFound("there is no such organization")
            known_id = self._key_ids.get(record.api_key)
            known = new_keys.get(record.api_key) if known_id is None else self._by_key_id[known_id]
            if known is not None:
                if known.organization_id != record.organization_id:
                    raise Conflict("an api_key is taken by another organization")
                continue
            if record.key_id in self._by_key_id or record.key_id in new_ids:
                raise Conflict("a key_id is taken")
            new_keys[record.api_key] = record
            new_ids.add(record.key_id)
        self._organizations.update(new_organizations)
        for record in new_keys.values():
            self._insert(record)
        if new_organizations or new_keys:
            self._announce_everything()
        return len(new_keys)

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """See the contract."""
        self._check_open()
        current = self._key(record.key_id)
        stored = self._by_key_id[record.key_id] = replacement(current, record, expected_version=expected_version)
        self._announce(record.api_key)
        return stored

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """See the contract."""
        self._check_open()
        current = self._key(key_id)
        if current.state is state:
            return False
        check_state(current.state, state)
        self._by_key_id[key_id] = replace(current, state=state, updated_at=now, version=current.version + 1)
        self._announce(current.api_key)
        return True

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """See the contract."""
        self._check_open()
        record = self._by_key_id.get(key_id)
        if record is None or old not in (record.secret, record.previous_secret):
            return False
        self._by_key_id[key_id] = replace(
            record,
            secret=new if record.secret == old else record.secret,
            previous_secret=new if record.previous_secret == old else record.previous_secret,
        )
        self._announce(record.api_key)
        return True

    async def delete(self, key_id: str) -> bool:
        """See the contract."""
        self._check_open()
        record = self._by_key_id.pop(key_id, None)
        if record is None:
            return False
        del self._key_ids[record.api_key]
        self._sorted_key_ids.remove(key_id)
        self._announce(record.api_key)
        return True

    async def add_organization(self, organization: Organization) -> None:
        """See the contract."""
        self._check_open()
        if organization.organization_id in self._organizations:
            raise Conflict("the organization_id is taken")
        self._organizations[organization.organization_id] = organization

    async def get_organization(self, organization_id: str) -> Organization:
        """See the contract."""
        self._check_open()
        return self._organization(organization_id)

    async def list_organizations(self, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """See the contract."""
        self._check_open()
        names = sorted(name for name in self._organizations if name > after)[: limit + 1]
        return page_of([self._organizations[name] for name in names], limit, cursor=lambda item: item.organization_id)

    async def set_organization_active(self, organization_id: str, is_active: bool, *, now: datetime) -> bool:  # noqa: ARG002, FBT001 - the contract's signature; organizations keep no time of change
        """See the contract."""
        self._check_open()
        current = self._organization(organization_id)
        if current.is_active == is_active:
            return False
        self._organizations[organization_id] = replace(current, is_active=is_active)
        self._announce_everything()
        return True

    async def watch(self, listener: ChangeListener) -> None:
        """See the contract; announcements are made by the writing call itself."""
        self._check_open()
        self._listeners.append(listener)
        try:
            listener.everything_changed(origin=Origin.RECONNECT)
            while True:
                listener.heartbeat()
                await asyncio.sleep(_HEARTBEAT)
        finally:
            self._listeners.remove(listener)

    async def barrier(self) -> None:
        """See the contract; an announcement arrives before the writing call returns."""
        self._check_open()
        if not self._listeners:
            raise StoreUnavailable("nobody watches the memory store")
        for listener in self._listeners:
            listener.heartbeat()

    async def replicate(self) -> bool:
        """See the contract; there are no copies."""
        self._check_open()
        return True

    def _check_open(self) -> None:
        if not self._open:
            raise StoreClosed("the memory store is not open")

    async def _last_used_at(self, key_id: str) -> datetime | None:
        last = (await self._journal.last_use([key_id])).get(key_id)
        return None if last is None else last.last_used_at

    def _key(self, key_id: str) -> KeyRecord:
        try:
            return self._by_key_id[key_id]
        except KeyError:
            raise NotFound("there is no such key") from None

    def _organization(self, organization_id: str) -> Organization:
        try:
            return self._organizations[organization_id]
        except KeyError:
            raise NotFound("there is no such organization") from None

    def _insert(self, record: KeyRecord) -> None:
        self._by_key_id[record.key_id] = record
        self._key_ids[record.api_key] = record.key_id
        insort(self._sorted_key_ids, record.key_id)

    def _announce(self, api_key: str) -> None:
        for listener in self._listeners:
            listener.key_changed(api_key, at=time.time())

    def _announce_everything(self) -> None:
        for listener in self._listeners:
            listener.everything_changed(at=time.time())


if TYPE_CHECKING:
    _conforms: KeyStore = MemoryKeyStore()
