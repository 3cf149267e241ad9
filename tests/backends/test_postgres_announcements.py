"""Every change is announced, however it was made; what was not announced is found in the list of changes behind."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreNotReady, StoreUnavailable
from backends.postgres import PostgresKeyStore
from backends.postgres_changes import ChangeList
from backends.records import KeyState, Origin
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.postgres_kind import PostgresKind, psql
from tests.support.recorder import EVERYTHING, HEARTBEAT, Recorder, Told, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.postgres_kind import Connection

KEYS = 30


@pytest.fixture
async def schema(kind: PostgresKind) -> AsyncIterator[str]:
    name = f"gk{uuid.uuid4().hex}"
    async with kind.make(name):
        yield name


@pytest.fixture
async def store(kind: PostgresKind, schema: str) -> AsyncIterator[PostgresKeyStore]:
    """With keys ``k0`` to ``k29`` of ``acme`` and an organization without keys."""
    async with opened(kind, schema) as store:
        records = [make_key(f"k{number}") for number in range(KEYS)]
        await store.add_many([make_organization(), make_organization("empty")], records)
        yield store


@asynccontextmanager
async def opened(kind: PostgresKind, schema: str) -> AsyncIterator[PostgresKeyStore]:
    store = PostgresKeyStore.from_url(kind.url(schema, *kind.address()))
    await store.open()
    yield store
    await store.close()


async def told(store: PostgresKeyStore, recorder: Recorder) -> list[Told]:
    """What was told so far beside heartbeats and the first flush."""
    await store.barrier()
    return [item for item in recorder.told if item.what != HEARTBEAT and item.origin is not Origin.RECONNECT]


TWENTY = ["k0", "k1", "k2", *(f"k{number}" for number in range(10, 27))]
BY_HAND = {
    "one key": ("UPDATE {keys} SET state = 'revoked' WHERE key_id = 'key_k1'", ["k1"]),
    "nothing": ("UPDATE {keys} SET state = 'revoked' WHERE key_id = 'nobody'", []),
    "twenty keys": ("UPDATE {keys} SET name = 'x' WHERE key_id < 'key_k27'", TWENTY),
    "more than twenty": ("UPDATE {keys} SET name = 'x'", [EVERYTHING]),
    "a new handle": ("UPDATE {keys} SET api_key = 'moved' WHERE key_id = 'key_k1'", ["k1", "moved"]),
    "deleted": ("DELETE FROM {keys} WHERE key_id = 'key_k1'", ["k1"]),
    "all deleted": ("DELETE FROM {keys}", [EVERYTHING]),
    "truncated": ("TRUNCATE {keys}", [EVERYTHING]),
    "two statements": (
        "UPDATE {keys} SET name = 'x' WHERE key_id = 'key_k1'; DELETE FROM {keys} WHERE key_id = 'key_k2'", ["k1", "k2"]),
    "two bulk statements in one transaction": ("UPDATE {keys} SET name = 'x'; UPDATE {keys} SET name = 'y'", [EVERYTHING]),
    "a copy of a key": (
        """INSERT INTO {keys} SELECT 'key_new', organization_id, 'new', secret, previous_secret, previous_expires_at,
        previous_grace, rotated_at, domains, scopes, origins, networks, state, expires_at, critical, name, metadata,
        created_at, updated_at, version FROM {keys} WHERE key_id = 'key_k1'""", ["new"]),
    "a handle too long for a message": ("UPDATE {keys} SET api_key = repeat('k', 2000) WHERE key_id = 'key_k1'", [EVERYTHING]),
    "a handle with quotes": ("UPDATE {keys} SET api_key = E'\"\\\\ ключ' WHERE key_id = 'key_k1'", ["k1", '"\\ ключ']),
    "an organization": ("UPDATE {organizations} SET is_active = false WHERE organization_id = 'acme'", [EVERYTHING]),
    "an organization's name": ("UPDATE {organizations} SET name = 'Acme' WHERE organization_id = 'acme'", []),
    "an organization deleted": ("DELETE FROM {organizations} WHERE organization_id = 'empty'", [EVERYTHING]),
    "no organization deleted": ("DELETE FROM {organizations} WHERE organization_id = 'nobody'", []),
    "all at once": ("TRUNCATE {organizations}, {keys}", [EVERYTHING]),
    "rolled back": ("UPDATE {keys} SET name = 'x' WHERE key_id = 'key_k1'; ROLLBACK", []),
}  # fmt: skip


@pytest.mark.parametrize(("statement", "expected"), BY_HAND.values(), ids=BY_HAND)
async def test_a_change_made_by_hand_is_announced(
    store: PostgresKeyStore, schema: str, statement: str, expected: list[str]
) -> None:
    """By a role that knows nothing of Gatekey, with the time of the change."""
    async with watching(store) as recorder, psql() as connection:
        before = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        await connection.execute(statement.format(keys=f"{schema}.keys", organizations=f"{schema}.organizations"))
        after = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        heard = await told(store, recorder)
    assert sorted(item.what for item in heard) == sorted(expected)
    for item in heard:
        assert item.at is not None
        assert before <= item.at <= after
        assert item.origin is (Origin.BULK if item.what == EVERYTHING else Origin.KEY)


async def test_what_is_kept_beside_the_keys_is_not_announced(store: PostgresKeyStore, schema: str) -> None:
    """Otherwise every flush of the use counts would empty every cache."""
    async with psql() as connection:
        tables = await connection.fetch(
            "SELECT DISTINCT event_object_table FROM information_schema.triggers WHERE trigger_schema = $1", schema
        )
    assert {row[0] for row in tables} == {"keys", "organizations", "meta"}
    async with watching(store) as recorder:
        await store.journal.release("nobody")
        assert await told(store, recorder) == []


async def test_a_message_that_nobody_understands_counts_as_everything(store: PostgresKeyStore, schema: str) -> None:
    """Anybody who may log in can send one, and so may a later version."""
    for message in (
        "",
        "{",
        "[]",
        '{"kind":"key"}',
        '{"kind":"new","seq":1,"at":1}',
        '{"kind":"key","seq":1,"at":1,"api_key":7}',
    ):
        async with watching(store) as recorder, psql() as connection:
            await connection.execute(f"SELECT pg_notify('gatekey_{schema}', $1)", message)
            assert [item.what for item in await told(store, recorder)] == [EVERYTHING], message


async def lose_announcements(connection: Connection, schema: str) -> None:
    """From now on changes are only written down, as if their messages had been lost on the way."""
    insert = f"INSERT INTO {schema}.changes (api_key) VALUES (changed)"  # noqa: S608 - ours
    await connection.execute(
        f"CREATE OR REPLACE FUNCTION {schema}.announce_key(changed text) RETURNS void LANGUAGE sql AS '{insert}'"
    )


async def test_a_change_whose_announcement_was_lost_is_found_in_the_list(store: PostgresKeyStore, schema: str) -> None:
    """Within a few seconds, once, and as what it is."""
    async with watching(store) as recorder, psql() as connection:
        await lose_announcements(connection, schema)
        await store.set_state("key_k1", KeyState.REVOKED, now=START)
        await recorder.until("k1")
        await store.set_state("key_k2", KeyState.REVOKED, now=START)
        await recorder.until("k2")
        heard = await told(store, recorder)
    assert [(item.what, item.origin) for item in heard] == [("k1", Origin.CHANGE_LOG), ("k2", Origin.CHANGE_LOG)]


async def test_whoever_commits_late_is_found_in_the_list_all_the_same(store: PostgresKeyStore, schema: str) -> None:
    """Its serial number is lower than some that were seen long before."""
    changes = ChangeList(store._pool, schema)
    first = await changes.look()
    assert first is not None
    assert first.changes == ()
    async with psql() as late, psql() as other:
        await late.execute(f"BEGIN; UPDATE {schema}.keys SET name = 'late' WHERE key_id = 'key_k1'")  # noqa: S608 - ours
        await other.execute(f"UPDATE {schema}.keys SET name = 'soon' WHERE key_id = 'key_k2'")  # noqa: S608 - ours
        seen = [await changes.look() for _ in range(3)]
        assert [[change.api_key for change in look.changes] for look in seen if look] == [["k2"], [], []]
        await late.execute("COMMIT")
        seen = [await changes.look() for _ in range(2)]
        assert [[change.api_key for change in look.changes] for look in seen if look] == [["k1"], []]


async def test_a_transaction_that_stays_open_makes_no_change_count_twice(store: PostgresKeyStore, schema: str) -> None:
    """However many others end meanwhile, only what is new since the look before counts against the most of one look."""
    changes = ChangeList(store._pool, schema)
    fill = f"INSERT INTO {schema}.changes (api_key) SELECT 'many' FROM generate_series(1, 15000)"  # noqa: S608 - ours
    async with psql() as late, psql() as other:
        await late.execute(f"BEGIN; UPDATE {schema}.keys SET name = 'late' WHERE key_id = 'key_k1'")  # noqa: S608 - ours
        await changes.look()
        looks = []
        for _ in range(3):
            await other.execute(fill)
            looks.append(await changes.look())
        await late.execute("COMMIT")
        looks.append(await changes.look())
        await other.execute(f"{fill}; {fill}")
        looks.append(await changes.look())
    assert [(len(look.changes), look.is_gap) for look in looks if look] == [
        *[(15_000, False)] * 3,
        (1, False),
        (20_001, True),
    ]


async def test_a_doubt_about_the_server_makes_a_look_begin_at_the_oldest_open_transaction(
    store: PostgresKeyStore, schema: str
) -> None:
    """A standby that was promoted uses the numbers again that the last look had seen used by somebody else."""
    changes = ChangeList(store._pool, schema)
    changes.doubt()
    async with psql() as late:
        await late.execute(f"BEGIN; UPDATE {schema}.keys SET name = 'late' WHERE key_id = 'key_k1'")  # noqa: S608 - ours
        await changes.look()
        await store.delete("key_k2")
        looks = [await changes.look(), await changes.look()]
        changes.doubt()
        looks += [await changes.look(), await changes.look()]
        await late.execute("ROLLBACK")
    assert [[change.api_key for change in look.changes] for look in looks if look] == [["k2"], [], ["k2"], []]


async def test_what_was_announced_is_not_found_again(store: PostgresKeyStore, schema: str) -> None:
    """In whatever order the message and the look come."""
    changes = ChangeList(store._pool, schema)
    await changes.look()
    async with psql() as connection:
        for number in range(3):
            await store.delete(f"key_k{number}")
            changes.announce(await connection.fetchval(f"SELECT max(seq) FROM {schema}.changes"))  # noqa: S608 - ours
            look = await changes.look()
            assert look is not None
            assert look.changes == ()


async def test_old_changes_are_forgotten(store: PostgresKeyStore, schema: str) -> None:
    """After an hour; the list must not grow for ever."""
    changes = ChangeList(store._pool, schema)
    async with psql() as connection:
        await connection.execute(f"UPDATE {schema}.changes SET at = at - interval '2 hours'")  # noqa: S608 - ours
        await store.delete("key_k1")
        await changes.clear()
        rows = await connection.fetch(f"SELECT api_key FROM {schema}.changes")  # noqa: S608 - ours
    assert [row[0] for row in rows] == ["k1"]


async def test_a_lost_marker_is_no_evidence_and_a_new_one_empties_the_cache(
    store: PostgresKeyStore, schema: str
) -> None:
    """Only ``migrate`` writes it again, and with another epoch everything may be different."""
    async with watching(store) as recorder, psql() as connection:
        await connection.execute(f"DELETE FROM {schema}.meta")  # noqa: S608 - ours
        for key in ("k1", "none"):
            with pytest.raises(StoreNotReady, match="gatekey migrate"):
                await store.find(key)
        assert await store.migrate() == ("wrote the epoch marker",)
        assert await store.migrate() == ()
        assert await store.find("none") is None
        assert {item.what for item in await told(store, recorder)} == {EVERYTHING}


async def test_a_store_exchanged_without_a_word_is_noticed_by_its_epoch(store: PostgresKeyStore, schema: str) -> None:
    """Restored from a backup with the triggers off, say."""
    async with watching(store) as recorder, psql() as connection:
        await store.find("k1")
        await connection.execute(
            f"ALTER TABLE {schema}.meta DISABLE TRIGGER ALL; UPDATE {schema}.meta SET epoch = 'another'"  # noqa: S608 - ours
        )
        await store.find("k1")
        assert [item.what for item in await told(store, recorder)] == [EVERYTHING]


async def test_a_lost_connection_is_made_again_and_empties_the_cache(store: PostgresKeyStore) -> None:
    """What was announced in between was missed; first everything, then the sign of life."""
    async with watching(store) as recorder, psql() as connection:
        recorder.events.clear()
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
        )
        heard = await recorder.until(EVERYTHING)
        assert heard[heard.index(EVERYTHING) + 1] == HEARTBEAT
        assert heard.count(EVERYTHING) == 1
        assert [item.origin for item in recorder.told if item.what == EVERYTHING] == [Origin.RECONNECT] * 2


async def test_after_a_lost_connection_the_list_is_read_from_the_oldest_open_transaction_on(
    store: PostgresKeyStore, schema: str
) -> None:
    """It may be another server that answers now; what was told before is told once more."""
    async with watching(store) as recorder, psql() as late, psql() as connection:
        await late.execute(f"BEGIN; UPDATE {schema}.keys SET name = 'late' WHERE key_id = 'key_k1'")  # noqa: S608 - ours
        changes = store._watches[0]._changes
        before = changes._snapshot
        await recorder.wait_for(lambda: changes._snapshot != before)  # a look has seen it open
        await store.delete("key_k2")
        await recorder.until("k2")
        await recorder.wait_for(lambda: not changes._announced)  # a look has seen that
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
        )
        await recorder.wait_for(lambda: Origin.CHANGE_LOG in [item.origin for item in recorder.told])
        assert [item.what for item in recorder.told if item.origin is Origin.CHANGE_LOG] == ["k2"]
        await late.execute("ROLLBACK")


async def test_a_watch_has_two_connections_beside_the_pool_and_gives_them_back(store: PostgresKeyStore) -> None:
    """However often it begins and ends, and reconnects."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query LIKE 'NOTIFY%'"
    async with psql() as connection:
        for _ in range(3):
            async with watching(store):
                assert await connection.fetchval(count) == 2
            async with asyncio.timeout(10):
                while await connection.fetchval(count):  # noqa: ASYNC110 - the server tells nobody of it
                    await asyncio.sleep(0)


async def test_a_barrier_in_vain_says_so(store: PostgresKeyStore, kind: PostgresKind) -> None:
    """Nobody watches; or the server stands still: then within two seconds."""
    with pytest.raises(StoreUnavailable, match="nobody watches"):
        await store.barrier()
    async with watching(store) as recorder:
        kind.pause()
        try:
            with pytest.raises(StoreUnavailable):
                await store.barrier()
        finally:
            kind.resume()
        await recorder.until(EVERYTHING)
        await store.barrier()
