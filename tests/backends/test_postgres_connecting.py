"""Connections that end while they are made: what is tried again on another one, how often, and what is told at once."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreUnavailable
from backends.postgres import PostgresKeyStore
from backends.records import FoundKey
from tests.support.keys import make_key, make_organization
from tests.support.postgres_refusals import EndingProxy, fatal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.postgres_kind import PostgresKind

ONE = FoundKey(make_key("one"), organization_is_active=True)


WITHOUT_A_WORD = b""
TERMINATED = fatal("57P01")  # by pg_terminate_backend, or because the server ends
STARTING = fatal("57P03")
NO_ROOM = fatal("53300")


@asynccontextmanager
async def through_proxy(kind: PostgresKind) -> AsyncIterator[tuple[PostgresKeyStore, EndingProxy]]:
    """A store with the key ``one`` that has no connection yet, and what it connects through."""
    name = f"gk{uuid.uuid4().hex}"
    async with kind.make(name) as under_test, EndingProxy(*kind.address()) as proxy:
        await under_test.store.open()
        await under_test.store.add_many([make_organization()], [make_key("one")])
        await under_test.store.close()
        store = PostgresKeyStore.from_url(kind.url(name, "127.0.0.1", proxy.port))
        await store.open()
        try:
            yield store, proxy
        finally:
            await store.close()


@pytest.mark.parametrize("words", [WITHOUT_A_WORD, TERMINATED], ids=["without a word", "terminated"])
async def test_a_look_up_whose_connection_ends_while_it_is_made_is_tried_again_once(
    kind: PostgresKind, words: bytes
) -> None:
    """The server was there, so the next one is likely to come about; nobody waits for a third."""
    async with through_proxy(kind) as (store, proxy):
        proxy.last_words = [words]
        assert await store.find("one") == ONE
        assert proxy.accepted == 2


async def test_a_write_whose_connection_ends_while_it_is_made_is_tried_again(kind: PostgresKind) -> None:
    """Nothing of it has happened yet."""
    async with through_proxy(kind) as (store, proxy):
        proxy.last_words = [TERMINATED]
        await store.add(make_key("two"))
        assert proxy.accepted == 2
        assert await store.find("two") is not None


async def test_connections_that_always_end_are_given_up_after_the_third(kind: PostgresKind) -> None:
    """They are told as a lost connection, not as a key that is not there."""
    async with through_proxy(kind) as (store, proxy):
        proxy.last_words = [WITHOUT_A_WORD] * 9
        with pytest.raises(StoreUnavailable, match="the connection was lost"):
            await store.find("one")
        assert proxy.accepted == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [(STARTING, "starting or stopping"), (NO_ROOM, "takes no more connections")],
    ids=["starting", "no room"],
)
async def test_a_server_that_takes_no_connections_now_is_asked_once(
    kind: PostgresKind, words: bytes, said: str
) -> None:
    """To ask again at once would be a load on a server that has too much of it."""
    async with through_proxy(kind) as (store, proxy):
        proxy.last_words = [words] * 9
        with pytest.raises(StoreUnavailable, match=said):
            await store.find("one")
        assert proxy.accepted == 1
