"""Keys in PostgreSQL 13 or later, over asyncpg.

One statement decides a look-up, a trigger announces every change (also one made by hand), and nobody waits beyond a
deadline for a server that does not answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from backends.codec import text_of_time
from backends.contract import EVERY_KEY
from backends.errors import Conflict, NotFound, StoreCorrupt, StoreUnavailable
from backends.paging import check_limit, readable_page
from backends.postgres_connect import Connector
from backends.postgres_import import Import
from backends.postgres_journal import PostgresJournal
from backends.postgres_pool import LONG, LOOK_UP, Pool
from backends.postgres_queries import (
    Queries,
    arguments,
    check_storable,
    organization_of,
    record_of,
    rows_of,
    storable,
)
from backends.postgres_schema import check_marker, migrate
from backends.postgres_url import parse_url
from backends.postgres_watch import Watch
from backends.records import FoundKey
from backends.rules import check_replacement, check_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

    from backends.contract import ChangeListener, KeyStore
    from backends.postgres_url import StoreOptions
    from backends.records import Connections, KeyFilter, KeyRecord, KeyState, Organization, Page, SecretHash

__all__ = ["PostgresKeyStore"]

_BARRIER: Final = 2.0  # seconds


class PostgresKeyStore:
    """See ``backends.contract.KeyStore``."""

    name = "postgres"

    def __init__(self, options: StoreOptions, *, listen: StoreOptions | None = None) -> None:
        connect = options.connect if listen is None else replace(options.connect, pgbouncer=True)
        self._connector = Connector(connect)
        self._ear = self._connector if listen is None else Connector(listen.connect)
        self._schema = options.schema
        self._sql = Queries(options.schema)
        self._pool = Pool(self._connector, options.pool_size)
        self._journal = PostgresJournal(self._pool, options.schema)
        self._watches: list[Watch] = []
        self._epoch: str | None = None

    @classmethod
    def from_url(cls, url: str, *, listen_url: str | None = None) -> Self:
        """The store for ``postgresql://…``; raises ``ValueError``, which names what is wrong and never its value.

        With ``listen_url``, a direct way to the same database, ``url`` is taken to lead through a pooler.
        """
        return cls(parse_url(url), listen=None if listen_url is None else parse_url(listen_url))

    @property
    def journal(self) -> PostgresJournal:
        """See the contract."""
        return self._journal

    @property
    def connections(self) -> Connections:
        """See the contract; the two connections of ``watch`` are not in the pool."""
        return self._pool.connections

    async def migrate(self) -> tuple[str, ...]:
        """See the contract."""
        return await migrate(self._connector, self._schema)

    async def open(self) -> None:
        """See the contract."""
        await self._pool.open()

    async def close(self) -> None:
        """See the contract."""
        await self._pool.close()

    async def ping(self) -> None:
        """See the contract."""
        row = await self._pool.read(lambda connection: connection.fetchrow(self._sql.ping), within=LOOK_UP)
        self._note_marker(row)

    async def find(self, api_key: str) -> FoundKey | None:
        """See the contract."""
        # What cannot be stored is not there, but that takes the marker to say, as for any other key.
        asked = api_key if storable(api_key) else ""
        rows = await self._pool.read(lambda connection: connection.fetch(self._sql.find, asked), within=LOOK_UP)
        self._note_marker(rows[0] if rows else None)
        row = rows[0]
        if row["api_key"] is None or asked != api_key:
            return None
        if len(rows) > 1:
            raise StoreCorrupt("the stored key is there more than once")
        if type(row["organization_is_active"]) is not bool:
            raise StoreCorrupt("the stored key's organization is missing or wrong")
        return FoundKey(record_of(row, api_key=api_key), row["organization_is_active"])

    def _note_marker(self, row: Mapping[str, Any] | None) -> None:
        marker = (None, None, None) if row is None else (row["epoch"], row["schema_version"], row["compatible_from"])
        epoch = check_marker(*marker)
        if epoch != self._epoch:
            self._epoch = epoch
            for watch in self._watches:
                watch.epoch_is(epoch)

    async def get(self, key_id: str) -> KeyRecord:
        """See the contract."""
        rows = await self._pool.fetch(self._sql.get, key_id)
        if not rows:
            raise NotFound("there is no such key")
        return record_of(rows[0])

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """See the contract."""
        check_limit(limit)
        rows = await self._pool.fetch(
            self._sql.list,
            after,
            [state.value for state in where.states],
            where.organization_id,
            where.name,
            None if where.expires_before is None else text_of_time(where.expires_before),
            None if where.last_used_before is None else text_of_time(where.last_used_before),
            limit + 1,
        )
        return readable_page(rows, limit, record_of, cursor=lambda row: row["key_id"])

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        """See the contract."""
        counts = {"active": 0, "disabled": 0, "revoked": 0, "expired": 0}
        rows = await self._pool.fetch(self._sql.count, text_of_time(now))
        counts.update((row["state"], row["number"]) for row in rows if row["state"] in counts)
        return counts

    async def count_expiring(self, *, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
        """See the contract."""
        rows = await self._pool.fetch(self._sql.count_expiring, text_of_time(now), [*map(text_of_time, until)])
        return tuple(int(row["number"]) for row in rows)

    async def add(self, record: KeyRecord) -> None:
        """See the contract."""
        self._pool.check_open()
        values = arguments(record)

        async def add(connection: Any) -> None:
            if rows_of(await connection.execute(self._sql.add, *values)):
                return
            if await connection.fetchrow(self._sql.get_organization, record.organization_id) is None:
                raise NotFound("there is no such organization")
            raise Conflict("the key_id or the api_key is taken")

        await self._pool.write(add)

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """See the contract."""
        self._pool.check_open()
        return await self._pool.write(Import(self._sql, self._schema, organizations, records), within=LONG)

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """See the contract."""
        self._pool.check_open()
        values = arguments(record, version=expected_version + 1)

        async def put(connection: Any) -> None:
            current = await self._lock(connection, record.key_id)
            check_replacement(record, expected_version=expected_version, **current)  # the columns of ``lock``
            await connection.execute(self._sql.replace, *values)

        await self._pool.write(put)
        return replace(record, version=expected_version + 1)

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """See the contract."""

        async def switch(connection: Any) -> bool:
            current = await self._lock(connection, key_id)
            if current["state"] == state:
                return False
            check_state(current["state"], state)
            await connection.execute(self._sql.set_state, key_id, state.value, text_of_time(now))
            return True

        return await self._pool.write(switch)

    async def _lock(self, connection: Any, key_id: str) -> Any:
        row = await connection.fetchrow(self._sql.lock, key_id) if storable(key_id) else None
        if row is None:
            raise NotFound("there is no such key")
        return row

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """See the contract."""
        return await self._pool.change(self._sql.rehash, key_id, old.encode(), new.encode())

    async def delete(self, key_id: str) -> bool:
        """See the contract."""
        return await self._pool.change(self._sql.delete, key_id)

    async def add_organization(self, organization: Organization) -> None:
        """See the contract."""
        created_at = text_of_time(organization.created_at)
        values = (organization.organization_id, organization.is_active, organization.name, created_at)
        check_storable([values])
        if not await self._pool.change(self._sql.add_organization, *values):
            raise Conflict("the organization_id is taken")

    async def get_organization(self, organization_id: str) -> Organization:
        """See the contract."""
        rows = await self._pool.fetch(self._sql.get_organization, organization_id)
        if not rows:
            raise NotFound("there is no such organization")
        return organization_of(rows[0])

    async def list_organizations(self, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """See the contract."""
        check_limit(limit)
        rows = await self._pool.fetch(self._sql.list_organizations, after, limit + 1)
        return readable_page(rows, limit, organization_of, cursor=lambda row: row["organization_id"])

    async def set_organization_active(self, organization_id: str, is_active: bool, *, now: datetime) -> bool:  # noqa: ARG002, FBT001 - the contract's signature; organizations keep no time of change
        """See the contract."""

        async def switch(connection: Any) -> bool:
            if not storable(organization_id):
                raise NotFound("there is no such organization")
            if rows_of(await connection.execute(self._sql.switch_organization, organization_id, is_active)):
                return True
            if await connection.fetchrow(self._sql.get_organization, organization_id) is None:
                raise NotFound("there is no such organization")
            return False

        return await self._pool.write(switch)

    async def watch(self, listener: ChangeListener) -> None:
        """See the contract; a listening connection and one that sends the heartbeats, and a look behind both."""
        self._pool.check_open()
        watch = Watch(ear=self._ear, mouth=self._connector, pool=self._pool, schema=self._schema, listener=listener)
        self._watches.append(watch)
        try:
            await watch.run()
        finally:
            self._watches.remove(watch)

    async def barrier(self) -> None:
        """See the contract."""
        self._pool.check_open()
        if not self._watches:
            raise StoreUnavailable("postgres: nobody watches")
        try:
            async with asyncio.timeout(_BARRIER):
                for watch in list(self._watches):
                    await watch.barrier()
        except TimeoutError:
            raise StoreUnavailable("postgres: the announcing link gives no sign of life") from None

    async def replicate(self) -> bool:
        """See the contract; a write returns when it is committed, which is what ``synchronous_commit`` makes of it."""
        self._pool.check_open()
        return True


if TYPE_CHECKING:
    _conforms: type[KeyStore] = PostgresKeyStore
