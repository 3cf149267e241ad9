"""The list of changes behind the announcements, looked through every few seconds for what was not announced.

Serial numbers are not in the order of commits, so "everything after the last one seen" would miss whoever commits late.
Each look therefore asks for what the snapshot of the look before it could not see: every change is found once, however
long its transaction takes, and however many others end meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backends.errors import StoreUnavailable
from backends.postgres_pool import LOOK_UP
from backends.postgres_queries import EPOCH, STANDBY, quoted

if TYPE_CHECKING:
    from backends.postgres_pool import Pool

__all__ = ["Change", "ChangeList"]

_MOST: Final = 20_000  # changes of one look; more of them are as good as everything

# Rows of transactions that are still to come were restored from a backup of another server.
_LOOK: Final = """
    SELECT {epoch} AS epoch, pg_current_snapshot()::text AS snapshot,
      c.seq, c.api_key, extract(epoch FROM c.at)::float8 AS at
    FROM {schema}.meta m LEFT JOIN {schema}.changes c
      ON c.transaction_id >= pg_snapshot_xmin($1::text::pg_snapshot)
      AND c.transaction_id < pg_snapshot_xmax(pg_current_snapshot())
      AND NOT pg_visible_in_snapshot(c.transaction_id, $1::text::pg_snapshot)
    WHERE m.singleton ORDER BY c.seq LIMIT $2::bigint"""
_CLEAR: Final = "DELETE FROM {schema}.changes WHERE at < clock_timestamp() - interval '1 hour'"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the list; without ``api_key`` anything may have changed."""

    seq: int
    api_key: str | None
    at: float


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look found that was not known. ``is_gap``: what happened in between cannot be told, so anything may have."""

    changes: tuple[Change, ...]
    epoch: str
    is_gap: bool


class ChangeList:
    """Remembers what the last look could see, and which changes were announced since."""

    def __init__(self, pool: Pool, schema: str) -> None:
        self._pool = pool
        self._look, self._clear = (
            statement.replace("{schema}", quoted(schema)).replace("{epoch}", EPOCH) for statement in (_LOOK, _CLEAR)
        )
        self._epoch: str | None = None
        self._snapshot: str | None = None
        self._announced: set[int] = set()
        self._doubts = 0

    def announce(self, seq: int) -> None:
        """This change has been announced and needs no second telling."""
        self._announced.add(seq)

    def was_announced(self, change: Change) -> bool:
        """Whether the announcement has come since the last look."""
        return change.seq in self._announced

    def doubt(self) -> None:
        """Another server may answer from now on, which numbers its transactions anew from a moment before the last look."""
        self._doubts += 1
        if self._snapshot is not None:
            oldest, _ = _bounds(self._snapshot)
            self._snapshot = f"{oldest}:{oldest}:"

    async def look(self) -> _Look | None:
        """What is new; ``None`` where the epoch marker is missing. The first look only finds where to begin."""
        last, doubts = self._snapshot, self._doubts
        before, self._announced = self._announced, set()
        try:
            rows = await self._pool.fetch(self._look, last, _MOST + 1, within=LOOK_UP)
        except BaseException:
            self._announced |= before
            raise
        if not rows or rows[0]["epoch"] == STANDBY:
            self._announced |= before
            if rows:
                raise StoreUnavailable("postgres: a standby has no list of changes that could be relied upon")
            return None
        epoch, self._snapshot = rows[0]["epoch"], rows[0]["snapshot"]
        went_back = last is not None and any(
            now < then for now, then in zip(_bounds(self._snapshot), _bounds(last), strict=True)
        )
        if doubts != self._doubts:  # it came up while this look was under way
            self.doubt()
        was_exchanged, self._epoch = self._epoch not in (None, epoch), epoch
        if was_exchanged:
            self._announced.clear()  # the numbers of another list
            return _Look((), epoch, is_gap=True)
        changes = [Change(row["seq"], row["api_key"], row["at"]) for row in rows if row["seq"] is not None]
        # What was announced before this look and is not in it had ended before it begins, and will be in none after it.
        known = before | self._announced
        is_gap = went_back or len(changes) > _MOST
        return _Look(tuple(change for change in changes if change.seq not in known), epoch, is_gap)

    async def clear(self) -> None:
        """Forget what is older than an hour."""
        await self._pool.change(self._clear)


def _bounds(snapshot: str) -> tuple[int, int]:
    """The oldest transaction that was open, and the first one that had not begun."""
    oldest, next_one, _ = snapshot.split(":")
    return int(oldest), int(next_one)
