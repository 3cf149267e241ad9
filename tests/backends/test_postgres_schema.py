"""Migrations: safe while others serve, several at once, old and new code side by side; and which schema is refused."""

from __future__ import annotations

import asyncio
import re
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreNotReady, StoreUnavailable, StoreUnfit
from backends.factory import create_store
from backends.postgres_migrations import MIGRATIONS, OLDEST_USABLE, SCHEMA_VERSION
from backends.records import FoundKey, KeyState
from tests.support import leaks
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.postgres_kind import PostgresKind, psql
from tests.support.postgres_server import PostgresServer, shared_server, store_url
from tests.support.recorder import watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from backends.contract import KeyStore

DOCS = Path(__file__).parents[2] / "docs/stores-postgres.md"

# How the code of schema 1 looked a key up and wrote one: a snapshot, never to be changed.
FIND_1 = """
    SELECT m.epoch, m.schema_version, m.compatible_from, o.is_active AS organization_is_active, k.key_id, k.api_key,
      k.secret, k.previous_secret, k.previous_expires_at, k.previous_grace, k.rotated_at, k.domains, k.scopes,
      k.origins, k.networks, k.state, k.expires_at, k.critical, k.name, k.metadata, k.created_at, k.updated_at, k.version
    FROM {schema}.meta m
    LEFT JOIN {schema}.keys k ON k.api_key = $1::text
    LEFT JOIN {schema}.organizations o ON o.organization_id = k.organization_id
    WHERE m.singleton"""
ADD_1 = """
    INSERT INTO {schema}.keys (key_id, organization_id, api_key, secret, domains, scopes, origins, networks, state,
      critical, name, metadata, created_at, updated_at, version)
    VALUES ($1::text, 'acme', $2::text, $3::text, '{api.example.com}', '{}', '{}', '{}', 'active', false, '', '{}',
      '2026-01-02 03:04:05+00', '2026-01-02 03:04:05+00', 1)"""
REVOKE_1 = "UPDATE {schema}.keys SET state = 'revoked', version = version + 1 WHERE api_key = $1::text"


@pytest.fixture
async def schema(kind: PostgresKind) -> AsyncIterator[str]:
    """A name; whatever was made under it is removed."""
    kind.address()
    name = f"gk{uuid.uuid4().hex}"
    yield name
    async with psql() as connection:
        await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@asynccontextmanager
async def opened(kind: PostgresKind, schema: str) -> AsyncIterator[KeyStore]:
    store = create_store(kind.url(schema, *kind.address()))
    await store.open()
    yield store
    await store.close()


async def schema_at(schema: str, version: int) -> None:
    """As ``migrate`` of an older version of the code left it."""
    async with psql() as connection:
        await connection.execute(f"CREATE SCHEMA {schema}")
        for step in MIGRATIONS[:version]:
            await connection.execute(step.sql.replace("{schema}", schema))
            await connection.execute(
                f"INSERT INTO {schema}.migrations VALUES ($1, $2, $3)",  # noqa: S608 - ours
                step.version,
                step.title,
                step.compatible_from,
            )
        await connection.execute(
            f"INSERT INTO {schema}.meta (epoch, schema_version, compatible_from)"  # noqa: S608 - ours
            f" VALUES ('first', {version}, {MIGRATIONS[version - 1].compatible_from})"
        )


def test_steps_are_numbered_without_a_gap() -> None:
    """Only ever forward, and each says with which older code it can be used."""
    assert [step.version for step in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert all(step.compatible_from <= step.version for step in MIGRATIONS)
    assert 1 <= OLDEST_USABLE <= SCHEMA_VERSION == len(MIGRATIONS)


async def test_a_schema_is_made_from_nothing_and_then_left_alone(kind: PostgresKind, schema: str) -> None:
    """A line for each step; nothing the second time."""
    async with opened(kind, schema) as store:
        for call in (store.ping(), store.find("one"), store.add(make_key()), store.get("key_one")):
            with pytest.raises(StoreNotReady, match="gatekey migrate"):
                await call
        done = await store.migrate()
        assert [line.partition(":")[0] for line in done] == [
            *(f"brought the schema to version {step.version}" for step in MIGRATIONS),
            "wrote the epoch marker",
        ]
        assert await store.migrate() == ()
        await store.ping()
        assert await store.find("one") is None


async def test_of_several_that_migrate_at_once_each_step_is_done_once(kind: PostgresKind, schema: str) -> None:
    """They take turns."""
    stores = [create_store(kind.url(schema, *kind.address())) for _ in range(5)]
    done = await asyncio.gather(*(store.migrate() for store in stores))
    assert sum(len(lines) for lines in done) == len(MIGRATIONS) + 1


async def test_old_and_new_code_work_side_by_side(kind: PostgresKind, schema: str) -> None:
    """The code of schema 1 serves before, while and after the schema is migrated; each sees what the other one does."""
    await schema_at(schema, 1)
    find, add, revoke = (sql.replace("{schema}", schema) for sql in (FIND_1, ADD_1, REVOKE_1))
    async with opened(kind, schema) as new, psql() as old:
        await old.execute(f"INSERT INTO {schema}.organizations VALUES ('acme', true, '', $1)", START)  # noqa: S608 - ours
        await old.execute(add, "key_old", "old", make_key().secret.encode())
        with pytest.raises(StoreUnfit, match=f"version 1, too old for this Gatekey, which needs {OLDEST_USABLE}"):
            await new.find("old")
        serving = True

        async def serve() -> int:
            count = 0
            while serving:
                row = await old.fetchrow(find, "old")
                assert (row["epoch"], row["state"], row["organization_is_active"]) == ("first", "active", True)
                count += 1
            return count

        server = asyncio.create_task(serve())
        assert len(await new.migrate()) == SCHEMA_VERSION - 1
        serving = False
        assert await server > 0
        assert (await old.fetchrow(find, "old"))["compatible_from"] == 1

        assert await new.find("old") == FoundKey(make_key("old"), organization_is_active=True)
        await new.add(make_key("new"))
        assert (await old.fetchrow(find, "new"))["secret"] == make_key().secret.encode()
        await new.set_state("key_new", KeyState.DISABLED, now=START)
        assert (await old.fetchrow(find, "new"))["state"] == "disabled"
        async with watching(new) as recorder:
            await old.execute(revoke, "old")
            await recorder.until("old")
            await old.execute(add, "key_late", "late", make_key().secret.encode())
            await recorder.until("late")


async def test_a_migration_keeps_what_is_stored(kind: PostgresKind, schema: str) -> None:
    """And its epoch: no cache has to be emptied."""
    await schema_at(schema, 1)
    async with psql() as connection:
        await connection.execute(f"INSERT INTO {schema}.organizations VALUES ('acme', true, '', $1)", START)  # noqa: S608 - ours
        await connection.execute(ADD_1.replace("{schema}", schema), "key_one", "one", make_key().secret.encode())
        async with opened(kind, schema) as store:
            await store.migrate()
            assert (await store.list_keys()).items == (make_key("one"),)
        assert await connection.fetchval(f"SELECT epoch FROM {schema}.meta") == "first"  # noqa: S608 - ours


async def test_a_column_may_change_its_type_under_statements_that_are_prepared(kind: PostgresKind, schema: str) -> None:
    """In the next call each connection prepares them again; nobody is told of an error."""
    async with opened(kind, schema) as store, psql() as connection:
        await store.migrate()
        await store.add_many([make_organization()], [make_key("one")])
        for kind_of_text, kind_of_number in (("varchar", "integer"), ("text", "bigint"), ("varchar", "integer")):
            assert (await store.find("one")) is not None
            assert await store.set_state("key_one", KeyState.DISABLED, now=START) is True
            await connection.execute(
                f"ALTER TABLE {schema}.keys ALTER name TYPE {kind_of_text}, ALTER version TYPE {kind_of_number}"
            )
            assert await store.set_state("key_one", KeyState.ACTIVE, now=START) is True


async def test_a_newer_schema_is_used_if_it_says_so_and_else_refused(kind: PostgresKind, schema: str) -> None:
    """The message names both versions and says what to do."""
    async with opened(kind, schema) as store, psql() as connection:
        await store.migrate()

        async def pretend(version: int, compatible_from: int) -> None:
            await connection.execute(
                f"UPDATE {schema}.meta SET schema_version = {version}, compatible_from = {compatible_from};"  # noqa: S608 - ours
                f"INSERT INTO {schema}.migrations VALUES ({version}, 'of the future', {compatible_from})"
            )

        await pretend(SCHEMA_VERSION + 1, SCHEMA_VERSION)
        await store.ping()
        assert await store.find("none") is None
        assert await store.migrate() == ()
        await pretend(SCHEMA_VERSION + 7, SCHEMA_VERSION + 5)
        said = f"version {SCHEMA_VERSION + 7}, too new for this Gatekey, which knows {SCHEMA_VERSION} .*update Gatekey"
        for call in (store.ping(), store.find("none"), store.migrate()):
            with pytest.raises(StoreUnfit, match=said):
                await call


async def test_a_table_of_somebody_else_is_left_alone(kind: PostgresKind, schema: str) -> None:
    """Nothing is half made, and the message says what to do."""
    async with psql() as connection:
        await connection.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.keys (mine integer)")
        with pytest.raises(StoreUnfit, match="schema of its own"):
            await create_store(kind.url(schema, *kind.address())).migrate()
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    assert [row[0] for row in tables] == ["keys"]


async def test_a_database_in_another_encoding_is_refused(kind: PostgresKind, schema: str) -> None:
    """It would hold bytes that are no text."""
    server = shared_server()
    kind.address()
    async with psql() as connection:
        await connection.execute(f"CREATE DATABASE {schema} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
        try:
            url = store_url(
                user=server.user, password=server.password, host=kind.address()[0], port=server.port, database=schema
            )
            with pytest.raises(StoreUnfit, match="UTF8"):
                await create_store(url).migrate()
        finally:
            await connection.execute(f"DROP DATABASE {schema} WITH (FORCE)")


async def test_the_documented_roles_are_enough_and_not_too_much(kind: PostgresKind, schema: str) -> None:
    """The statements of docs/stores-postgres.md, as they stand there: one role migrates, another one serves."""
    blocks = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    grants = next(block for block in blocks if "CREATE ROLE" in block)
    revoke = next(block for block in blocks if "REVOKE" in block)
    published = re.findall(r"PASSWORD '([^']+)'", grants)
    passwords = [f"password-of-role-{number}-{uuid.uuid4().hex}" for number in range(len(published))]
    leaks.register(*passwords)
    owner, serve = f"{schema}_o", f"{schema}_s"

    def own(sql: str) -> str:
        sql = sql.replace("gatekey_owner", owner).replace("gatekey_serve", serve)
        for shown, password in zip(published, passwords, strict=True):
            sql = sql.replace(f"'{shown}'", f"'{password}'")
        return re.sub(r"\bgatekey\b", schema, sql)

    def url(role: str, password: str) -> str:
        host, port = kind.address()
        database = shared_server().database
        return store_url(
            user=role, password=password, host=host, port=port, database=database, schema=schema, sslmode="disable"
        )

    async with psql() as connection:
        await connection.execute(own(grants))
        try:
            assert await create_store(url(owner, passwords[0])).migrate()
            await connection.execute(own(revoke))
            store = create_store(url(serve, passwords[1]))
            await store.open()
            try:
                await exercise(store)
                with pytest.raises(StoreUnavailable, match="lacks a right"):
                    await create_store(url(serve, passwords[1]).replace("schema=", "schema=x")).migrate()
            finally:
                await store.close()
            async with psql(url(serve, passwords[1]).replace(f"schema={schema}&", "")) as served:
                for statement in (
                    "DELETE FROM {}.meta",
                    "ALTER TABLE {}.keys DISABLE TRIGGER ALL",
                    "DROP TABLE {}.keys",
                ):
                    with pytest.raises(Exception, match=r"permission denied|must be owner"):
                        await served.execute(statement.format(schema))
        finally:
            await connection.execute(
                f"DROP SCHEMA {schema} CASCADE; DROP OWNED BY {owner}, {serve}; DROP ROLE {owner}, {serve}"
            )


async def exercise(store: KeyStore) -> None:
    """Everything that serving and managing do."""
    await store.ping()
    async with watching(store) as recorder:
        await store.add_organization(make_organization())
        await store.add(make_key("one"))
        await recorder.until("one")
        assert await store.add_many([make_organization("new")], [make_key("two", organization_id="new")]) == 1
        await store.replace(make_key("one", name="x"), expected_version=1)
        await store.set_organization_active("new", is_active=False, now=START)
        await store.delete("key_two")
        await store.barrier()
    assert await store.journal.claim("name", "fingerprint", now=START, until=START.replace(year=2027)) is None
    await store.journal.settle("name", "answer", until=START)
    await store.journal.prune(now=START, usage_before=START, audit_before=START)


@pytest.fixture
def own_server(postgres_programs: Path) -> Iterator[PostgresServer]:
    """Never somebody else's, on which there may be such schemas: they are dropped here."""
    server = shared_server()
    if isinstance(server, PostgresServer):
        yield server
        return
    server = PostgresServer(postgres_programs)
    yield server
    server.stop()


@pytest.mark.parametrize("word", ["order", "user", "select", "table"])
async def test_a_schema_may_be_named_like_a_word_of_sql(own_server: PostgresServer, word: str) -> None:
    """It is a name that the URL allows, so all of the store works in it."""
    store = create_store(own_server.url(schema=word, sslmode="disable"))
    await store.open()
    try:
        assert len(await store.migrate()) == len(MIGRATIONS) + 1
        assert await store.migrate() == ()
        async with watching(store) as recorder:
            await store.add_many([make_organization()], [make_key(f"k{number}") for number in range(3)])
            await store.set_state("key_k1", KeyState.REVOKED, now=START)
            await store.set_organization_active("acme", is_active=False, now=START)
            await store.barrier()
            assert "k1" in {told.what for told in recorder.told}
        assert await store.find("k0") is not None
        assert await store.journal.audit_chains() == ()
        await store.journal.prune(usage_before=START, audit_before=START, now=START)
    finally:
        await store.close()
        async with psql(own_server.url(sslmode="disable")) as connection:
            await connection.execute(f'DROP SCHEMA IF EXISTS "{word}" CASCADE')
