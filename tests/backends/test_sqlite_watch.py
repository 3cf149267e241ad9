"""What a process hears: changes of every kind and by every way, and what happens when some of them are missing."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import StoreUnavailable
from backends.records import KeyState, Origin
from backends.sqlite import SqliteKeyStore
from backends.sqlite_link import Link
from backends.sqlite_schema import KEYS
from backends.sqlite_watch import Watcher
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.recorder import EVERYTHING, HEARTBEAT, Recorder, Told, told_by, watching
from tests.support.sqlite_kind import ask, by_hand, folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("gk-watch-") as place:
        yield Path(place, "keys.db")


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteKeyStore]:
    """With the keys ``k0`` to ``k199``."""
    store = SqliteKeyStore(path)
    await store.open()
    await store.add_organization(make_organization())
    await store.add_many([], [make_key(f"k{number}") for number in range(200)])
    yield store
    await store.close()


async def changes(recorder: Recorder, store: SqliteKeyStore) -> list[Told]:
    """In their order, up to a change of our own that marks the end."""
    await store.add(make_key("the-end"))
    await recorder.wait_for(lambda: any(told.what in ("the-end", EVERYTHING) for told in recorder.told[2:]))
    await store.barrier()
    return [told for told in recorder.told[2:] if told.what not in ("the-end", HEARTBEAT)]


BY_HAND = {
    "an update": ("UPDATE api_keys SET state = 'revoked' WHERE api_key = 'k7'", ["k7"]),
    "an update of two": ("UPDATE api_keys SET name = 'x' WHERE api_key IN ('k7', 'k8')", ["k7", "k8"]),
    "another handle": ("UPDATE api_keys SET api_key = 'new' WHERE api_key = 'k7'", ["new", "k7"]),
    "a deletion": ("DELETE FROM api_keys WHERE api_key = 'k7'", ["k7"]),
    "an insertion": (
        (
            "INSERT INTO api_keys SELECT 'key_new', organization_id, 'new', secret, NULL, NULL, NULL, NULL, domains,"
            " scopes, origins, networks, state, NULL, 0, name, metadata, created_at, updated_at, 1"
            " FROM api_keys WHERE api_key = 'k7'"
        ),
        ["new"],
    ),
    "a key put in another's place": (
        (
            "REPLACE INTO api_keys SELECT key_id, organization_id, 'new', secret, NULL, NULL, NULL, NULL, domains,"
            " scopes, origins, networks, state, NULL, 0, name, metadata, created_at, updated_at, 1"
            " FROM api_keys WHERE api_key = 'k7'"
        ),
        ["k7", "new"],
    ),
    "an organization put in its own place": (
        "REPLACE INTO organizations SELECT organization_id, 0, name, created_at FROM organizations",
        [EVERYTHING],
    ),
    "an organization": ("UPDATE organizations SET is_active = 0", [EVERYTHING]),
    "a deleted organization": ("DELETE FROM organizations", [EVERYTHING]),
    "100 at once": ("UPDATE api_keys SET name = 'x' WHERE rowid <= 99", [f"k{number}" for number in range(99)]),
    "more than 100 at once": ("UPDATE api_keys SET name = 'x'", [EVERYTHING]),
    "another marker": ("UPDATE meta SET value = 'another'", [EVERYTHING]),
    "a deleted list of changes": ("DELETE FROM changes", []),
}


@pytest.mark.parametrize(("statement", "told"), BY_HAND.values(), ids=BY_HAND)
async def test_a_change_by_hand_is_told(store: SqliteKeyStore, path: Path, statement: str, told: list[str]) -> None:
    """As what it is, with the time of the write."""
    async with watching(store) as recorder:
        by_hand(path, statement)
        heard = await changes(recorder, store) if "organizations" not in statement else await last(recorder)
    assert sorted(event.what for event in heard) == sorted(told)
    origins = {Origin.BULK if event.what == EVERYTHING else Origin.KEY for event in heard}
    assert {event.origin for event in heard} == origins


async def last(recorder: Recorder) -> list[Told]:
    await recorder.until(EVERYTHING)
    return [told for told in recorder.told[2:] if told.what != HEARTBEAT]


async def test_changes_are_told_in_the_order_of_their_commits_with_their_times(
    store: SqliteKeyStore, path: Path
) -> None:
    """The times are those of the list of changes."""
    async with watching(store) as recorder:
        for number in (5, 3, 4, 3):
            await store.replace(
                make_key(f"k{number}", name=str(len(recorder.told))),
                expected_version=(await store.get(f"key_k{number}")).version,
            )
        heard = await changes(recorder, store)
    listed = ask(path, "SELECT at FROM changes WHERE api_key LIKE 'k_' ORDER BY id")
    assert [told.at for told in heard] == [pytest.approx(at, abs=0.001) for (at,) in listed]
    assert [told.what for told in heard] == ["k5", "k3", "k4", "k3"]


async def test_changes_that_are_missing_from_the_list_are_everything(store: SqliteKeyStore, path: Path) -> None:
    """It was pruned while the process was paused; one transaction here, so that nothing is seen in between."""
    async with watching(store) as recorder:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.execute("UPDATE api_keys SET name = 'x' WHERE api_key IN ('k1', 'k2')")
            connection.execute("DELETE FROM changes WHERE api_key = 'k1'")
            connection.execute("COMMIT")
        assert [told.what for told in await last(recorder)] == [EVERYTHING]


async def test_the_list_of_changes_is_bounded(store: SqliteKeyStore, path: Path) -> None:
    """The last 10,000, and at most 1,000 more."""
    for _ in range(60):
        by_hand(path, "UPDATE api_keys SET name = name || 'x'")
    ((count, low, high),) = ask(path, "SELECT count(*), min(id), max(id) FROM changes")
    assert 10_000 <= count <= 11_000
    assert high - low == count - 1
    assert await store.find("k1") is not None


async def test_an_import_writes_one_change(store: SqliteKeyStore, path: Path) -> None:
    """And leaves no mark behind; one that brings nothing new writes none."""
    before = ask(path, "SELECT max(id) FROM changes")[0][0]
    await store.add_many([], [make_key(f"new{number}") for number in range(500)])
    assert ask(path, f"SELECT id, api_key FROM changes WHERE id > {before}") == [(before + 1, None)]  # noqa: S608 - a number
    assert ask(path, "SELECT name FROM meta") == [("epoch",)]
    assert await store.add_many([make_organization()], [make_key("new1")]) == 0
    assert ask(path, "SELECT max(id) FROM changes") == [(before + 1,)]


async def test_an_import_that_fails_goes_on_being_told_key_by_key(store: SqliteKeyStore, path: Path) -> None:
    """Its mark is rolled back with it."""
    async with watching(store) as recorder:
        with pytest.raises(Exception, match="taken"):
            await store.add_many([], [make_key("new"), make_key("other", key_id="key_k1")])
        await store.set_state("key_k1", KeyState.REVOKED, now=START)
        assert [told.what for told in await changes(recorder, store)] == ["k1"]
    assert ask(path, "SELECT name FROM meta") == [("epoch",)]


async def test_without_the_marker_there_is_no_sign_of_life(store: SqliteKeyStore, path: Path) -> None:
    """And when it is back everything may have changed, before the next sign."""
    async with watching(store) as recorder:
        marker = ask(path, "SELECT value FROM meta")[0][0]
        by_hand(path, "DELETE FROM meta")
        with pytest.raises(Exception, match="did not come"):
            await store.barrier()
        recorder.told.clear()
        by_hand(path, f"INSERT INTO meta VALUES ('epoch', '{marker}')")  # noqa: S608 - hexadecimal
        await recorder.wait_for(lambda: len(recorder.told) >= 2)
    assert [told.what for told in recorder.told[:2]] == [EVERYTHING, HEARTBEAT]
    assert recorder.told[0].origin is Origin.RECONNECT


class Reading:
    """A watcher's connection: something happens between its question for the version and the one for the changes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.between: Callable[[], object] = lambda: None
        self.version: int | None = None
        """What it is told, instead of the truth."""

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement != "PRAGMA data_version":
            self.between()
        elif self.version is not None:
            return self._connection.execute(f"SELECT {self.version}")
        return self._connection.execute(statement, *parameters)


@pytest.mark.parametrize("origin", [Origin.KEY, Origin.CHANGE_LOG])
async def test_a_change_was_missed_only_if_the_version_never_told_of_it(
    store: SqliteKeyStore, path: Path, origin: Origin
) -> None:
    """One that is written between the two reads of a look through the list is as much in time as any."""
    with closing(sqlite3.connect(path)) as connection:
        reading: Any = Reading(connection)
        watcher = Watcher(Link(store._keys, KEYS, read_only=True), Recorder())
        watcher._read(reading, 0.0)
        if origin is Origin.CHANGE_LOG:
            (reading.version,) = connection.execute("PRAGMA data_version").fetchone()
        reading.between = partial(by_hand, path, "UPDATE api_keys SET state = 'revoked' WHERE api_key = 'k7'")
        assert [(found.api_key, found.origin) for found in watcher._read(reading, 10.0)] == [("k7", origin)]
        reading.between = lambda: None
        assert watcher._read(reading, 20.0) == []


async def test_a_restored_list_of_changes_is_everything(store: SqliteKeyStore, path: Path) -> None:
    """``.restore`` of the shell puts an older content into the same file."""
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(":memory:")) as backup:
        connection.backup(backup)
        async with watching(store) as recorder:
            await store.set_state("key_k1", KeyState.REVOKED, now=START)
            await store.barrier()
            recorder.told.clear()
            backup.backup(connection)
            await recorder.until(EVERYTHING)
        found = await store.find("k1")
    assert found is not None
    assert found.key.state is KeyState.ACTIVE


async def test_another_store_in_the_same_file_is_everything(store: SqliteKeyStore, path: Path) -> None:
    """Though its list of changes is as long: its marker is another one."""
    strange = SqliteKeyStore(path.with_name("strange.db"))
    await strange.open()
    await strange.add_organization(make_organization())
    await strange.add_many([], [make_key("strange")])
    await strange.close()
    async with watching(store) as recorder:
        with closing(sqlite3.connect(path.with_name("strange.db"))) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        await recorder.until(EVERYTHING)
    assert await store.find("strange") is not None


async def test_a_barrier_ends_with_the_watch(store: SqliteKeyStore, path: Path) -> None:
    """However long it would have waited for a sign of life."""
    async with watching(store):
        by_hand(path, "DELETE FROM meta")
        (watcher,) = store._watchers
        barrier = asyncio.ensure_future(watcher.barrier(limit=3600))
        await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await barrier


async def test_a_watch_that_ends_takes_its_thread_with_it(store: SqliteKeyStore) -> None:
    """And closing the store those of all, also while somebody watches."""
    before = set(threading.enumerate())
    async with watching(store):
        assert set(threading.enumerate()) - before
    assert set(threading.enumerate()) <= before
    recorder = Recorder()
    async with told_by(store, recorder):
        await recorder.until(HEARTBEAT)
        await store.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("gatekey-sqlite")]


async def test_a_sign_of_life_is_as_old_as_its_reading(store: SqliteKeyStore) -> None:
    """A loop that was blocked hears so."""
    async with watching(store) as recorder:
        recorder.told.clear()
        threading.Event().wait(0.7)  # blocks the loop; signs of life queue up meanwhile
        await store.barrier()
        delays = [told.delay for told in recorder.told if told.delay is not None]
    assert max(delays) > 0.2
    assert delays[-1] < max(delays)
