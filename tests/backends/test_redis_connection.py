"""How the server is talked to: deadlines that hold, writes that are never made twice or late, errors in our words."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from redis import exceptions as driver
from redis.asyncio.connection import AbstractConnection

from backends.errors import StoreClosed, StoreError, StoreNotReady, StoreUnavailable, StoreUnfit
from backends.journal import UsageCount
from backends.records import FoundKey, KeyState
from backends.redis import RedisKeyStore
from backends.redis_errors import Unfit, translated
from tests.support.clock import START
from tests.support.fault_proxy import FaultProxy, Mode
from tests.support.keys import make_key
from tests.support.recorder import HEARTBEAT, Recorder
from tests.support.redis_kind import by_hand, kind_named
from tests.support.redis_server import RedisServer
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_kind import Hand

ONE = FoundKey(make_key("one"), organization_is_active=True)
HOUR = START.replace(minute=0, second=0)


@pytest.fixture
async def hand(require_all: bool) -> AsyncIterator[Hand]:  # noqa: FBT001 - a fixture
    """Beside a store with two keys."""
    async with by_hand(kind_named("valkey", require_all=require_all).server()) as hand:
        yield hand


# -- settings that count ----------------------------------------------------------------------------------------------------


async def test_the_drivers_waits_are_not_in_force(hand: Hand) -> None:
    """Its defaults would make a hung server cost a minute; what is in force is asked of a connection that is used."""
    async with hand.store._wire._borrowed() as pooled:
        pass
    pool = hand.store._wire._pool
    link = hand.store._wire.link()
    assert pool is not None
    assert pool.timeout == 0.5
    assert pool.max_connections == 20
    for connection in (pooled, link):
        settings: Any = connection
        assert settings.retry.get_retries() == 1
        assert settings.retry._backoff.compute(1) == 0
        assert settings.retry._supported_errors == (driver.ConnectionError,)
        assert settings.socket_connect_timeout == 1.0
        assert settings.socket_timeout is None  # every conversation has a deadline, as the tests below show
        assert settings.health_check_interval == 0
        assert settings.encoder.decode_responses is False
        assert settings.socket_keepalive is True
    assert (pooled.get_protocol(), link.get_protocol()) == (2, 3)  # type: ignore[no-untyped-call]  # the driver's


async def test_the_pool_has_no_more_connections_than_it_may(hand: Hand) -> None:
    """However many ask at once; and tells how many there are."""
    store = hand.another(f"{hand.url}&pool_size=3")
    assert store.connections.maximum == 3
    await store.open()
    assert (store.connections.idle, store.connections.used) == (0, 0)
    assert await asyncio.gather(*(store.find("one") for _ in range(50))) == [ONE] * 50
    assert (store.connections.idle, store.connections.used, store.connections.maximum) == (3, 0, 3)
    await store.close()
    assert (store.connections.idle, store.connections.used, store.connections.maximum) == (0, 0, 3)


async def test_connections_with_tls_share_what_is_slow_to_make(require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """Reading the machine's certificates for each would stop the loop; and only the named authority counts."""
    server = kind_named("tls", require_all=require_all).server()
    store = RedisKeyStore.from_url(server.url())
    one, other = (store._wire.link() for _ in range(2))
    contexts: list[ssl.SSLContext] = [connection._connection_arguments()["ssl"] for connection in (one, other)]
    assert contexts[0] is contexts[1]
    assert contexts[0].verify_mode is ssl.CERT_REQUIRED
    assert contexts[0].check_hostname
    assert contexts[0].cert_store_stats()["x509_ca"] == 1


# -- deadlines ------------------------------------------------------------------------------------------------------------


async def test_a_server_that_stands_still_ends_a_look_up_and_keeps_no_connection(own_server: RedisServer) -> None:
    """Also where all connections are taken, and new ones are made by the kernel alone."""
    async with by_hand(own_server) as hand:
        own_server.pause()
        try:
            async with asyncio.timeout(20):
                calls = [hand.store.find("one") for _ in range(45)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailable}
            assert {str(answer) for answer in answers} <= {"redis: no answer in time", "redis: no free connection"}
            assert hand.store.connections.used == 0
        finally:
            own_server.resume()
        assert await hand.store.find("one") == ONE


@pytest.mark.parametrize("kind", ["valkey", "tls"])
async def test_a_store_closes_though_the_server_stands_still(kind: str, require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """Whoever waits for an answer is told; nothing is left open."""
    server = kind_named(kind, require_all=require_all).server()
    assert isinstance(server, RedisServer)
    async with by_hand(server) as hand:
        before = asyncio.all_tasks()
        store = hand.another()
        await store.open()
        recorder = Recorder()
        watcher = asyncio.create_task(store.watch(recorder))
        await recorder.until(HEARTBEAT)
        await asyncio.gather(*(store.find("one") for _ in range(5)))
        server.pause()
        try:
            calls = [asyncio.ensure_future(store.find("one")) for _ in range(3)]
            await asyncio.sleep(0)
            async with asyncio.timeout(20):
                await store.close()
                watcher.cancel()
                await asyncio.wait({watcher})
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, StoreError) for answer in answers)
            assert watcher.cancelled()
        finally:
            server.resume()
        assert asyncio.all_tasks() == before


# -- writes ---------------------------------------------------------------------------------------------------------------


async def test_a_server_that_wakes_does_not_carry_out_what_was_given_up(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was told that nothing happened. The script is in the server's buffer when it stops, its deadline over."""
    async with by_hand(own_server) as hand:
        await hand.store.set_state("key_one", KeyState.DISABLED, now=START)  # so that the server knows the script
        run = hand.store._wire._run

        async def run_for_a_moment(script: Any, arguments: Any, _: float) -> Any:
            return await run(script, arguments, 0.6)

        def scripts() -> int:
            calls: int = hand.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
            return calls

        before = scripts()
        monkeypatch.setattr(hand.store._wire, "_run", run_for_a_moment)
        with pytest.MonkeyPatch.context() as patch:
            as_a_script_goes_out(patch, own_server.pause)
            with pytest.raises(StoreUnavailable, match="no answer in time"):
                await hand.store.set_state("key_one", KeyState.REVOKED, now=START)
        own_server.resume()
        await asyncio.to_thread(wait_until, lambda: scripts() > before, "the late script has arrived")
        found = await hand.store.find("one")
        assert found is not None
        assert found.key.state is KeyState.DISABLED


def as_a_script_goes_out(patch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Call ``do`` right before the driver sends a script that the server knows."""
    original = AbstractConnection.send_packed_command

    async def send(self: Any, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the driver's
        if any(b"EVALSHA" in bytes(part) for part in command):
            do()
        await original(self, command, check_health)

    patch.setattr(AbstractConnection, "send_packed_command", send)


@pytest.mark.parametrize("mode", [Mode.STALL_REPLIES, Mode.TRUNCATE, Mode.GARBAGE])
async def test_a_write_whose_answer_is_lost_is_not_made_again(hand: Hand, mode: Mode) -> None:
    """Two uses would be counted for one: a count, unlike most writes, does not show by itself that it was made."""
    use = [UsageCount(key_id="key_one", hour=HOUR, count=1, last_used_at=START)]
    await hand.store.journal.add_usage(use)  # so that the server knows the script
    async with FaultProxy(hand.server.host, hand.server.port) as proxy:
        store = hand.another(hand.url.replace(f":{hand.server.port}/", f":{proxy.port}/"))
        await store.open()
        await store.find("one")
        modes = iter((mode,))  # the line is broken for one script: it would let a second one through
        with pytest.MonkeyPatch.context() as patch:
            as_a_script_goes_out(patch, lambda: setattr(proxy, "mode", next(modes, Mode.PASS)))
            call = asyncio.ensure_future(store.journal.add_usage(use))
            async with asyncio.timeout(20):
                while not proxy.faults and not call.done():  # noqa: ASYNC110 - a number has no event to wait for
                    await asyncio.sleep(0.001)
            proxy.mode = Mode.PASS
            proxy.cut()
            with pytest.raises(StoreUnavailable):
                await call
        await store.close()
    (counted,) = await hand.store.journal.usage("key_one", since=HOUR, until=START)
    assert counted.count == 2


async def test_a_write_is_not_made_under_another_epoch_than_was_read(hand: Hand) -> None:
    """The server was wiped, or restored, between the look at its marker and the script."""
    await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
    marker = hand.ask("GET", hand.own("epoch"))
    for change in (lambda: hand.ask("DEL", hand.own("epoch")), lambda: hand.ask("SET", hand.own("epoch"), "{}")):
        with pytest.MonkeyPatch.context() as patch:
            as_a_script_goes_out(patch, change)
            with pytest.raises(StoreNotReady, match="in the middle of the write"):
                await hand.store.set_state("key_one", KeyState.ACTIVE, now=START)
        hand.ask("SET", hand.own("epoch"), marker)
    assert (await hand.store.get("key_one")).state is KeyState.DISABLED


async def test_a_caller_that_leaves_while_the_server_writes_leaves_when_it_is_done(own_server: RedisServer) -> None:
    """Or else the change would come after the caller was told that it had left in time."""
    async with by_hand(own_server) as hand:
        await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
        paused = asyncio.Event()

        def pause() -> None:
            own_server.pause()
            paused.set()

        with pytest.MonkeyPatch.context() as patch:
            as_a_script_goes_out(patch, pause)
            call = asyncio.ensure_future(hand.store.set_state("key_one", KeyState.REVOKED, now=START))
            await paused.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            call.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not call.done()
            own_server.resume()
            await asyncio.wait({call})
        assert call.cancelled()
        assert b'"state":"revoked"' in hand.ask("GET", hand.record("one"))


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 12, 20])
async def test_nothing_changes_behind_a_caller_that_left(hand: Hand, steps: int) -> None:
    """Cancelled at any moment: when the call has ended, so has the write."""
    call = asyncio.ensure_future(hand.store.set_state("key_one", KeyState.REVOKED, now=START))
    for _ in range(steps):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    first = hand.ask("GET", hand.record("one"))
    await hand.store.ping()
    assert hand.ask("GET", hand.record("one")) == first
    assert hand.store.connections.used == 0


async def test_a_closed_store_says_so_whatever_it_is_asked(hand: Hand) -> None:
    """And may be opened again."""
    await hand.store.close()
    for call in (
        hand.store.find("one"),
        hand.store.journal.audit_chains(),
        hand.store.replicate(),
        hand.store.barrier(),
    ):
        with pytest.raises(StoreClosed):
            await call
    await hand.store.open()
    assert await hand.store.find("one") == ONE


async def test_a_prefix_keeps_installations_apart(hand: Hand) -> None:
    """Though one's prefix begins with the other's."""
    other = hand.another(hand.server.url(prefix=f"{hand.prefix}:b"))
    await other.open()
    with pytest.raises(StoreNotReady):
        await other.find("one")
    await other.migrate()
    assert await other.find("one") is None
    assert (await other.list_keys()).items == ()
    await other.close()


# -- errors in our words ------------------------------------------------------------------------------------------------------

SCRIPT = "Error running script (call to f_00): @user_script:9: @user_script: 9: -OOM command not allowed when used …"
ERRORS: list[tuple[Exception, type[StoreUnavailable], str]] = [
    (driver.ReadOnlyError("You can't write against a read only replica."), StoreUnavailable, "read-only"),
    (driver.OutOfMemoryError("command not allowed"), StoreUnavailable, "full"),
    (driver.ResponseError(SCRIPT), StoreUnavailable, "full"),
    (driver.ResponseError(f"ERR {SCRIPT}".replace("OOM", "READONLY")), StoreUnavailable, "read-only"),
    (driver.ResponseError("OOM command not allowed when used memory > 'maxmemory'"), StoreUnavailable, "full"),
    (driver.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailable, "loading"),
    (driver.AuthenticationError("invalid username-password pair"), StoreUnavailable, "refused the user"),
    (driver.NoPermissionError("this user has no permissions"), StoreUnavailable, "permission"),
    (driver.ConnectionError("max number of clients reached"), StoreUnavailable, "no connection to the server"),
    (driver.ConnectionError("No connection available."), StoreUnavailable, "no free connection"),
    (driver.ConnectionError("Error 111 connecting to tell-tale:1"), StoreUnavailable, "no connection to the server"),
    (driver.TimeoutError("Timeout reading from tell-tale:1"), StoreUnavailable, "no answer in time"),
    (TimeoutError(), StoreUnavailable, "no answer in time"),
    (ConnectionResetError(104, "reset"), StoreUnavailable, "no connection to the server"),
    (ssl.SSLCertVerificationError("tell-tale"), StoreUnavailable, "no connection to the server"),
    (EOFError(), StoreUnavailable, "no connection to the server"),
    (driver.InvalidResponse("Protocol Error: b'tell-tale'"), StoreUnavailable, "does not speak the protocol"),
    (UnicodeDecodeError("utf-8", b"tell-tale", 0, 1, "no"), StoreUnavailable, "does not speak the protocol"),
    (ValueError("invalid literal: tell-tale"), StoreUnavailable, "does not speak the protocol"),
    (RecursionError(), StoreUnavailable, "does not speak the protocol"),
    (driver.ResponseError("MISCONF Redis is configured to save RDB snapshots"), StoreUnavailable, "(MISCONF)"),
    (driver.ResponseError("NOREPLICAS Not enough good replicas to write."), StoreUnavailable, "(NOREPLICAS)"),
    (driver.ResponseError("unknown command 'MGET', with args beginning with: 'tell-tale'"), StoreUnavailable, "(ERR)"),
    (Unfit("redis: it is a cluster"), StoreUnfit, "redis: it is a cluster"),
]


@pytest.mark.parametrize(("error", "kind", "text"), ERRORS, ids=[f"{type(e).__name__}-{t}" for e, _, t in ERRORS])
def test_a_drivers_error_becomes_one_of_ours(error: Exception, kind: type[StoreUnavailable], text: str) -> None:
    """With nothing in it that the server or the network said."""
    with pytest.raises(StoreUnavailable) as caught, translated():
        raise error
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert "tell-tale" not in str(caught.value)
    assert caught.value.__suppress_context__
    if isinstance(error, (driver.ResponseError, driver.InvalidResponse, ValueError)) and not isinstance(error, OSError):
        assert caught.value.__cause__ is None, "what the server said may hold a key"


async def test_a_server_that_speaks_another_language_is_unavailable() -> None:
    """Every kind of nonsense that a parser may choke on."""
    answers = [
        b"\xff\xfe\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$x\r\n",
        b":1x\r\n",
        b"*1\r\n",
        b"*-5\r\n",
        b"+OK\r\n",
    ]
    answers += [
        b"*1\r\n" * 2_000,
        b"$5\r\nab",
        b"-\xff\r\n",
        b"%1\r\n*0\r\n*0\r\n",
        b"*3\r\n+a\r\n+b\r\n+c\r\n",
        b"\r\n",
    ]
    for answer in answers:
        served = asyncio.Event()

        async def serve(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            answer: bytes = answer,
            served: asyncio.Event = served,
        ) -> None:
            with suppress(OSError):
                while await reader.read(1_000):
                    writer.write(answer)
            writer.close()
            served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with asyncio.timeout(20):
            store = RedisKeyStore.from_url(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await store.open()
            with pytest.raises(StoreUnavailable):
                await store.find("one")
            await store.close()
            await served.wait()
        server.close()
        await server.wait_closed()
        if ending := asyncio.all_tasks() - {asyncio.current_task()}:  # of a connection that was tried once more
            await asyncio.wait(ending, timeout=5)


def test_on_the_services_own_loop_a_lost_connection_is_nothing_else(require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """Uvloop raises ``RuntimeError`` where asyncio raises ``ConnectionError``; callers are told the same by both."""
    server = kind_named("valkey", require_all=require_all).server()

    async def look(store: RedisKeyStore) -> None:
        with suppress(StoreUnavailable):
            assert await store.find("one") == ONE

    async def scenario() -> None:
        async with by_hand(server) as hand, FaultProxy(server.host, server.port) as proxy:
            store = hand.another(hand.url.replace(f":{server.port}/", f":{proxy.port}/"))
            await store.open()
            async with asyncio.timeout(60):
                for turns in range(60):  # of the loop between the cut and the next look-ups, so that each moment is met
                    await asyncio.gather(*(look(store) for _ in range(10)))
                    proxy.cut()
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    await asyncio.gather(*(look(store) for _ in range(10)))
                await look_until_found(store)
            await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def look_until_found(store: RedisKeyStore) -> None:
    while True:
        with suppress(StoreUnavailable):
            assert await store.find("one") == ONE
            return
