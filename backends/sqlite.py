"""Keys in a file of this machine, for all of its processes: survives a restart, needs no server.

Nothing here runs SQL on the event loop: look-ups, longer reads, writes and the history have threads of their own, so that
none waits behind another kind. What lies beside the keys is in a second file, whose writes announce nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from backends import sqlite_reads as reads
from backends import sqlite_writes as writes
from backends.contract import EVERY_KEY
from backends.errors import StoreClosed, StoreError, StoreUnavailable
from backends.paging import check_limit
from backends.records import Connections
from backends.sqlite_file import DatabaseFile
from backends.sqlite_journal import SqliteJournal
from backends.sqlite_link import Link
from backends.sqlite_pools import Pools
from backends.sqlite_schema import HISTORY, KEYS, prepare
from backends.sqlite_threads import Threads
from backends.sqlite_url import path_of_url
from backends.sqlite_watch import Watcher

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

    from backends.contract import ChangeListener, KeyStore
    from backends.records import FoundKey, KeyFilter, KeyRecord, KeyState, Organization, Page, SecretHash

__all__ = ["SqliteKeyStore"]

_READ_LIMIT: Final = 2.0  # seconds, as all limits
_LISTING_LIMIT: Final = 10.0
_WRITE_LIMIT: Final = 5.0
_BULK_LIMIT: Final = 120.0
_BARRIER_LIMIT: Final = 2.0
_STEP: Final = 1_000  # records of an import that are taken from the caller between two turns of the loop

_T = TypeVar("_T")


class SqliteKeyStore:
    """See ``backends.contract.KeyStore``. The history lies in ``<file>.history``, SQLite's own files beside both."""

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        path = Path.cwd() / path  # also when the process changes its folder later
        self._keys = DatabaseFile(path)
        self._history = DatabaseFile(path.with_name(f"{path.name}.history"))
        self._pools: Pools | None = None
        self._watchers: set[Watcher] = set()
        self._journal = SqliteJournal(self._run_history)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The store for ``sqlite:///relative.db`` or ``sqlite:////absolute.db``; anything else raises ``ValueError``."""
        return cls(path_of_url(url))

    @property
    def journal(self) -> SqliteJournal:
        """See the contract."""
        return self._journal

    @property
    def connections(self) -> Connections:
        """See the contract; those of the watching threads are not counted."""
        return Connections() if self._pools is None else self._pools.state

    async def migrate(self) -> tuple[str, ...]:
        """See the contract."""
        async with Threads("migrate", [Link(self._keys, KEYS)]) as threads:
            return await self._prepare(threads, marker=True)

    async def open(self) -> None:
        """See the contract; a file that is missing or of an older version is prepared, as far as that can be done."""
        if self._pools is not None:
            return
        self._pools = Pools(self._keys, self._history)
        with suppress(StoreError):  # ``ping`` says what is wrong
            await self._prepare(self._pools.writer, marker=False)

    async def close(self) -> None:
        """See the contract."""
        pools, self._pools = self._pools, None
        if pools is not None:
            await asyncio.gather(pools.close(), *(watcher.stop() for watcher in self._watchers))

    async def ping(self) -> None:
        """See the contract."""
        await self._look(reads.check_marker)

    async def find(self, api_key: str) -> FoundKey | None:
        """See the contract."""
        return await self._look(lambda connection: reads.find(connection, api_key))

    async def get(self, key_id: str) -> KeyRecord:
        """See the contract."""
        return await self._look(lambda connection: reads.get(connection, key_id))

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """See the contract."""
        check_limit(limit)

        def listed(connection: sqlite3.Connection) -> Page[KeyRecord]:
            if where.last_used_before is None:
                return reads.list_keys(connection, where, after=after, limit=limit)
            connection.execute("ATTACH ? AS history", (self._history.uri,))
            try:
                return reads.list_keys(connection, where, after=after, limit=limit)
            finally:
                connection.execute("DETACH history")

        return await self._read(listed)

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        """See the contract."""
        return await self._read(lambda connection: reads.count_keys(connection, now))

    async def count_expiring(self, *, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
        """See the contract."""
        return await self._read(lambda connection: reads.count_expiring(connection, now, until))

    async def add(self, record: KeyRecord) -> None:
        """See the contract."""
        await self._write(lambda connection: writes.add(connection, record))

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """See the contract."""
        self._check_open()
        all_organizations, all_records = list(organizations), []
        source = iter(records)
        while batch := list(islice(source, _STEP)):
            all_records += batch
            await asyncio.sleep(0)

        def imported(link: Link) -> int:
            with link.transaction() as connection:
                return writes.add_many(connection, all_organizations, all_records, link.check_wanted)

        return await self._write_by(imported, limit=_BULK_LIMIT)

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """See the contract."""
        return await self._write(
            lambda connection: writes.replace(connection, record, expected_version=expected_version)
        )

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """See the contract."""
        return await self._write(lambda connection: writes.set_state(connection, key_id, state, now=now))

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """See the contract."""
        return await self._write(lambda connection: writes.rehash(connection, key_id, old=old, new=new))

    async def delete(self, key_id: str) -> bool:
        """See the contract."""
        return await self._write(lambda connection: writes.delete(connection, key_id))

    async def add_organization(self, organization: Organization) -> None:
        """See the contract."""
        await self._write(lambda connection: writes.add_organization(connection, organization))

    async def get_organization(self, organization_id: str) -> Organization:
        """See the contract."""
        return await self._look(lambda connection: reads.get_organization(connection, organization_id))

    async def list_organizations(self, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """See the contract."""
        check_limit(limit)
        return await self._read(lambda connection: reads.list_organizations(connection, after=after, limit=limit))

    async def set_organization_active(self, organization_id: str, is_active: bool, *, now: datetime) -> bool:  # noqa: ARG002, FBT001 - the contract's signature; organizations keep no time of change
        """See the contract."""
        return await self._write(
            lambda connection: writes.set_organization_active(connection, organization_id, is_active=is_active)
        )

    async def watch(self, listener: ChangeListener) -> None:
        """See the contract."""
        self._check_open()
        watcher = Watcher(Link(self._keys, KEYS, read_only=True), listener)
        self._watchers.add(watcher)
        watcher.start()
        try:
            await asyncio.get_running_loop().create_future()  # until cancelled
        finally:
            self._watchers.discard(watcher)
            await watcher.stop()

    async def barrier(self) -> None:
        """See the contract."""
        self._check_open()
        if not self._watchers:
            raise StoreUnavailable("nobody watches the SQLite store")
        await asyncio.gather(*(watcher.barrier(limit=_BARRIER_LIMIT) for watcher in self._watchers))

    async def replicate(self) -> bool:
        """See the contract; a write that returned is on the disk."""
        self._check_open()
        return True

    def _check_open(self) -> Pools:
        if self._pools is None:
            raise StoreClosed("the SQLite store is not open")
        return self._pools

    async def _prepare(self, threads: Threads, *, marker: bool) -> tuple[str, ...]:
        def prepared(_: Link) -> tuple[str, ...]:
            return prepare(self._keys, KEYS, marker=marker) + prepare(self._history, HISTORY, marker=marker)

        return await threads.run(prepared, limit=_WRITE_LIMIT, settle=True)

    async def _look(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._check_open().lookups.run(lambda link: call(link.ready()), limit=_READ_LIMIT)

    async def _read(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._check_open().listings.run(lambda link: call(link.ready()), limit=_LISTING_LIMIT)

    async def _write(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        def written(link: Link) -> _T:
            with link.transaction() as connection:
                return call(connection)

        return await self._write_by(written, limit=_WRITE_LIMIT)

    async def _write_by(self, call: Callable[[Link], _T], *, limit: float) -> _T:
        result = await self._check_open().writer.run(call, limit=limit, settle=True)
        for watcher in self._watchers:  # other processes see it when they poll next
            watcher.poke()
        return result

    async def _run_history(self, call: Callable[[Link], _T], *, bulk: bool = False) -> _T:
        limit = _BULK_LIMIT if bulk else _WRITE_LIMIT
        return await self._check_open().history.run(call, limit=limit, settle=True)


if TYPE_CHECKING:
    _conforms: KeyStore = SqliteKeyStore(Path())
