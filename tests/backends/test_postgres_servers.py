"""Which server answers: a standby proves nothing, and a restored database is another store whatever its marker says."""

from __future__ import annotations

import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreUnavailable
from backends.postgres import PostgresKeyStore
from backends.postgres_changes import ChangeList
from backends.postgres_connect import Connector
from backends.postgres_pool import Pool
from backends.postgres_url import parse_url
from backends.records import KeyState, Origin
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.postgres_kind import psql
from tests.support.postgres_server import PostgresServer, as_nobody
from tests.support.recorder import EVERYTHING, Told, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(debian_programs: Path) -> Iterator[PostgresServer]:
    """With the tools of Debian, which the wheel lacks."""
    server = PostgresServer(debian_programs)
    yield server
    server.stop()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresKeyStore]:
    store = PostgresKeyStore.from_url(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def store(server: PostgresServer) -> AsyncIterator[PostgresKeyStore]:
    """With the key ``one`` of ``acme``, in the schema ``gatekey``."""
    async with opened(server.url(schema="gatekey", sslmode="disable")) as store:
        await store.migrate()
        await store.add_many([make_organization()], [make_key("one")])
        yield store
    async with psql(server.url()) as connection:
        await connection.execute("DROP SCHEMA gatekey CASCADE")


def run(server: PostgresServer, program: str, *arguments: str) -> None:
    """One of the server's own tools, with that server."""
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", server.user]
    command = [*as_nobody(), str(server.bin / program), *where, *arguments]
    done = subprocess.run(command, cwd=server.folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def standby(server: PostgresServer, store: PostgresKeyStore) -> Iterator[PostgresServer]:  # noqa: ARG001 - what is to be copied must be there
    """A copy of the server with the store, which follows it."""
    copy = PostgresServer(server.bin)
    copy.halt()
    data: Path = copy.data
    data.rename(copy.folder / "unused")
    run(server, "pg_basebackup", "-D", str(data), "-R", "-X", "stream", "-c", "fast")
    copy.start()
    yield copy
    copy.stop()


async def test_a_standby_that_lags_proves_nothing(store: PostgresKeyStore, standby: PostgresServer) -> None:
    """Its answer about a key may be from before the key was revoked, so there is none, whatever the URL names."""
    async with psql(standby.url()) as connection:
        await connection.execute("SELECT pg_wal_replay_pause()")
    await store.set_state("key_one", KeyState.REVOKED, now=START)
    for options in ({}, {"target_session_attrs": "any"}):
        async with opened(standby.url(schema="gatekey", sslmode="disable", **options)) as copy:
            for api_key in ("one", "none"):
                with pytest.raises(StoreUnavailable, match=r"a standby.*name the primary"):
                    await copy.find(api_key)
            with pytest.raises(StoreUnavailable, match="a standby"):
                await copy.ping()


async def test_a_standbys_list_of_changes_is_not_believed(store: PostgresKeyStore, standby: PostgresServer) -> None:
    """What it lacks may only not have come yet."""
    assert await store.find("one") is not None
    pool = Pool(Connector(parse_url(standby.url(sslmode="disable")).connect), 1)
    await pool.open()
    changes = ChangeList(pool, "gatekey")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="standby"):
            await changes.look()
    await pool.close()


async def test_a_restore_under_a_running_service_empties_the_caches(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """Nobody announces it, and the marker is the same as before; the keys are not."""
    backup = server.folder / "backup"
    run(server, "pg_dump", "-Fc", "-n", "gatekey", "-f", str(backup), server.database)
    async with watching(store) as recorder:
        await store.set_state("key_one", KeyState.REVOKED, now=START)
        await store.find("one")
        await recorder.until("one")
        recorder.told.clear()
        run(server, "pg_restore", "--clean", "--single-transaction", "-d", server.database, str(backup))
        await recorder.wait_for(lambda: Told(EVERYTHING, origin=Origin.CHANGE_LOG) in recorder.told)
        found = await store.find("one")
    assert found is not None
    assert found.key.state is KeyState.ACTIVE


async def test_the_next_look_up_after_a_restore_tells_of_it(store: PostgresKeyStore, server: PostgresServer) -> None:
    """It need not wait for the next look at the list."""
    backup = server.folder / "backup-2"
    run(server, "pg_dump", "-Fc", "-n", "gatekey", "-f", str(backup), server.database)
    async with watching(store) as recorder:
        await store.find("one")
        run(server, "pg_restore", "--clean", "--single-transaction", "-d", server.database, str(backup))
        recorder.told.clear()
        await store.find("none")
        assert Told(EVERYTHING, origin=Origin.BULK) in recorder.told


async def test_announcements_of_the_list_before_hide_nothing_of_the_restored_one(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """Both count from one."""
    changes = ChangeList(store._pool, "gatekey")
    await changes.look()
    backup = server.folder / "backup-3"
    run(server, "pg_dump", "-Fc", "-n", "gatekey", "-f", str(backup), server.database)
    async with psql(server.url()) as connection:
        last = await connection.fetchval("SELECT max(seq) FROM gatekey.changes")
        run(server, "pg_restore", "--clean", "--single-transaction", "-d", server.database, str(backup))
        for seq in range(last + 1, last + 9):
            changes.announce(seq)
        look = await changes.look()
        assert look is not None
        assert (look.changes, look.is_gap) == ((), True)
        await connection.execute("UPDATE gatekey.keys SET name = 'x'")
        look = await changes.look()
    assert look is not None
    assert [change.api_key for change in look.changes] == ["one"]
    assert not look.is_gap


async def test_a_restored_change_hides_no_announcement(store: PostgresKeyStore, server: PostgresServer) -> None:
    """It may bear the number of a transaction that is only now to come."""
    async with psql(server.url()) as connection:
        await connection.execute("""
            INSERT INTO gatekey.changes (transaction_id, at)
            SELECT (pg_current_xact_id()::text::bigint + ahead)::text::xid8, now() - interval '20 minutes'
            FROM generate_series(0, 200) AS ahead""")
        async with watching(store) as recorder:
            recorder.told.clear()
            await store.set_organization_active("acme", is_active=False, now=START)
            await store.barrier()
            assert [told.what for told in recorder.told if told.origin is Origin.BULK] == [EVERYTHING]


async def test_changes_of_transactions_to_come_are_not_found_before_these(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """Restored from a server that was further: each look would find them, for ever."""
    changes = ChangeList(store._pool, "gatekey")
    await changes.look()
    async with psql(server.url()) as connection:
        await connection.execute(
            "INSERT INTO gatekey.changes (transaction_id, api_key) VALUES ('1000000000', 'far'), ('1000000000', NULL)"
        )
        await connection.execute("UPDATE gatekey.keys SET name = 'x'")
    looks = [await changes.look() for _ in range(2)]
    assert [[change.api_key for change in look.changes] for look in looks if look] == [["one"], []]
