"""The history beside the keys: clearing it away takes its time, and nonsense in it is told as such."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreCorrupt
from backends.journal import UsageCount
from backends.sqlite import SqliteKeyStore
from tests.support.clock import START
from tests.support.keys import in_seconds, make_entry
from tests.support.sqlite_kind import ask, by_hand, folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from backends.contract import KeyStore

NO_TIME = ["telltale", "2026-01-01T00:00:00", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"]


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("gk-history-") as place:
        yield Path(place, "keys.db")


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteKeyStore]:
    """With one use and one audit entry."""
    store = SqliteKeyStore(path)
    await store.open()
    await store.journal.add_usage([UsageCount(key_id="key_one", hour=START, count=1, last_used_at=START)])
    await store.journal.append_audit(make_entry())
    yield store
    await store.close()


def history_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.history")


async def test_what_touches_the_whole_history_may_take_longer_than_a_write(
    store: SqliteKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the history of a busy year could never be cleared away: each attempt would be given up half done."""
    monkeypatch.setattr("backends.sqlite._WRITE_LIMIT", 0.0)
    assert await store.journal.audit_chains() == ("acme",)
    later = in_seconds(9_999_999)
    assert await store.journal.prune(now=START, usage_before=later, audit_before=later) == 2


async def test_clearing_uses_away_reads_only_those_that_are_over(store: SqliteKeyStore, path: Path) -> None:
    """It is done again and again, under the lock that every write to the history waits for."""
    await store.ping()
    plan = [row[3] for row in ask(history_of(path), "EXPLAIN QUERY PLAN DELETE FROM usage_hours WHERE hour < ''")]
    assert "SCAN" not in " ".join(plan)


READS: dict[str, tuple[str, Callable[[KeyStore], Awaitable[object]]]] = {
    "last uses": ("UPDATE last_uses SET last_used_at = '{}'", lambda store: store.journal.last_use(["key_one"])),
    "entries": ("UPDATE audit SET at = '{}'", lambda store: store.journal.list_audit("acme")),
}


@pytest.mark.parametrize("time", NO_TIME)
@pytest.mark.parametrize(("statement", "read"), READS.values(), ids=READS)
async def test_a_time_that_a_hand_has_broken_is_corrupt(
    store: SqliteKeyStore, path: Path, statement: str, read: Callable[[KeyStore], Awaitable[object]], time: str
) -> None:
    """And no exception of another kind; the message repeats nothing."""
    by_hand(history_of(path), statement.format(time))
    with pytest.raises(StoreCorrupt) as caught:
        await read(store)
    assert time not in str(caught.value)
