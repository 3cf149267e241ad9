"""Many keys in one transaction: what is there already is looked up, the rest goes in by COPY, one message tells of it.

The rules are those of ``backends.memory``, record by record in their order, so that the first bad record is the error.
Imports wait for one another; whoever else takes an identifier in between makes the transaction fail, and the pool runs it
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backends.codec import TIMES, text_of_time
from backends.errors import Conflict, NotFound
from backends.postgres_queries import COLUMNS, arguments, check_storable, copy_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backends.postgres_queries import Queries
    from backends.records import KeyRecord, Organization

__all__ = ["Import"]

_CHUNK: Final = 2_000
"""Records for which the event loop is held at a time: some milliseconds, because it also decides requests."""

_ENDS: Final = (1, 9999)  # years


class Import:
    """One call of ``add_many``; an operation of the pool, which may run it more than once."""

    def __init__(
        self, queries: Queries, schema: str, organizations: Iterable[Organization], records: Iterable[KeyRecord]
    ) -> None:
        self._queries = queries
        self._schema = schema
        self._organizations = list(organizations)
        self._records = list(records)

    async def __call__(self, connection: Any) -> int:
        """The number of keys that were new.

        One import at a time: those that meet would wait for one another's keys in a circle, or find them taken.
        """
        await connection.execute(self._queries.lock_imports)
        organizations = await self._new_organizations(connection)
        keys = await self._new_keys(connection, {item.organization_id for item in organizations})
        if not organizations and not keys:
            return 0
        await connection.execute("SET LOCAL gatekey.bulk = 'on'")
        await connection.executemany(
            self._queries.add_organization,
            [
                (item.organization_id, item.is_active, item.name, text_of_time(item.created_at))
                for item in organizations
            ],
        )
        for chunk in _chunks(keys):
            await self._insert(connection, chunk)
        await connection.execute(self._queries.announce_everything)
        return len(keys)

    async def _new_organizations(self, connection: Any) -> list[Organization]:
        given = {item.organization_id: item for item in self._organizations}
        known = {row[0] for row in await connection.fetch(self._queries.known_organizations, list(given))}
        return [item for name, item in given.items() if name not in known]

    async def _new_keys(self, connection: Any, new_organizations: set[str]) -> list[KeyRecord]:
        named = {record.organization_id for record in self._records}
        rows = await connection.fetch(self._queries.known_organizations, list(named))
        organizations = new_organizations.union(row[0] for row in rows)
        owners: dict[str, str] = {}  # of every api_key, there already or new
        new_ids: set[str] = set()
        new: list[KeyRecord] = []
        for chunk in _chunks(self._records):
            rows = await connection.fetch(self._queries.known_api_keys, [record.api_key for record in chunk])
            owners.update((row[0], row[1]) for row in rows)
            rows = await connection.fetch(self._queries.known_key_ids, [record.key_id for record in chunk])
            taken = {row[0] for row in rows}
            for record in chunk:
                if record.organization_id not in organizations:
                    raise NotFound("there is no such organization")
                owner = owners.get(record.api_key)
                if owner not in (None, record.organization_id):
                    raise Conflict("an api_key is taken by another organization")
                if owner is not None:
                    continue
                if record.key_id in taken or record.key_id in new_ids:
                    raise Conflict("a key_id is taken")
                owners[record.api_key] = record.organization_id
                new_ids.add(record.key_id)
                new.append(record)
        return new

    async def _insert(self, connection: Any, records: Sequence[KeyRecord]) -> None:
        # COPY is binary, and in that form the driver takes the calendar's ends for infinity.
        at_the_ends = [record for record in records if _is_at_the_ends(record)]
        usual = [copy_row(record) for record in records if not _is_at_the_ends(record)]
        check_storable(usual)
        if usual:
            await connection.copy_records_to_table("keys", schema_name=self._schema, columns=COLUMNS, records=usual)
        if at_the_ends:
            await connection.executemany(self._queries.add, [arguments(record) for record in at_the_ends])


def _is_at_the_ends(record: KeyRecord) -> bool:
    times = (getattr(record, name) for name in TIMES)
    return any(time is not None and time.year in _ENDS for time in times)


def _chunks(records: Sequence[KeyRecord]) -> Iterator[Sequence[KeyRecord]]:
    return (records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK))
