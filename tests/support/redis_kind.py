"""How the contract suite makes stores in Redis and Valkey: one server, and a prefix of names for each test."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from backends.factory import create_store
from backends.redis import RedisKeyStore
from backends.redis_keys import Names, address_of, bucket_of
from tests.support import leaks, redis_server
from tests.support.keys import make_key, make_organization
from tests.support.redis_server import RedisServer
from tests.support.stores import StoreUnderTest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.redis_server import GivenServer


class RedisKind:
    """In clear: Valkey where the wheel is installed, or the server that the environment names."""

    network = True

    def missing(self) -> str:
        return redis_server.missing()

    def server(self) -> RedisServer | GivenServer:
        return redis_server.shared_server()

    def address(self) -> tuple[str, int]:
        return self.server().host, self.server().port

    def url(self, name: str, host: str, port: int) -> str:
        return self.server().url(host=host, port=port, prefix=name)

    def pause(self) -> None:
        server = self.server()
        assert isinstance(server, RedisServer), "somebody else's server is not paused"
        server.pause()

    def resume(self) -> None:
        server = self.server()
        assert isinstance(server, RedisServer)
        server.resume()

    @asynccontextmanager
    async def make(self, name: str) -> AsyncIterator[StoreUnderTest]:
        url = self.url(name, *self.address())
        store = create_store(url)
        await store.migrate()

        async def stored() -> bytes:
            return dump(self.server(), name)

        try:
            yield StoreUnderTest(store, stored, lambda: create_store(url))
            leaks.check_bytes(await stored(), "what a test has in Redis")
        finally:
            forget(self.server(), name)


class RedisTlsKind(RedisKind):
    """With TLS: Debian's Redis."""

    def missing(self) -> str:
        return redis_server.missing_tls()

    def server(self) -> RedisServer:
        return redis_server.shared_tls_server()


class DebianRedisKind(RedisKind):
    """In clear: Debian's Redis, whatever else there is."""

    def missing(self) -> str:
        return redis_server.missing_debian()

    def server(self) -> RedisServer:
        return redis_server.shared_debian_server()


def names(server: RedisServer | GivenServer, prefix: str) -> Iterator[bytes]:
    """Every name under the prefix."""
    cursor: Any = 0
    while True:
        cursor, found = server.ask("SCAN", cursor, "MATCH", f"{prefix}:*", "COUNT", 10_000)
        yield from found
        if not int(cursor):
            return


def forget(server: RedisServer | GivenServer, prefix: str) -> None:
    """Delete everything under the prefix."""
    for start in range(0, len(found := list(names(server, prefix))), 1_000):
        server.ask("UNLINK", *found[start : start + 1_000])


_READ: dict[bytes, tuple[bytes, ...]] = {
    b"string": (b"GET",),
    b"hash": (b"HGETALL",),
    b"set": (b"SMEMBERS",),
    b"zset": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    b"list": (b"LRANGE", b"0", b"-1"),
    b"stream": (b"XRANGE", b"-", b"+"),
}


def dump(server: RedisServer | GivenServer, prefix: str) -> bytes:
    """Every name under the prefix with what it holds."""
    parts: list[bytes] = []
    for name in sorted(names(server, prefix)):
        if _is_the_same_in_every_bucket(name):
            continue
        kind = server.ask("TYPE", name)
        command, *arguments = _READ[kind if isinstance(kind, bytes) else kind.encode()]
        parts += [name, *_flat(server.ask(command, name, *arguments))]
    return b"\n".join(parts)


def _is_the_same_in_every_bucket(name: bytes) -> bool:
    return b":{b" in name and name.endswith((b"}:epoch", b"}:disabled")) and b":{b000}:" not in name


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        for pair in value.items():
            yield from _flat(pair)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _flat(item)
    else:
        yield value if isinstance(value, bytes) else str(value).encode()


_KINDS = {"valkey": RedisKind, "redis": DebianRedisKind, "tls": RedisTlsKind}
KINDS = sorted(_KINDS)
"""What the tests of Redis alone run with."""


def kind_named(name: str, *, require_all: bool) -> RedisKind:
    """The kind; the calling test is skipped, or fails, where this machine lacks it."""
    kind = _KINDS[name]()
    missing = kind.missing()
    if missing:
        (pytest.fail if require_all else pytest.skip)(missing)
    return kind


@dataclass(frozen=True, slots=True)
class Hand:
    """A store that is open, and an operator with redis-cli beside it."""

    store: RedisKeyStore
    url: str
    server: RedisServer | GivenServer
    prefix: str
    names: Names

    def ask(self, *command: str | bytes | int) -> Any:
        return self.server.ask(*command)

    def record(self, api_key: str) -> bytes:
        """The name of a key's record."""
        return self.names.record(address_of(api_key))

    def own(self, name: str) -> bytes:
        return self.names.own(name)

    def marker(self, api_key: str) -> bytes:
        """The name of the marker that is read with a key."""
        return self.names.markers[bucket_of(api_key)]

    def another(self, url: str | None = None) -> RedisKeyStore:
        return RedisKeyStore.from_url(url or self.url)


@asynccontextmanager
async def by_hand(server: RedisServer | GivenServer) -> AsyncIterator[Hand]:
    """A prepared store with the organization ``acme`` and the keys ``one`` and ``two``."""
    prefix = f"gk{uuid.uuid4().hex}"
    url = server.url(prefix=prefix)
    store = RedisKeyStore.from_url(url)
    await store.migrate()
    await store.open()
    try:
        await store.add_organization(make_organization())
        await store.add_many([], [make_key("one"), make_key("two")])
        yield Hand(store, url, server, prefix, Names(prefix, 0))
        leaks.check_bytes(dump(server, prefix), "what a test has in Redis")
    finally:
        await store.close()
        forget(server, prefix)
