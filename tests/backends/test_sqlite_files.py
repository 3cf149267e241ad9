"""The files: how they are made, what is refused, and what happens when one is moved, replaced or deleted under the service."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreNotReady, StoreUnavailable, StoreUnfit
from backends.records import Origin
from backends.sqlite import SqliteKeyStore
from backends.sqlite_schema import KEYS
from tests.support.keys import make_key, make_organization
from tests.support.recorder import EVERYTHING, HEARTBEAT, Told, watching
from tests.support.sqlite_kind import ask, by_hand, folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from backends.sqlite_link import Link


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("gk-files-") as place:
        yield Path(place, "keys.db")


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteKeyStore]:
    """Not open."""
    store = SqliteKeyStore(path)
    yield store
    await store.close()


@pytest.fixture
async def full(store: SqliteKeyStore) -> SqliteKeyStore:
    """With the key ``one``."""
    await store.open()
    await store.add_organization(make_organization())
    await store.add(make_key("one"))
    return store


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def change(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def delete(path: Path) -> None:
    path.unlink()


def exists(path: Path) -> bool:
    return path.exists()


def link_to(path: Path, link: Path) -> None:
    link.symlink_to(path)


def move(source: Path, target: Path) -> None:
    source.rename(target)


# -- how they are made ----------------------------------------------------------------------------------------------------


async def test_the_files_are_readable_by_their_owner_alone(full: SqliteKeyStore, path: Path) -> None:
    """Whatever the umask; SQLite's own files beside them too."""
    await full.journal.release("nothing")
    files = {name: mode_of(path.with_name(name)) for name in names(path.parent)}
    endings = ("", "-wal", "-shm")
    assert files == {f"keys.db{middle}{ending}": 0o600 for middle in ("", ".history") for ending in endings}


async def test_opening_prepares_a_file_that_is_not_there(store: SqliteKeyStore, path: Path) -> None:
    """With the marker; closing leaves no log behind."""
    await store.open()
    await store.ping()
    assert await store.find("one") is None
    await store.close()
    assert names(path.parent) == {"keys.db", "keys.db.history"}


async def test_preparing_says_what_was_done_once(store: SqliteKeyStore) -> None:
    """The second time there is nothing to do."""
    assert await store.migrate() == (
        "created the SQLite file of the keys",
        "brought the SQLite file of the keys to schema 1",
        "wrote the epoch marker",
        "created the SQLite file of the history",
        "brought the SQLite file of the history to schema 1",
    )
    assert await store.migrate() == ()


async def test_an_empty_file_is_prepared_too(store: SqliteKeyStore, path: Path) -> None:
    """Somebody made it to set its permissions."""
    os.close(os.open(path, os.O_CREAT, 0o640))
    await store.open()
    await store.ping()
    assert mode_of(path) == 0o640


async def test_many_that_open_at_once_prepare_one_file(path: Path) -> None:
    """One marker, one set of tables."""
    stores = [SqliteKeyStore(path) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.ping() for store in stores))
    await stores[0].add_organization(make_organization())
    await stores[1].add(make_key("one"))
    assert all(await asyncio.gather(*(store.find("one") for store in stores)))
    await asyncio.gather(*(store.close() for store in stores))
    assert ask(path, "SELECT count(*) FROM meta") == [(1,)]


async def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    """A wrong path must not become an empty store."""
    store = SqliteKeyStore(tmp_path / "nowhere" / "keys.db")
    await store.open()
    for call in (store.ping(), store.find("one"), store.add_organization(make_organization())):
        with pytest.raises(StoreUnavailable, match=r"does not exist|gone"):
            await call
    with pytest.raises(StoreUnavailable, match="folder"):
        await store.migrate()
    await store.close()
    assert names(tmp_path) == set()


async def test_what_lies_beside_the_keys_moves_no_version_of_their_file(full: SqliteKeyStore, path: Path) -> None:
    """Its flushes would wake every process."""
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        await full.journal.release("nothing")
        assert await full.journal.claim("name", "print", now=make_key().created_at, until=make_key().created_at) is None
        assert connection.execute("PRAGMA data_version").fetchone() == before
        await full.delete("key_one")
        assert connection.execute("PRAGMA data_version").fetchone() != before


# -- what is refused ------------------------------------------------------------------------------------------------------


def too_new(path: Path) -> None:
    by_hand(path, f"PRAGMA user_version = {KEYS.version + 1}")


def of_another_application(path: Path) -> None:
    by_hand(path, "PRAGMA application_id = 7")


def no_database(path: Path) -> None:
    path.write_bytes(b"telltale text of some length" * 1000)


UNFIT = {
    "too new": (too_new, rf"schema {KEYS.version + 1}, .* knows {KEYS.version} at most"),
    "of another application": (of_another_application, "something else"),
    "no database": (no_database, "no database"),
}


@pytest.mark.parametrize(("spoil", "message"), UNFIT.values(), ids=UNFIT)
async def test_a_file_that_is_not_for_us_is_refused_and_left_alone(
    store: SqliteKeyStore, path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """Opening says nothing, every call does, and no byte changes."""
    await store.migrate()
    spoil(path)
    before = bytes_of(path)
    await store.open()
    for call in (store.ping(), store.find("one"), store.migrate(), store.add_organization(make_organization())):
        with pytest.raises(StoreUnfit, match=message) as caught:
            await call
        assert "telltale" not in str(caught.value)
    await store.close()
    assert bytes_of(path) == before


async def test_the_database_of_something_else_is_not_touched(store: SqliteKeyStore, path: Path) -> None:
    """It has tables, and no mark of ours."""
    by_hand(path, "CREATE TABLE theirs (x)")
    before = bytes_of(path)
    await store.open()
    with pytest.raises(StoreUnfit, match="something else"):
        await store.ping()
    assert bytes_of(path) == before


async def test_a_file_of_the_history_cannot_be_the_one_of_the_keys(store: SqliteKeyStore, path: Path) -> None:
    """Somebody mixed up a backup."""
    await store.migrate()
    move(path.with_name("keys.db.history"), path)
    await store.open()
    with pytest.raises(StoreUnfit):
        await store.find("one")


async def test_a_store_that_was_never_prepared_is_not_ready(full: SqliteKeyStore, path: Path) -> None:
    """An empty database proves nothing."""
    other = path.with_name("empty.db")
    by_hand(other, "PRAGMA user_version = 0", "VACUUM")
    move(other, path)
    with pytest.raises(StoreNotReady, match="gatekey migrate"):
        await full.find("one")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta",
        "UPDATE meta SET value = NULL WHERE name = 'epoch'",
        "UPDATE meta SET value = '' WHERE name = 'epoch'",
        "DROP TABLE meta",
    ],
)
async def test_without_the_marker_no_key_is_unknown(full: SqliteKeyStore, path: Path, statement: str) -> None:
    """Whoever wiped the file by hand must not turn keys into 401."""
    by_hand(path, "DELETE FROM api_keys", statement)
    for call in (full.find("one"), full.find("none"), full.ping()):
        with pytest.raises(StoreNotReady):
            await call


async def test_preparing_writes_a_missing_marker_again_and_opening_does_not(full: SqliteKeyStore, path: Path) -> None:
    """An operator's decision."""
    by_hand(path, "DELETE FROM meta")
    await full.close()
    await full.open()
    with pytest.raises(StoreNotReady, match="marker"):
        await full.ping()
    assert await full.migrate() == ("wrote the epoch marker",)
    await full.ping()
    assert await full.find("one") is not None


async def test_a_damaged_file_gives_no_answer(full: SqliteKeyStore, path: Path) -> None:
    """Neither a key nor "no such key"."""
    await full.close()
    change(path, lambda data: data[:4096] + re.sub(rb"[^\0]", b"\xff", data[4096:]))
    await full.open()
    for name in ("one", "none"):
        with pytest.raises(StoreUnavailable, match="damaged"):
            await full.find(name)


# -- moved, replaced, deleted ---------------------------------------------------------------------------------------------


async def backup(path: Path) -> Path:
    copy = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


async def test_a_backup_moved_into_place_is_read_at_once_and_whole(full: SqliteKeyStore, path: Path) -> None:
    """The log of the file before, with what was written since, is not mixed into it."""
    copy = await backup(path)
    async with watching(full) as recorder:
        await full.add_many([], [make_key(f"late-{number}") for number in range(300)])
        await full.delete("key_one")
        move(copy, path)
        assert await full.find("one") is not None
        assert await full.find("late-7") is None
        await recorder.wait_for(lambda: any(told.origin is Origin.RECONNECT for told in recorder.told[1:]))
        await full.add(make_key("two"))
        await recorder.until("two")
        assert await full.find("two") is not None
    await full.close()
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "SELECT api_key FROM api_keys ORDER BY 1") == [("one",), ("two",)]


async def test_a_deleted_file_is_no_empty_store(full: SqliteKeyStore, path: Path) -> None:
    """Until it is back nothing is answered, no sign of life comes, and then everything may have changed."""
    async with watching(full) as recorder:
        copy = await backup(path)
        delete(path)
        for name in ("one", "none"):
            with pytest.raises(StoreUnavailable, match="gone"):
                await full.find(name)
        with pytest.raises(StoreUnavailable):
            await full.add(make_key("two"))
        with pytest.raises(StoreUnavailable):
            await full.barrier()
        assert not exists(path), "it was made again"
        recorder.told.clear()
        move(copy, path)
        await recorder.wait_for(lambda: len(recorder.told) >= 2)
        assert [told.what for told in recorder.told[:2]] == [EVERYTHING, HEARTBEAT]
        assert recorder.told[0].origin is Origin.RECONNECT
        assert await full.find("one") is not None


async def test_a_file_that_was_away_for_a_while_is_the_same_again(full: SqliteKeyStore, path: Path) -> None:
    """With what was not yet folded into it; the silence is told as such."""
    away = path.with_name("away.db")
    async with watching(full) as recorder:
        move(path, away)
        with pytest.raises(StoreUnavailable):
            await full.find("one")
        with pytest.raises(StoreUnavailable):
            await full.barrier()
        recorder.told.clear()
        move(away, path)
        assert await full.find("one") is not None
        await recorder.wait_for(lambda: len(recorder.told) >= 2)
        assert recorder.told[0] == Told(EVERYTHING, None, Origin.RECONNECT)
        await full.add(make_key("two"))
    await full.close()
    assert ask(path, "SELECT count(*) FROM api_keys") == [(2,)]


async def test_a_write_into_a_file_that_is_replaced_meanwhile_is_not_called_done(
    full: SqliteKeyStore, path: Path
) -> None:
    """It went into the file that nobody reads any more."""
    copy = await backup(path)

    def write(link: Link) -> None:
        with link.transaction() as connection:
            connection.execute("DELETE FROM api_keys")
            move(copy, path)

    with pytest.raises(StoreUnavailable, match="replaced"):
        await full._check_open().writer.run(write, limit=5)
    assert await full.find("one") is not None


async def test_a_file_that_was_prepared_anew_is_a_new_one(full: SqliteKeyStore, path: Path) -> None:
    """The leftover log of the deleted file does not spoil it, though this process still holds it open."""
    delete(path)
    assert "created the SQLite file of the keys" in await full.migrate()
    assert await full.find("one") is None
    await full.add_organization(make_organization())
    await full.add(make_key("two"))
    await full.close()
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "SELECT api_key FROM api_keys") == [("two",)]


@pytest.mark.parametrize("ending", ["-shm", "-wal"])
async def test_a_deleted_log_is_noticed(full: SqliteKeyStore, path: Path, ending: str) -> None:
    """Processes that go on with the deleted one would not see each other's writes any more, and say nothing instead."""
    await full.find("one")
    delete(Path(f"{path}{ending}"))
    for call in (full.find("one"), full.find("none"), full.delete("key_one"), full.ping()):
        with pytest.raises(StoreUnavailable, match="restart"):
            await call
    await full.close()
    await full.open()
    await full.ping()
    await full.find("one")
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_link_to_the_file_will_do(path: Path) -> None:
    """SQLite puts its own files beside the file itself, and so do we look for them."""
    await SqliteKeyStore(path).migrate()
    link = path.with_name("link.db")
    link_to(path, link)
    move(path.with_name("keys.db.history"), path.with_name("link.db.history"))
    store = SqliteKeyStore(link)
    await store.open()
    async with watching(store) as recorder:
        await store.add_organization(make_organization())
        await store.add(make_key("one"))
        await recorder.until("one")
    assert "keys.db-wal" in names(path.parent)
    await store.close()


async def test_a_read_only_file_can_be_read(full: SqliteKeyStore, path: Path) -> None:
    """And a write fails as a whole, saying why."""
    await full.close()
    change(path, lambda data: data[:18] + b"\3" + data[19:])  # SQLite's own mark for "do not write"; root heeds it too
    await full.open()
    assert await full.find("one") is not None
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await full.delete("key_one")
