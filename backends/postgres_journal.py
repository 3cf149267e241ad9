"""Use counts, audit trail and claims in Postgres; nothing of it has a trigger, so nothing is announced."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from backends.codec import text_of_time
from backends.errors import Conflict
from backends.journal import NO_HASH, AuditEntry, AuditHead, Claim, HourCount, LastUse
from backends.paging import check_limit, page_of
from backends.postgres_pool import LONG
from backends.postgres_queries import check_storable, quoted, rows_of, storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from backends.journal import Journal, UsageCount
    from backends.postgres_pool import Pool
    from backends.records import Page

__all__ = ["PostgresJournal"]

_ENTRY: Final = (
    "organization_id", "seq", "at", "actor", "actor_organization_id", "action", "target", "client_ip", "request_id",
    "before", "after", "previous_hash", "hash",
)  # fmt: skip
_LAST_SEQ: Final = 2**63 - 1

_ADD_USES: Final = """
    INSERT INTO {schema}.usage_hours AS stored (key_id, hour, uses)
    SELECT key_id, hour::timestamptz, uses FROM unnest($1::text[], $2::text[], $3::bigint[]) AS batch (key_id, hour, uses)
    ON CONFLICT (key_id, hour) DO UPDATE SET uses = stored.uses + excluded.uses"""
_MOVE_LAST_USES: Final = """
    INSERT INTO {schema}.last_uses AS stored (key_id, last_used_at, previous_secret_used_at)
    SELECT key_id, last::timestamptz, previous::timestamptz
    FROM unnest($1::text[], $2::text[], $3::text[]) AS batch (key_id, last, previous)
    ON CONFLICT (key_id) DO UPDATE SET
      last_used_at = GREATEST(stored.last_used_at, excluded.last_used_at),
      previous_secret_used_at = GREATEST(stored.previous_secret_used_at, excluded.previous_secret_used_at)"""
_USES: Final = """
    SELECT hour, uses FROM {schema}.usage_hours
    WHERE key_id = $1::text AND hour >= $2::text::timestamptz AND hour < $3::text::timestamptz ORDER BY hour"""
_LAST_USES: Final = """
    SELECT key_id, last_used_at, previous_secret_used_at FROM {schema}.last_uses WHERE key_id = ANY($1::text[])"""
_FORGET_USES: Final = "DELETE FROM {schema}.usage_hours WHERE key_id = $1::text"
_FORGET_LAST_USE: Final = "DELETE FROM {schema}.last_uses WHERE key_id = $1::text"
_MOVE_HEAD: Final = """
    UPDATE {schema}.audit_heads SET seq = $2::bigint, hash = $3::text
    WHERE organization_id = $1::text AND seq = $2::bigint - 1 AND hash = $4::text"""
_FIRST_HEAD: Final = """
    INSERT INTO {schema}.audit_heads (organization_id, seq, hash, pruned_seq, pruned_hash)
    VALUES ($1::text, 1, $2::text, 0, $3::text) ON CONFLICT DO NOTHING"""
_APPEND: Final = (
    f"INSERT INTO {{schema}}.audit ({', '.join(_ENTRY)}) VALUES ("  # noqa: S608 - names of ours
    "$1::text, $2::bigint, $3::text::timestamptz, " + ", ".join(f"${number}::text" for number in range(4, 14)) + ")"
)
_HEAD: Final = "SELECT seq, hash, pruned_seq, pruned_hash FROM {schema}.audit_heads WHERE organization_id = $1::text"
_ENTRIES: Final = (
    f"SELECT {', '.join(_ENTRY)} FROM {{schema}}.audit"  # noqa: S608 - names of ours
    " WHERE organization_id = $1::text AND seq {beyond} $2::bigint ORDER BY seq {order} LIMIT $3::bigint"
)
_HEADS: Final = "SELECT organization_id FROM {schema}.audit_heads ORDER BY organization_id"
_CHAINS: Final = """
    SELECT organization_id FROM {schema}.audit_heads UNION SELECT organization_id FROM {schema}.audit ORDER BY 1"""
_CLAIM: Final = """
    INSERT INTO {schema}.claims AS stored (name, fingerprint, answer, until)
    VALUES ($1::text, $2::text, NULL, $4::text::timestamptz)
    ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, answer = NULL, until = excluded.until
    WHERE stored.until <= $3::text::timestamptz RETURNING true"""
_CLAIMED: Final = "SELECT fingerprint, answer FROM {schema}.claims WHERE name = $1::text"
_SETTLE: Final = "UPDATE {schema}.claims SET answer = $2::text, until = $3::text::timestamptz WHERE name = $1::text"
_RELEASE: Final = "DELETE FROM {schema}.claims WHERE name = $1::text"
_PRUNE_CLAIMS: Final = "DELETE FROM {schema}.claims WHERE until <= $1::text::timestamptz"
_PRUNE_USES: Final = "DELETE FROM {schema}.usage_hours WHERE hour < $1::text::timestamptz"
_LOCK_HEAD: Final = "SELECT FROM {schema}.audit_heads WHERE organization_id = $1::text FOR UPDATE"
_LAST_OVER: Final = """
    SELECT seq, hash FROM {schema}.audit a WHERE organization_id = $1::text AND seq < coalesce(
      (SELECT min(seq) FROM {schema}.audit WHERE organization_id = $1::text AND at >= $2::text::timestamptz), $3::bigint)
    ORDER BY seq DESC LIMIT 1"""
_MOVE_START: Final = """
    UPDATE {schema}.audit_heads SET pruned_seq = $2::bigint, pruned_hash = $3::text WHERE organization_id = $1::text"""
_PRUNE_ENTRIES: Final = "DELETE FROM {schema}.audit WHERE organization_id = $1::text AND seq <= $2::bigint"


class PostgresJournal:
    """See ``backends.journal.Journal``; opens and closes with its store, whose pool it uses."""

    def __init__(self, pool: Pool, schema: str) -> None:
        self._pool = pool
        self._schema = quoted(schema)

    def _sql(self, statement: str) -> str:
        return statement.replace("{schema}", self._schema)

    async def add_usage(self, batch: Sequence[UsageCount]) -> None:
        """See the contract."""
        counts: Counter[tuple[str, str]] = Counter()
        last: dict[str, datetime] = {}
        previous: dict[str, datetime] = {}
        for item in batch:
            counts[item.key_id, text_of_time(item.hour)] += item.count
            last[item.key_id] = max(last.get(item.key_id, item.last_used_at), item.last_used_at)
            if item.previous_secret_used_at is not None:
                used = item.previous_secret_used_at
                previous[item.key_id] = max(previous.get(item.key_id, used), used)
        if not counts:
            return self._pool.check_open()
        hours = sorted(counts)  # the same order everywhere: two processes that flush at once do not lock each other out
        keys = sorted(last)
        uses = ([key for key, _ in hours], [hour for _, hour in hours], [counts[item] for item in hours])
        times = (
            keys,
            [text_of_time(last[key]) for key in keys],
            [text_of_time(previous[key]) if key in previous else None for key in keys],
        )

        async def add(connection: Any) -> None:
            await connection.execute(self._sql(_ADD_USES), *uses)
            await connection.execute(self._sql(_MOVE_LAST_USES), *times)

        return await self._pool.write(add)

    async def usage(self, key_id: str, *, since: datetime, until: datetime) -> tuple[HourCount, ...]:
        """See the contract."""
        rows = await self._pool.fetch(self._sql(_USES), key_id, text_of_time(since), text_of_time(until))
        return tuple(HourCount(row["hour"].astimezone(UTC), row["uses"]) for row in rows)

    async def last_use(self, key_ids: Iterable[str]) -> Mapping[str, LastUse]:
        """See the contract."""
        rows = await self._pool.fetch(self._sql(_LAST_USES), [key_id for key_id in key_ids if storable(key_id)])
        return {
            row["key_id"]: LastUse(
                row["last_used_at"].astimezone(UTC),
                None if row["previous_secret_used_at"] is None else row["previous_secret_used_at"].astimezone(UTC),
            )
            for row in rows
        }

    async def forget_uses(self, key_id: str) -> None:
        """See the contract; in the order of ``add_usage``, so that the two never lock each other out."""
        if not storable(key_id):
            return self._pool.check_open()

        async def forget(connection: Any) -> None:
            await connection.execute(self._sql(_FORGET_USES), key_id)
            await connection.execute(self._sql(_FORGET_LAST_USE), key_id)

        return await self._pool.write(forget)

    async def append_audit(self, entry: AuditEntry) -> None:
        """See the contract; the head's row is the lock of its chain."""
        values = [text_of_time(entry.at) if name == "at" else getattr(entry, name) for name in _ENTRY]
        check_storable([values])

        async def append(connection: Any) -> None:
            if (entry.seq, entry.previous_hash) == (1, NO_HASH):
                moved = await connection.execute(
                    self._sql(_FIRST_HEAD), entry.organization_id, entry.hash, entry.previous_hash
                )
            else:
                moved = await connection.execute(
                    self._sql(_MOVE_HEAD), entry.organization_id, entry.seq, entry.hash, entry.previous_hash
                )
            if rows_of(moved) == 0:
                raise Conflict("the audit chain has grown meanwhile")
            await connection.execute(self._sql(_APPEND), *values)

        await self._pool.write(append)

    async def audit_head(self, organization_id: str) -> AuditHead:
        """See the contract."""
        rows = await self._pool.fetch(self._sql(_HEAD), organization_id)
        return AuditHead(*rows[0]) if rows else AuditHead()

    async def list_audit(
        self, organization_id: str, *, after: str = "", limit: int = 100, newest_first: bool = False
    ) -> Page[AuditEntry]:
        """See the contract."""
        check_limit(limit)
        statement = _ENTRIES.replace("{beyond}", "<" if newest_first else ">")
        statement = statement.replace("{order}", "DESC" if newest_first else "ASC")
        start = int(after) if after else _LAST_SEQ if newest_first else 0
        rows = await self._pool.fetch(self._sql(statement), organization_id, max(0, min(start, _LAST_SEQ)), limit + 1)
        entries = [AuditEntry(**{**row, "at": row["at"].astimezone(UTC)}) for row in rows]
        return page_of(entries, limit, cursor=lambda entry: str(entry.seq))

    async def audit_chains(self) -> tuple[str, ...]:
        """See the contract."""
        rows = await self._pool.fetch(self._sql(_CHAINS), within=LONG)
        return tuple(row["organization_id"] for row in rows)

    async def claim(self, name: str, fingerprint: str, *, now: datetime, until: datetime) -> Claim | None:
        """See the contract."""

        async def claim(connection: Any) -> Claim | None:
            while True:
                if await connection.fetchval(
                    self._sql(_CLAIM), name, fingerprint, text_of_time(now), text_of_time(until)
                ):
                    return None
                held = await connection.fetchrow(self._sql(_CLAIMED), name)
                if held is not None:  # else it was released in between: once more
                    return Claim(held["fingerprint"], held["answer"])

        return await self._pool.write(claim)

    async def settle(self, name: str, answer: str, *, until: datetime) -> None:
        """See the contract."""
        check_storable([(answer,)])
        await self._pool.change(self._sql(_SETTLE), name, answer, text_of_time(until))

    async def release(self, name: str) -> None:
        """See the contract."""
        await self._pool.change(self._sql(_RELEASE), name)

    async def prune(
        self, *, now: datetime, usage_before: datetime | None = None, audit_before: datetime | None = None
    ) -> int:
        """See the contract."""

        async def prune(connection: Any) -> int:
            pruned = rows_of(await connection.execute(self._sql(_PRUNE_CLAIMS), text_of_time(now)))
            if usage_before is not None:
                pruned += rows_of(await connection.execute(self._sql(_PRUNE_USES), text_of_time(usage_before)))
            if audit_before is not None:
                for row in await connection.fetch(self._sql(_HEADS)):
                    pruned += await self._prune_chain(connection, row["organization_id"], audit_before)
            return pruned

        return await self._pool.write(prune, within=LONG)

    async def _prune_chain(self, connection: Any, organization_id: str, before: datetime) -> int:
        await connection.execute(self._sql(_LOCK_HEAD), organization_id)
        last = await connection.fetchrow(self._sql(_LAST_OVER), organization_id, text_of_time(before), _LAST_SEQ)
        if last is None:
            return 0
        await connection.execute(self._sql(_MOVE_START), organization_id, last["seq"], last["hash"])
        return rows_of(await connection.execute(self._sql(_PRUNE_ENTRIES), organization_id, last["seq"]))


if TYPE_CHECKING:
    _conforms: type[Journal] = PostgresJournal
