"""A primary and its copy: when a write is durable, that a copy answers nothing, and that a demoted primary is left."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreUnavailable
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.keys import make_key
from tests.support.recorder import EVERYTHING, HEARTBEAT, watching
from tests.support.redis_kind import by_hand
from tests.support.redis_server import RedisServer, debian_redis, valkey
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backends.redis import RedisKeyStore

ONE = FoundKey(make_key("one"), organization_is_active=True)


@pytest.fixture(scope="module", params=["valkey", "redis"])
def pair(request: pytest.FixtureRequest, require_all: bool) -> Iterator[tuple[RedisServer, RedisServer]]:  # noqa: FBT001 - a fixture
    """A primary, and a copy that is in step with it."""
    program = valkey() if request.param == "valkey" else debian_redis()
    if program is None:
        (pytest.fail if require_all else pytest.skip)(f"there is no {request.param} on this machine")
    primary = RedisServer(program, "--repl-diskless-sync-delay", "0")
    copy = RedisServer(program)
    follow(copy, primary)
    yield primary, copy
    copy.stop()
    primary.stop()


def follow(copy: RedisServer, primary: RedisServer) -> None:
    copy.ask("REPLICAOF", primary.host, primary.port)
    wait_until(lambda: copy.ask("INFO", "replication")["master_link_status"] == "up", "the copy is in step")


@contextmanager
def places_changed(primary: RedisServer, copy: RedisServer) -> Iterator[None]:
    """The primary is a copy of its copy, and afterwards all is as it was."""
    copy.ask("REPLICAOF", "NO", "ONE")
    try:
        follow(primary, copy)
        yield
    finally:
        primary.ask("REPLICAOF", "NO", "ONE")
        follow(copy, primary)


async def test_a_write_that_the_copy_has_is_durable(pair: tuple[RedisServer, RedisServer]) -> None:
    """Both have it when the call returns."""
    primary, copy = pair
    async with by_hand(primary) as hand:
        await hand.store.set_state("key_one", KeyState.REVOKED, now=START)
        assert await hand.store.replicate() is True
        assert b'"state":"revoked"' in copy.ask("GET", hand.record("one"))


async def test_a_write_that_a_copy_has_not_confirmed_is_not_durable(pair: tuple[RedisServer, RedisServer]) -> None:
    """The copy stands still, and still counts as one; when it goes on, all is well."""
    primary, copy = pair
    async with by_hand(primary) as hand:
        copy.pause()
        try:
            await hand.store.set_state("key_one", KeyState.REVOKED, now=START)
            assert await hand.store.replicate() is False
        finally:
            copy.resume()
        assert await hand.store.replicate() is True
        assert b'"state":"revoked"' in copy.ask("GET", hand.record("one"))


async def test_a_copy_answers_nothing(pair: tuple[RedisServer, RedisServer]) -> None:
    """It may be behind: a key that is revoked would pass. Whatever is asked is told to name the primary."""
    primary, copy = pair
    async with by_hand(primary) as hand:
        assert await hand.store.replicate()
        store = hand.another(hand.url.replace(f":{primary.port}/", f":{copy.port}/"))
        await store.open()
        for call in (store.find("one"), store.ping(), store.set_state("key_one", KeyState.REVOKED, now=START)):
            with pytest.raises(StoreUnavailable, match="read-only, a replica"):
                await call
        with pytest.raises(StoreUnavailable, match="read-only, a replica"):
            await store.migrate()
        await store.close()


async def test_a_primary_that_becomes_a_copy_takes_no_write_and_then_answers_nothing(
    pair: tuple[RedisServer, RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """Connections that are open learn it at their next write, the announcing one by itself; then all are made anew."""
    primary, copy = pair
    async with by_hand(primary) as hand, watching(hand.store) as recorder:
        assert await hand.store.find("one") == ONE
        assert await hand.store.replicate()
        caplog.clear()
        with places_changed(primary, copy):
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="read-only, a replica"):
                    await hand.store.set_state("key_one", KeyState.REVOKED, now=START)
            with pytest.raises(StoreUnavailable, match="read-only, a replica"):
                await hand.store.find("one")
            await announcements_are_lost(caplog)
            recorder.events.clear()  # what the lost connection still told
        assert await hand.store.find("one") == ONE
        assert (await recorder.until(HEARTBEAT))[0] == EVERYTHING


async def announcements_are_lost(caplog: pytest.LogCaptureFixture) -> None:
    """Return once the announcing connection is given up: from then on nothing is told before a new one listens."""
    async with asyncio.timeout(20):
        while "the announcing connection is lost" not in caplog.text:  # noqa: ASYNC110 - a log line has no event
            await asyncio.sleep(0.01)


async def look_until_refused(store: RedisKeyStore) -> None:
    while True:
        await store.find("one")


async def test_a_primary_that_becomes_a_copy_is_left_though_nobody_writes(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    """It keeps its connections and carries announcements on, so the heartbeat has to ask what it is."""
    primary, copy = pair
    async with by_hand(primary) as hand, watching(hand.store) as recorder:
        assert await hand.store.find("one") == ONE
        assert await hand.store.replicate()
        with places_changed(primary, copy):
            with pytest.raises(StoreUnavailable, match="read-only, a replica"):
                await asyncio.wait_for(look_until_refused(hand.store), 20)
            recorder.events.clear()  # the look-ups' connections are left after the announcing one
        assert (await recorder.until(HEARTBEAT))[0] == EVERYTHING, "a sign of life came through a copy"


async def test_a_server_alone_has_no_copy_to_wait_for(pair: tuple[RedisServer, RedisServer]) -> None:
    """Nothing is written for it."""
    primary, copy = pair
    copy.ask("REPLICAOF", "NO", "ONE")
    try:
        wait_until(lambda: primary.ask("INFO", "replication")["connected_slaves"] == 0, "the copy has left")
        async with by_hand(primary) as hand:
            assert await hand.store.replicate() is True
            assert hand.ask("EXISTS", hand.own("waits")) == 0
    finally:
        follow(copy, primary)
