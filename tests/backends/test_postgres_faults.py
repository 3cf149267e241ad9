"""A server that stands still, is killed, ends, fills up or turns read-only: who waits how long, and what is left over."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreClosed, StoreUnavailable
from backends.postgres import PostgresKeyStore
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.postgres_kind import psql
from tests.support.postgres_server import PostgresServer
from tests.support.recorder import EVERYTHING, HEARTBEAT, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from backends.contract import KeyStore
    from tests.support.postgres_kind import Connection

POOL = 4
ONE = FoundKey(make_key("one"), organization_is_active=True)


@pytest.fixture(scope="module")
def server(postgres_programs: Path) -> Iterator[PostgresServer]:
    """One of this module's own, because it is mistreated."""
    server = PostgresServer(postgres_programs)
    yield server
    server.stop()


@pytest.fixture
async def store(server: PostgresServer) -> AsyncIterator[PostgresKeyStore]:
    """With the key ``one``, and every connection of its pool made."""
    store = PostgresKeyStore.from_url(server.url(schema="faults", pool_size=str(POOL), sslmode="disable"))
    await store.migrate()
    await store.open()
    await store.add_many([make_organization()], [make_key("one")])
    await asyncio.gather(*(store.find("one") for _ in range(3 * POOL)))
    yield store
    server.resume()
    await store.close()
    async with psql(server.url()) as connection:
        await connection.execute("DROP SCHEMA faults CASCADE")


@asynccontextmanager
async def paused(server: PostgresServer) -> AsyncIterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def guarded(call: Awaitable[object], budget: float = 0.1) -> object:
    """As the service waits: until the budget is used up, and then it walks away."""
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait({task}, timeout=budget)
    if not done:
        task.cancel()
        return TimeoutError
    return task.result()


async def test_callers_of_a_hung_server_leave_and_nothing_piles_up(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """However many come, there are never more statements under way than connections; afterwards the pool is whole."""
    before = len(asyncio.all_tasks())
    async with paused(server):
        for _ in range(5):
            assert set(await asyncio.gather(*(guarded(store.find("one")) for _ in range(50)))) == {TimeoutError}
            assert len(asyncio.all_tasks()) - before <= 2 * POOL + 1
            assert store.connections.used <= POOL
    assert await store.find("one") == ONE
    assert set(await asyncio.gather(*(store.find("one") for _ in range(50)))) == {ONE}
    async with psql(server.url()) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gatekey'"
        async with asyncio.timeout(10):
            while await connection.fetchval(count) > POOL:  # noqa: ASYNC110 - the server tells nobody of it
                await asyncio.sleep(0)


READS: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "find": lambda store: store.find("one"),
    "ping": lambda store: store.ping(),
    "list": lambda store: store.list_keys(),
    "write": lambda store: store.set_state("key_one", KeyState.DISABLED, now=START),
}


async def test_without_a_guard_each_call_ends_by_its_own_deadline(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """As a store that gave no answer; more calls than connections, too."""
    async with paused(server):
        calls = [call(store) for call in READS.values() for _ in range(POOL)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert await store.find("one") == ONE, "a write was refused, and happened all the same"


async def test_a_write_that_was_given_up_has_not_happened(store: PostgresKeyStore, server: PostgresServer) -> None:
    """Not even when the server comes round and reads what was sent to it."""
    async with psql(server.url()) as other:
        await other.execute("BEGIN; SELECT * FROM faults.keys FOR UPDATE")
        call = asyncio.ensure_future(store.set_state("key_one", KeyState.REVOKED, now=START))
        with pytest.raises(StoreUnavailable):
            await call
        await other.execute("COMMIT")
    assert await store.find("one") == ONE


async def test_closing_a_store_whose_server_hangs_takes_a_moment_only(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """Whoever still waits is told; no task is left."""
    before = asyncio.all_tasks()
    async with paused(server):
        waiting = [asyncio.ensure_future(store.find("one")) for _ in range(3 * POOL)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await store.close()
            results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} <= {StoreClosed, StoreUnavailable}
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("moment", range(3))
async def test_a_look_up_survives_the_end_of_its_connection(
    store: PostgresKeyStore, server: PostgresServer, moment: int
) -> None:
    """It is asked again on another one; ``moment`` only varies when it meets it."""
    async with psql(server.url()) as connection:
        calls = [asyncio.ensure_future(store.find("one")) for _ in range(20)]
        for _ in range(moment):
            await asyncio.sleep(0)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatekey'"
        )
        assert set(await asyncio.gather(*calls)) == {ONE}
    assert await store.find("one") == ONE


async def test_a_dead_server_is_told_at_once_and_found_when_it_is_back(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """Opening does not wait for it either; the first call after its return succeeds, the link comes back by itself."""
    async with watching(store) as recorder:
        server.halt(signal.SIGQUIT)
        for call in READS.values():
            with pytest.raises(StoreUnavailable):
                await call(store)
        other = PostgresKeyStore.from_url(server.url(schema="faults", sslmode="disable"))
        await other.open()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await other.find("one")
        recorder.events.clear()
        server.start()
        assert await store.find("one") == ONE
        assert await other.find("one") == ONE
        await other.close()
        heard = await recorder.until(HEARTBEAT)
        assert heard[:2] == [EVERYTHING, HEARTBEAT]


async def test_a_hung_link_gives_no_sign_of_life_and_comes_back_by_itself(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """Silence while it lasts; then everything, and only then a sign."""
    async with watching(store) as recorder:
        async with paused(server):
            await asyncio.gather(guarded(store.barrier(), 0.5), return_exceptions=True)
            recorder.events.clear()
            await asyncio.gather(*(store.ping() for _ in range(2)), return_exceptions=True)  # until they give up
            assert recorder.events == []
        heard = await recorder.until(HEARTBEAT)
        assert heard[:2] == [EVERYTHING, HEARTBEAT]


async def test_a_read_only_database_is_named_and_nothing_is_written(
    store: PostgresKeyStore, server: PostgresServer
) -> None:
    """After a failover, say; look-ups go on."""
    async with psql(server.url()) as connection:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on; ")
        await connection.execute("SELECT pg_reload_conf()")
        try:
            async with asyncio.timeout(10):
                while not (said := await refusal(store)):  # until its connections have heard of it
                    pass
            assert "the database is read-only" in said
            assert await store.find("one") is not None
        finally:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await connection.execute("SELECT pg_reload_conf()")


async def refusal(store: PostgresKeyStore) -> str:
    """What a write says, ``""`` when it was made."""
    try:
        await store.set_state("key_one", KeyState.DISABLED, now=START)
        await store.set_state("key_one", KeyState.ACTIVE, now=START)
    except StoreUnavailable as error:
        return str(error)
    return ""


async def test_a_server_without_room_for_connections_is_named(store: PostgresKeyStore, server: PostgresServer) -> None:
    """It is no fault of the network."""
    async with psql(server.url()) as connection:
        await connection.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; ")
        try:
            url = server.url(schema="faults", sslmode="disable").replace(f"{server.user}@", "crowded@")
            crowded = PostgresKeyStore.from_url(url)
            await crowded.open()
            with pytest.raises(StoreUnavailable, match="no more connections"):
                await crowded.find("one")
            await crowded.close()
        finally:
            await connection.execute("DROP ROLE crowded")
    assert await store.find("one") == ONE


@asynccontextmanager
async def taken(server: PostgresServer, api_key: str) -> AsyncIterator[Connection]:
    """A transaction of somebody else's, in which the handle is taken; it has not ended yet."""
    fields = f'{{"api_key": "{api_key}", "key_id": "key_of_somebody"}}'
    async with psql(server.url()) as other:
        await other.execute(
            f"BEGIN; INSERT INTO faults.keys SELECT (jsonb_populate_record(one, '{fields}')).* FROM faults.keys one"  # noqa: S608 - ours
        )
        yield other


async def held_up(connection: Connection, number: int) -> None:
    """Return once so many of the store's statements wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gatekey' AND wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while await connection.fetchval(waiting) != number:  # noqa: ASYNC110 - the server tells nobody of it
            await asyncio.sleep(0.005)


async def test_imports_that_meet_all_succeed(store: PostgresKeyStore, server: PostgresServer) -> None:
    """Side by side they would wait for one another's keys in a circle; whoever comes later finds them there already."""
    records = [make_key(f"k{number}") for number in range(100)]
    async with taken(server, "k50") as other, psql(server.url()) as looking:
        imports = [asyncio.create_task(store.add_many([], lines)) for lines in (records, records[::-1], records)]
        await held_up(looking, 3)
        await other.execute("ROLLBACK")
        assert sorted(await asyncio.gather(*imports)) == [0, 0, len(records)]


@pytest.mark.parametrize(("end", "new"), [("COMMIT", 999), ("ROLLBACK", 1_000)])
async def test_an_import_that_meets_another_transaction_waits_for_its_end(
    store: PostgresKeyStore, server: PostgresServer, end: str, new: int
) -> None:
    """Somebody is about to take one of its handles: the rest goes in, and all of it where they change their mind."""
    records = [make_key(f"k{number}") for number in range(1_000)]
    async with taken(server, "k500") as other, psql(server.url()) as looking:
        imported = asyncio.create_task(store.add_many([], records))
        await held_up(looking, 1)
        await other.execute(end)
        assert await imported == new
        count = "SELECT count(*), count(*) FILTER (WHERE key_id = 'key_of_somebody') FROM faults.keys"
        assert tuple(await looking.fetchrow(count)) == (1 + 1_000, 1_000 - new)
