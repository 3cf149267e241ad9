"""Use counts, the audit trail and claims in a file of their own beside the keys, whose writes no process has to hear of."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from backends.codec import text_of_time, time_of_text
from backends.errors import Conflict, StoreCorrupt
from backends.journal import AuditEntry, AuditHead, Claim, HourCount, LastUse
from backends.paging import check_limit, page_of
from backends.sqlite_rows import comparable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from backends.journal import Journal, UsageCount
    from backends.records import Page
    from backends.sqlite_link import Link

__all__ = ["SqliteJournal"]

_BATCH: Final = 500
_LARGEST: Final = 2**63 - 1  # of SQLite's integers
_AUDIT_COLUMNS: Final = tuple(field.name for field in fields(AuditEntry))
_INSERT_AUDIT: Final = (
    f"INSERT INTO audit ({', '.join(_AUDIT_COLUMNS)}) VALUES ({', '.join('?' * len(_AUDIT_COLUMNS))})"  # noqa: S608 - our own names
)
_ADD_HOUR: Final = """
    INSERT INTO usage_hours (key_id, hour, uses) VALUES (?, ?, ?)
    ON CONFLICT (key_id, hour) DO UPDATE SET uses = uses + excluded.uses
"""
_MOVE_LAST_USE: Final = """
    INSERT INTO last_uses (key_id, last_used_at, previous_secret_used_at) VALUES (?, ?, ?)
    ON CONFLICT (key_id) DO UPDATE SET
        last_used_at = max(last_used_at, excluded.last_used_at),
        previous_secret_used_at = coalesce(
            max(previous_secret_used_at, excluded.previous_secret_used_at),
            previous_secret_used_at, excluded.previous_secret_used_at
        )
"""
_SET_HEAD: Final = (
    "INSERT OR REPLACE INTO audit_heads (organization_id, seq, hash, pruned_seq, pruned_hash) VALUES (?, ?, ?, ?, ?)"
)

_T = TypeVar("_T")


class _Run(Protocol):
    """Runs a call on the thread of the history; ``bulk`` ones, which may touch all of it, have more time."""

    def __call__(self, call: Callable[[Link], _T], /, *, bulk: bool = False) -> Awaitable[_T]: ...


class SqliteJournal:
    """See ``backends.journal.Journal``."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    async def add_usage(self, batch: Sequence[UsageCount]) -> None:
        """See the contract."""
        hours = [(item.key_id, text_of_time(item.hour), item.count) for item in batch]
        uses = [(i.key_id, text_of_time(i.last_used_at), _text(i.previous_secret_used_at)) for i in batch]

        def write(link: Link) -> None:
            with link.transaction() as connection:
                connection.executemany(_ADD_HOUR, hours)
                connection.executemany(_MOVE_LAST_USE, uses)

        await self._run(write)

    async def usage(self, key_id: str, *, since: datetime, until: datetime) -> tuple[HourCount, ...]:
        """See the contract."""
        query = "SELECT hour, uses FROM usage_hours WHERE key_id = ? AND hour >= ? AND hour < ? ORDER BY hour"
        values = (comparable(key_id), text_of_time(since), text_of_time(until))
        rows = await self._run(lambda link: link.ready().execute(query, values).fetchall())
        return tuple(HourCount(_time(hour), count) for hour, count in rows)

    async def last_use(self, key_ids: Iterable[str]) -> Mapping[str, LastUse]:
        """See the contract."""
        asked = [key_id for key_id in key_ids if comparable(key_id) is not None]
        rows = await self._run(lambda link: list(_last_uses(link.ready(), asked)))
        return {
            key_id: LastUse(_time(last), None if before is None else _time(before)) for key_id, last, before in rows
        }

    async def forget_uses(self, key_id: str) -> None:
        """See the contract."""
        values = (comparable(key_id),)

        def write(link: Link) -> None:
            with link.transaction() as connection:
                connection.execute("DELETE FROM usage_hours WHERE key_id = ?", values)
                connection.execute("DELETE FROM last_uses WHERE key_id = ?", values)

        await self._run(write)

    async def append_audit(self, entry: AuditEntry) -> None:
        """See the contract."""
        row = {**dict(zip(_AUDIT_COLUMNS, astuple(entry), strict=True)), "at": text_of_time(entry.at)}

        def write(link: Link) -> None:
            with link.transaction() as connection:
                head = _head(connection, entry.organization_id)
                if (entry.seq, entry.previous_hash) != (head.seq + 1, head.hash):
                    raise Conflict("the audit chain has grown meanwhile")
                connection.execute(_INSERT_AUDIT, tuple(row.values()))
                head = AuditHead(entry.seq, entry.hash, head.pruned_seq, head.pruned_hash)
                connection.execute(_SET_HEAD, (entry.organization_id, *astuple(head)))

        await self._run(write)

    async def audit_head(self, organization_id: str) -> AuditHead:
        """See the contract."""
        return await self._run(lambda link: _head(link.ready(), organization_id))

    async def list_audit(
        self, organization_id: str, *, after: str = "", limit: int = 100, newest_first: bool = False
    ) -> Page[AuditEntry]:
        """See the contract."""
        check_limit(limit)
        beyond, order, start = ("<", "DESC", _LARGEST) if newest_first else (">", "ASC", -1)
        query = (
            f"SELECT {', '.join(_AUDIT_COLUMNS)} FROM audit"  # noqa: S608 - our own names
            f" WHERE organization_id = ? AND seq {beyond} ? ORDER BY seq {order} LIMIT ?"
        )
        position = min(max(int(after), -1), _LARGEST) if after else start
        values = (comparable(organization_id), position, limit + 1)
        rows = await self._run(lambda link: link.ready().execute(query, values).fetchall())
        return page_of([_entry(row) for row in rows], limit, cursor=lambda entry: str(entry.seq))

    async def audit_chains(self) -> tuple[str, ...]:
        """See the contract."""
        query = "SELECT organization_id FROM audit_heads UNION SELECT organization_id FROM audit ORDER BY 1"
        rows = await self._run(lambda link: link.ready().execute(query).fetchall(), bulk=True)
        return tuple(organization_id for (organization_id,) in rows)

    async def claim(self, name: str, fingerprint: str, *, now: datetime, until: datetime) -> Claim | None:
        """See the contract."""

        def write(link: Link) -> Claim | None:
            with link.transaction() as connection:
                query = "SELECT fingerprint, answer FROM claims WHERE name = ? AND until > ?"
                held = connection.execute(query, (name, text_of_time(now))).fetchone()
                if held is not None:
                    return Claim(*held)
                statement = "INSERT OR REPLACE INTO claims (name, fingerprint, until) VALUES (?, ?, ?)"
                connection.execute(statement, (name, fingerprint, text_of_time(until)))
                return None

        return await self._run(write)

    async def settle(self, name: str, answer: str, *, until: datetime) -> None:
        """See the contract."""
        statement = "UPDATE claims SET answer = ?, until = ? WHERE name = ?"
        await self._execute(statement, (answer, text_of_time(until), name))

    async def release(self, name: str) -> None:
        """See the contract."""
        await self._execute("DELETE FROM claims WHERE name = ?", (name,))

    async def prune(
        self, *, now: datetime, usage_before: datetime | None = None, audit_before: datetime | None = None
    ) -> int:
        """See the contract."""

        def write(link: Link) -> int:
            with link.transaction() as connection:
                delete = connection.execute
                pruned = delete("DELETE FROM claims WHERE until <= ?", (text_of_time(now),)).rowcount
                if usage_before is not None:
                    pruned += delete("DELETE FROM usage_hours WHERE hour < ?", (text_of_time(usage_before),)).rowcount
                if audit_before is not None:
                    chains = connection.execute("SELECT organization_id FROM audit_heads").fetchall()
                    pruned += sum(_prune_chain(connection, chain, text_of_time(audit_before)) for (chain,) in chains)
                return pruned

        return await self._run(write, bulk=True)

    async def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        def write(link: Link) -> None:
            with link.transaction() as connection:
                connection.execute(statement, values)

        await self._run(write)


def _last_uses(connection: sqlite3.Connection, key_ids: list[str]) -> Iterator[tuple[str, str, str | None]]:
    for start in range(0, len(key_ids), _BATCH):
        batch = key_ids[start : start + _BATCH]
        query = "SELECT key_id, last_used_at, previous_secret_used_at FROM last_uses"
        yield from connection.execute(f"{query} WHERE key_id IN ({', '.join('?' * len(batch))})", batch)


def _head(connection: sqlite3.Connection, organization_id: str) -> AuditHead:
    query = "SELECT seq, hash, pruned_seq, pruned_hash FROM audit_heads WHERE organization_id = ?"
    row = connection.execute(query, (comparable(organization_id),)).fetchone()
    return AuditHead() if row is None else AuditHead(*row)


def _prune_chain(connection: sqlite3.Connection, organization_id: str, before: str) -> int:
    """From the start, up to the first entry that stays: a chain has no gaps, whatever its entries' times are."""
    head = _head(connection, organization_id)
    query = "SELECT min(seq) FROM audit WHERE organization_id = ? AND at >= ?"
    (stays,) = connection.execute(query, (organization_id, before)).fetchone()
    query = "SELECT seq, hash FROM audit WHERE organization_id = ? AND seq < ? ORDER BY seq DESC LIMIT 1"
    last = connection.execute(query, (organization_id, head.seq + 1 if stays is None else stays)).fetchone()
    if last is None:
        return 0
    connection.execute(_SET_HEAD, (organization_id, head.seq, head.hash, *last))
    return connection.execute(
        "DELETE FROM audit WHERE organization_id = ? AND seq <= ?", (organization_id, last[0])
    ).rowcount


def _entry(row: Sequence[Any]) -> AuditEntry:
    values = dict(zip(_AUDIT_COLUMNS, row, strict=True))
    return AuditEntry(**{**values, "at": _time(values["at"])})


def _text(time: datetime | None) -> str | None:
    return None if time is None else text_of_time(time)


def _time(text: str) -> datetime:
    try:
        return time_of_text(text)
    except (ValueError, OverflowError):
        raise StoreCorrupt("a time in the history is wrong") from None


if TYPE_CHECKING:
    _conforms: type[Journal] = SqliteJournal
