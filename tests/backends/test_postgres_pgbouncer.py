"""Behind a real PgBouncer in transaction mode: statements survive it, and a link that is deaf is known to be."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreUnavailable
from backends.factory import create_store
from backends.postgres import PostgresKeyStore
from backends.postgres_connect import _SERVER_SETTINGS
from backends.records import FoundKey, KeyState, Origin
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.postgres_kind import PostgresKind, psql
from tests.support.postgres_server import NOBODY, as_nobody, nobodys_folder, shared_server
from tests.support.recorder import HEARTBEAT, Recorder, told_by, watching
from tests.support.servers import accepts, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

KEYS = 50
SERVER_CONNECTIONS = 3  # fewer than clients, so that they are really shared


@pytest.fixture(scope="module")
def kind(require_all: bool) -> PostgresKind:  # noqa: FBT001 - a fixture
    kind = PostgresKind()
    missing = kind.missing() or ("" if program() else "install Debian's pgbouncer")
    if missing:
        (pytest.fail if require_all else pytest.skip)(missing)
    return kind


def program() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def running_pgbouncer(*settings: str) -> Iterator[int]:
    """Its port."""
    server = shared_server()
    folder = nobodys_folder()
    port = free_port()
    lines = [
        "[databases]",
        f"* = host=127.0.0.1 port={server.port} user={server.user}",
        "[pgbouncer]",
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =",
        f"pool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\nmax_client_conn = 1000",
        "auth_type = any\nlogfile = log",
        *settings,
    ]
    Path(folder, "pgbouncer.ini").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if os.geteuid() == 0:
        os.chown(folder / "pgbouncer.ini", NOBODY, NOBODY)
    process = subprocess.Popen(
        [*as_nobody(), str(program()), "pgbouncer.ini"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: accepts(port), "PgBouncer accepts connections")
        yield port
    finally:
        process.kill()  # whatever it holds is the tests' own; how it ends politely differs between versions
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def port(kind: PostgresKind) -> Iterator[int]:
    kind.address()
    with running_pgbouncer() as port:
        yield port


@pytest.fixture
async def schema(kind: PostgresKind) -> AsyncIterator[str]:
    """With keys ``k0`` to ``k49``."""
    name = f"gk{uuid.uuid4().hex}"
    async with kind.make(name) as made:
        await made.store.open()
        await made.store.add_many([make_organization()], [make_key(f"k{number}") for number in range(KEYS)])
        await made.store.close()
        yield name


@pytest.fixture
async def pooled(schema: str, port: int) -> AsyncIterator[Callable[..., PostgresKeyStore]]:
    """Makes stores whose URL leads through PgBouncer; closes them."""
    made: list[PostgresKeyStore] = []

    def make(*, listen_url: str | None = None, **options: str) -> PostgresKeyStore:
        url = shared_server().url(host="127.0.0.1", port=port, schema=schema, **options)
        store = create_store(url, listen_url=listen_url)
        assert isinstance(store, PostgresKeyStore)
        made.append(store)
        return store

    yield make
    for store in made:
        await store.close()


async def many_finds(store: PostgresKeyStore) -> None:
    for _ in range(6):
        found = await asyncio.gather(*(store.find(f"k{number % (KEYS + 10)}") for number in range(120)))
        for number, item in enumerate(found):
            name = f"k{number % (KEYS + 10)}"
            present = number % (KEYS + 10) < KEYS
            assert item == (FoundKey(make_key(name), organization_is_active=True) if present else None)


@pytest.mark.parametrize("options", [{}, {"pgbouncer": "true"}], ids=["found out", "told"])
async def test_hundreds_of_look_ups_at_once_survive_the_pooler(
    pooled: Callable[..., PostgresKeyStore], options: dict[str, str]
) -> None:
    """Whether the URL says so, or the pooler's first error does."""
    store = pooled(**options)
    await store.open()
    await many_finds(store)
    assert store._connector.pgbouncer


async def test_a_pooler_that_takes_settings_is_found_out_by_the_statements_it_loses(
    kind: PostgresKind, schema: str
) -> None:
    """Told to ignore what it does not know at the start, it gives no other sign; no look-up fails by it."""
    kind.address()
    ignored = ", ".join(_SERVER_SETTINGS)
    with running_pgbouncer(f"ignore_startup_parameters = {ignored}") as port:
        store = PostgresKeyStore.from_url(shared_server().url(host="127.0.0.1", port=port, schema=schema))
        await store.open()
        await many_finds(store)
        assert store._connector.pgbouncer
        await store.close()


async def test_everything_else_works_through_the_pooler_too(
    pooled: Callable[..., PostgresKeyStore], schema: str
) -> None:
    """Migrations, writes, an import, the journal."""
    store = pooled()
    await store.open()
    assert await store.migrate() == ()
    async with psql() as connection:
        await connection.execute(f"DELETE FROM {schema}.meta")  # noqa: S608 - ours
    assert await store.migrate() == ("wrote the epoch marker",)
    await store.add(make_key("new"))
    await store.replace(make_key("new", name="x"), expected_version=1)
    assert await store.set_state("key_new", KeyState.REVOKED, now=START) is True
    imported = [make_key(f"i{number}") for number in range(3_000)]
    assert await store.add_many([make_organization("more")], imported) == 3_000
    assert sum((await store.count_keys(now=START)).values()) == KEYS + 3_001
    assert await store.journal.claim("name", "fingerprint", now=START, until=START.replace(year=2027)) is None
    assert await store.delete("key_new") is True


async def test_listening_through_the_pooler_is_known_to_be_deaf(pooled: Callable[..., PostgresKeyStore]) -> None:
    """It succeeds there and hears nothing: no sign of life ever comes, and no flush either; the list of changes tells."""
    store = pooled()
    await store.open()
    recorder = Recorder()
    async with told_by(store, recorder):
        async with asyncio.timeout(10):
            while not store._watches or store._watches[0]._changes._snapshot is None:  # noqa: ASYNC110 - its first look
                await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            await store.barrier()
        await store.set_state("key_k1", KeyState.REVOKED, now=START)
        await recorder.until("k1")
    assert [(item.what, item.origin) for item in recorder.told] == [("k1", Origin.CHANGE_LOG)]


async def test_with_a_direct_way_beside_the_pooler_announcements_arrive(
    pooled: Callable[..., PostgresKeyStore], schema: str
) -> None:
    """The listen URL; heartbeats go in through the pooler and come back by the direct way."""
    store = pooled(listen_url=shared_server().url(sslmode="disable"))
    await store.open()
    async with watching(store) as recorder, psql() as connection:
        await connection.execute(f"UPDATE {schema}.keys SET name = 'x' WHERE key_id = 'key_k1'")  # noqa: S608 - ours
        await store.set_state("key_k2", KeyState.REVOKED, now=START)
        await store.barrier()
        assert [item.what for item in recorder.told if item.origin is Origin.KEY] == ["k1", "k2"]
    assert store._connector.pgbouncer
    assert not store._ear.pgbouncer


async def test_a_listen_url_to_another_database_is_no_link(
    kind: PostgresKind, pooled: Callable[..., PostgresKeyStore]
) -> None:
    """What is sent here does not come back there."""
    kind.address()
    store = pooled(listen_url=shared_server().url(sslmode="disable").replace("/postgres?", "/template1?"))
    await store.open()
    recorder = Recorder()
    async with told_by(store, recorder):
        await store.set_state("key_k1", KeyState.REVOKED, now=START)
        await store.set_state("key_k2", KeyState.REVOKED, now=START)
        async with asyncio.timeout(10):
            await asyncio.gather(store.barrier(), return_exceptions=True)
            with pytest.raises(StoreUnavailable):
                await store.barrier()
    assert HEARTBEAT not in {item.what for item in recorder.told}
