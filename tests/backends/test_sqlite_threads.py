"""Calls on threads of their own: nobody waits on the loop or for ever, and nothing runs after its caller left."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import StoreClosed, StoreUnavailable
from backends.records import Connections, KeyState
from backends.sqlite import SqliteKeyStore
from backends.sqlite_file import DatabaseFile
from backends.sqlite_link import Link
from backends.sqlite_schema import KEYS
from backends.sqlite_threads import Threads
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.sqlite_kind import folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("gk-threads-") as place:
        yield Path(place, "keys.db")


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteKeyStore]:
    """With the key ``one``."""
    store = SqliteKeyStore(path)
    await store.open()
    await store.add_organization(make_organization())
    await store.add(make_key("one"))
    yield store
    await store.close()


@pytest.fixture
async def threads(store: SqliteKeyStore, path: Path) -> AsyncIterator[Threads]:  # noqa: ARG001 - its file
    """One thread."""
    async with Threads("test", [Link(DatabaseFile(path), KEYS)]) as threads:
        yield threads


@pytest.fixture
def locked(path: Path, store: SqliteKeyStore) -> Iterator[sqlite3.Connection]:  # noqa: ARG001 - its file
    """Another process writes, and does not end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE api_keys SET name = 'x'")
        yield connection


async def test_readers_do_not_wait_for_the_writer(store: SqliteKeyStore, locked: sqlite3.Connection) -> None:
    """They see what was there before its commit."""
    for call in (store.find("one"), store.list_keys(), store.ping(), store.count_keys(now=START), store.get("key_one")):
        await call
    assert (await store.get("key_one")).name == ""
    locked.execute("COMMIT")
    assert (await store.get("key_one")).name == "x"


async def test_a_write_waits_for_the_other_writer(store: SqliteKeyStore, locked: sqlite3.Connection) -> None:
    """And happens then."""
    write = asyncio.ensure_future(store.set_state("key_one", KeyState.REVOKED, now=START))
    assert await store.find("one") is not None
    assert not write.done()
    locked.execute("COMMIT")
    assert await write
    assert (await store.get("key_one")).name == "x"


async def test_a_write_that_waits_too_long_fails_as_a_whole(threads: Threads, locked: sqlite3.Connection) -> None:
    """It does not happen later either."""

    def write(link: Link) -> None:
        with link.transaction() as connection:
            connection.execute("DELETE FROM api_keys")

    with pytest.raises(StoreUnavailable, match="locked"):
        await threads.run(write, limit=0.3, settle=True)
    locked.execute("COMMIT")
    assert await threads.run(count, limit=5) == 1


async def test_closing_does_not_wait_for_a_lock(store: SqliteKeyStore, locked: sqlite3.Connection) -> None:
    """Who waits is told, and the threads end."""
    writes = [asyncio.ensure_future(store.delete("key_one")) for _ in range(3)]
    await store.find("one")
    await store.close()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {StoreClosed, StoreUnavailable}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gatekey-sqlite")]
    assert locked.in_transaction


async def test_a_cancelled_write_that_waits_does_not_happen(store: SqliteKeyStore, locked: sqlite3.Connection) -> None:
    """Its caller leaves at once."""
    write = asyncio.ensure_future(store.delete("key_one"))
    await store.find("one")
    write.cancel()
    await asyncio.wait({write})
    assert write.cancelled()
    locked.execute("COMMIT")
    await store.set_state("key_one", KeyState.DISABLED, now=START)
    assert await store.find("one") is not None


async def test_who_cancels_a_write_under_way_leaves_when_it_is_over(store: SqliteKeyStore) -> None:
    """And finds what will be there: here it was not committed yet, so it is rolled back."""
    gate = threading.Event()

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM api_keys")
        gate.wait(30)

    call = asyncio.ensure_future(store._write(write))
    await until(lambda: store.connections.used > 0)
    call.cancel()
    assert await store.find("one") is not None
    assert not call.done()
    gate.set()
    await asyncio.wait({call})
    assert call.cancelled()
    assert await store.find("one") is not None
    await store.set_state("key_one", KeyState.DISABLED, now=START)
    assert await store.find("one") is not None


async def test_a_cancelled_import_stops_in_the_middle(store: SqliteKeyStore) -> None:
    """Nothing of it is there, and the next write does not wait for its end."""
    records = [make_key(f"k{number}") for number in range(5_000)]
    call = asyncio.ensure_future(store.add_many([], records))
    await until(lambda: store.connections.used > 0)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    await store.set_state("key_one", KeyState.DISABLED, now=START)
    assert sum((await store.count_keys(now=START)).values()) == 1


async def test_a_call_that_nobody_waits_for_never_begins(threads: Threads) -> None:
    """It stood in the queue when its caller left or its time was over."""
    gate, began = threading.Event(), []
    first = asyncio.ensure_future(threads.run(lambda _: gate.wait(), limit=30))
    cancelled = asyncio.ensure_future(threads.run(lambda _: began.append("cancelled"), limit=30))
    late = asyncio.ensure_future(threads.run(lambda _: began.append("late"), limit=0.05))
    await until(lambda: threads.used > 0)
    cancelled.cancel()
    with pytest.raises(StoreUnavailable, match="in time"):
        await late
    gate.set()
    await first
    assert await threads.run(count, limit=5) == 1
    assert began == []


async def test_a_read_that_takes_too_long_is_interrupted(threads: Threads) -> None:
    """The thread is free for the next call."""
    with pytest.raises(StoreUnavailable):
        await threads.run(endless, limit=0.1)
    assert await threads.run(count, limit=5) == 1


async def test_closing_interrupts_a_long_read(store: SqliteKeyStore) -> None:
    """It ends with an error of the contract."""
    read = asyncio.ensure_future(store._check_open().listings.run(endless, limit=60))
    await until(lambda: store.connections.used > 0)
    await store.close()
    with pytest.raises((StoreUnavailable, StoreClosed)):
        await read


async def test_calls_do_not_pile_up(threads: Threads) -> None:
    """Beyond 1,000 that wait, one more is refused at once."""
    gate = threading.Event()
    first = asyncio.ensure_future(threads.run(lambda _: gate.wait(), limit=30))
    await until(lambda: threads.used > 0)
    waiting = [asyncio.ensure_future(threads.run(lambda _: None, limit=30)) for _ in range(1_000)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too many"):
        await threads.run(lambda _: None, limit=30)
    gate.set()
    await asyncio.gather(first, *waiting)
    assert await threads.run(count, limit=5) == 1


async def test_a_defect_reaches_its_caller_and_the_thread_lives_on(threads: Threads) -> None:
    """Whatever it is."""
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda _: 1 // 0, limit=5)
    assert await threads.run(count, limit=5) == 1


async def test_a_full_disk_fails_the_write_and_nothing_else(store: SqliteKeyStore) -> None:
    """With SQLite's own limit in the disk's place; it says so, and goes on when there is room."""
    writer = store._check_open().writer
    pages = await writer.run(lambda link: pragma(link, "page_count"), limit=5)
    await writer.run(lambda link: pragma(link, f"max_page_count = {pages}"), limit=5)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.add_many([], [make_key(f"k{number}") for number in range(1_000)])
    assert await store.find("one") is not None
    assert sum((await store.count_keys(now=START)).values()) == 1
    assert await store.add_many([], [make_key("two")]) == 1  # on a new connection, which has no such limit


async def test_the_pool_tells_its_state(path: Path) -> None:
    """Two for look-ups, and one each for listings, writes and the history."""
    store = SqliteKeyStore(path)
    assert store.connections == Connections()
    await store.open()
    assert store.connections == Connections(idle=0, used=0, maximum=5)
    await store.ping()
    await until(lambda: store.connections.used == 0)
    assert store.connections == Connections(idle=1, used=0, maximum=5)
    await store.close()
    assert store.connections == Connections()


def test_a_store_serves_one_loop_after_the_other(path: Path) -> None:
    """Open again on a new one; a loop that is gone while a call runs harms nothing."""
    store = SqliteKeyStore(path)

    async def once() -> None:
        await store.open()
        await store.ping()
        await store.close()

    asyncio.run(once())
    asyncio.run(once())


async def until(condition: Callable[[], bool]) -> None:
    """Threads tell nobody what they are at, so it is looked at again and again."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0)


def count(link: Link) -> int:
    (found,) = link.ready().execute("SELECT count(*) FROM api_keys").fetchone()
    return int(found)


def endless(link: Link) -> Any:
    query = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    return link.ready().execute(query).fetchone()


def pragma(link: Link, text: str) -> int:
    (value,) = link.ready().execute(f"PRAGMA {text}").fetchone()
    return int(value)
