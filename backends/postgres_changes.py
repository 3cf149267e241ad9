"""The list of changes behind the announcements, looked through every few seconds for what was not announced.

Serial numbers are not in the order of commits, so "everything after the last one seen" would miss whoever commits late.
Each look therefore begins at the oldest transaction that was still open at the look before: what had ended then has
been seen then, however long anything else takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from backends.postgres_pool import LOOK_UP, USUAL

if TYPE_CHECKING:
    from backends.postgres_pool import Pool

__all__ = ["Change", "ChangeList", "Look"]

_MOST: Final = 20_000  # changes of one look; more of them are as good as everything

_LOOK: Final = """
    SELECT m.epoch, pg_snapshot_xmin(pg_current_snapshot())::text AS position,
      c.seq, c.api_key, extract(epoch FROM c.at)::float8 AS at
    FROM {schema}.meta m LEFT JOIN {schema}.changes c ON c.transaction_id >= $1::text::xid8
    WHERE m.singleton ORDER BY c.seq LIMIT $2::bigint"""
_CLEAR: Final = "DELETE FROM {schema}.changes WHERE at < clock_timestamp() - interval '1 hour'"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the list; without ``api_key`` anything may have changed."""

    seq: int
    api_key: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found that was not known. ``is_gap``: what happened in between cannot be told, so anything may have."""

    changes: tuple[Change, ...]
    epoch: str
    is_gap: bool


class ChangeList:
    """Remembers where the next look begins, and which changes are known already."""

    def __init__(self, pool: Pool, schema: str) -> None:
        self._pool = pool
        self._schema = schema
        self._position: int | None = None
        self._seen: set[int] = set()
        self._announced: set[int] = set()

    def announce(self, seq: int) -> None:
        """This change has been announced and needs no second telling."""
        self._announced.add(seq)

    def was_announced(self, change: Change) -> bool:
        """Whether the announcement has come since the last look."""
        return change.seq in self._announced

    async def look(self) -> Look | None:
        """What is new; ``None`` where the epoch marker is missing. The first look only finds where to begin."""
        first = self._position
        statement = _LOOK.replace("{schema}", self._schema)
        begin = str(first) if first is not None else None
        before, self._announced = self._announced, set()
        try:
            rows = await self._pool.read(
                lambda connection: connection.fetch(statement, begin, _MOST + 1), within=LOOK_UP
            )
        except BaseException:
            self._announced |= before
            raise
        if not rows:
            self._announced |= before
            return None
        changes = [Change(row["seq"], row["api_key"], row["at"]) for row in rows if row["seq"] is not None]
        known = self._seen | before | self._announced
        # What was announced before this look and is not in it had ended before it begins, and will be in none after it.
        self._seen = {change.seq for change in changes} if first is not None else before
        self._position = int(rows[0]["position"])
        is_gap = first is not None and (self._position < first or len(changes) > _MOST)
        return Look(tuple(change for change in changes if change.seq not in known), rows[0]["epoch"], is_gap)

    async def clear(self) -> None:
        """Forget what is older than an hour."""
        statement = _CLEAR.replace("{schema}", self._schema)

        async def clear(connection: Any) -> None:
            await connection.execute(statement)

        await self._pool.write(clear, within=USUAL)
