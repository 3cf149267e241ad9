"""Servers that must not be used, or cannot be at the moment: each is told apart, in words that help, with no key lost."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import StoreError, StoreUnavailable, StoreUnfit
from backends.records import FoundKey, KeyState
from backends.redis import RedisKeyStore
from tests.support import leaks
from tests.support.certificates import Authority
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.recorder import watching
from tests.support.redis_kind import by_hand, kind_named
from tests.support.redis_server import RedisServer, debian_redis, shared_tls_server, store_url, valkey
from tests.support.servers import ROOT, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "pass-word-of-the-redis-server"
leaks.register(PASSWORD)
ONE = FoundKey(make_key("one"), organization_is_active=True)


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, require_all: bool) -> Iterator[RedisServer]:  # noqa: FBT001 - a fixture
    """One whose settings these tests change."""
    program = valkey() if request.param == "valkey" else debian_redis()
    if program is None:
        (pytest.fail if require_all else pytest.skip)(f"there is no {request.param} on this machine")
    server = RedisServer(program)
    yield server
    server.stop()


@contextmanager
def configured(server: RedisServer, **settings: str) -> Iterator[None]:
    """While inside, with these settings."""
    names = {name: name.replace("_", "-") for name in settings}
    before = {name: server.ask("CONFIG", "GET", names[name]) for name in settings}
    for name, value in settings.items():
        server.ask("CONFIG", "SET", names[name], value)
    try:
        yield
    finally:
        for name, old in before.items():
            (value,) = old.values() if isinstance(old, dict) else old[1:]
            server.ask("CONFIG", "SET", names[name], value)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_server_that_may_drop_keys_is_unfit(server: RedisServer, policy: str) -> None:
    """A dropped key would be a refused customer, with all the evidence. It is asked again each time."""
    async with by_hand(server) as hand:
        await hand.store.ping()
        with configured(server, maxmemory_policy=policy):
            for call in (hand.store.ping, hand.store.migrate):
                with pytest.raises(StoreUnfit, match=r"maxmemory-policy .* noeviction"):
                    await call()
        await hand.store.ping()


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "noeviction"])
async def test_a_server_that_drops_only_what_may_expire_will_do(server: RedisServer, policy: str) -> None:
    """Nothing of ours has a time to live but the mark of a running import."""
    async with by_hand(server) as hand:
        with configured(server, maxmemory_policy=policy):
            await hand.store.ping()
            await hand.store.journal.claim("c", "f", now=START, until=START.replace(year=2100))
            names = hand.ask("KEYS", f"{hand.prefix}:*")
            assert {hand.ask("TTL", name) for name in names if name.endswith((b"claims", b"}:one", b"ids"))} == {-1}


async def test_a_server_that_tells_nobody_its_policy_will_do(server: RedisServer) -> None:
    """Hosting companies forbid the questions."""
    async with by_hand(server) as hand:
        server.ask("ACL", "SETUSER", "mute", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-info", "-config")
        store = RedisKeyStore.from_url(user_url(server, "mute", hand.prefix))
        await store.open()
        await store.ping()
        await store.close()


async def test_a_full_server_refuses_writes_as_a_whole_and_answers_look_ups(server: RedisServer) -> None:
    """Nothing is half written, not even of an import; deleting works, which makes room."""
    async with by_hand(server) as hand:
        store = hand.store
        writes: list[Any] = [
            lambda: store.add(make_key("new")),
            lambda: store.add_many([make_organization("more")], [make_key(f"k{number}") for number in range(600)]),
            lambda: store.replace(make_key("one", name="x"), expected_version=1),
            lambda: store.set_state("key_one", KeyState.DISABLED, now=START),
            lambda: store.add_organization(make_organization("another")),
            lambda: store.set_organization_active("acme", is_active=False, now=START),
            lambda: store.journal.claim("c", "f", now=START, until=START),
        ]
        before = await contents(store)
        await server.full(True)  # noqa: FBT003 - on
        try:
            for write in writes:
                with pytest.raises(StoreUnavailable, match="full"):
                    await write()
            assert await store.find("one") == ONE
            assert await store.find("new") is None
            await store.ping()
            assert await store.delete("key_two") is True
        finally:
            await server.full(False)  # noqa: FBT003 - off
        after = await contents(store)
        assert after == (before[0], before[1][:1])
        for write in writes:
            await write()


async def contents(store: RedisKeyStore) -> tuple[Any, Any]:
    return (await store.list_organizations()).items, (await store.list_keys(limit=1000)).items


async def test_a_wrong_password_is_told_and_not_shown(server: RedisServer) -> None:
    """Neither that it is wrong by saying which one it was."""
    async with by_hand(server) as hand:
        server.ask("ACL", "SETUSER", "gatekey", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        for url in (
            user_url(server, "gatekey", hand.prefix).replace(PASSWORD, f"{PASSWORD}x"),
            user_url(server, "nobody", hand.prefix),
        ):
            store = RedisKeyStore.from_url(url)
            await store.open()
            for call in (store.ping(), store.find("one"), store.migrate(), store.add(make_key("new"))):
                with pytest.raises(StoreUnavailable, match="refused the user or the password") as caught:
                    await call
                assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"
            await store.close()


async def test_a_server_that_asks_for_a_password_gets_none_by_itself(server: RedisServer) -> None:
    """A URL without one is told so."""
    async with by_hand(server) as hand:
        server.ask("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
        try:
            store = hand.another()
            await store.open()
            with pytest.raises(StoreUnavailable, match="refused the user or the password"):
                await store.find("one")
            await store.close()
        finally:
            with_word = store_url("redis", f"default:{PASSWORD}", (server.host, server.port), 0, {})
            server.ask("ACL", "SETUSER", "default", "nopass")  # the test's own connection is logged in already
            assert PASSWORD in with_word


def user_url(server: RedisServer, user: str, prefix: str) -> str:
    return store_url("redis", f"{user}:{PASSWORD}", (server.host, server.port), 0, {"prefix": prefix})


def documented_rights() -> list[str]:
    """The words of the ``ACL SETUSER`` line in the documentation, without the password."""
    text = (ROOT / "docs/stores-redis.md").read_text(encoding="utf-8")
    line = re.search(r"^ACL SETUSER gatekey on (\S+) (.*)$", text, re.MULTILINE)
    assert line is not None
    return line[2].replace("'", "").split()


async def test_the_documented_user_may_do_everything_that_gatekey_does(server: RedisServer) -> None:
    """And nothing with anybody else's names; whatever is missing is named as a missing permission."""
    async with by_hand(server) as hand:
        rights = [word.replace("gk:", f"{hand.prefix}:") for word in documented_rights()]
        server.ask("ACL", "SETUSER", "documented", "reset", "on", f">{PASSWORD}", *rights)
        store = RedisKeyStore.from_url(user_url(server, "documented", hand.prefix))
        assert await store.migrate() == ()
        await store.open()
        async with watching(store) as recorder:
            await store.ping()
            await store.add(make_key("new"))
            await recorder.until("new")
            hand.ask("DEL", hand.record("two"))
            await recorder.until("two")  # by the server's tracking
            await store.barrier()
            assert await store.replicate()
            await store.add_many([make_organization("more")], [make_key("k", organization_id="more")])
            await store.set_organization_active("more", is_active=False, now=START)
            await store.set_state("key_new", KeyState.REVOKED, now=START)
            await store.list_keys()
            await store.count_keys(now=START)
            await store.list_organizations()
            assert await store.find("one") == ONE
            assert await store.find("unknown") is None
            assert await store.delete("key_new")
            journal = store.journal
            assert await journal.claim("c", "f", now=START, until=START.replace(year=2100)) is None
            await journal.settle("c", "a", until=START)
            await journal.prune(now=START.replace(year=2200), usage_before=START, audit_before=START)
            await journal.list_audit("acme")
        server.ask("ACL", "SETUSER", "documented", "-mget")
        with pytest.raises(StoreUnavailable, match="lacks a permission"):
            await store.find("one")
        await store.close()
        server.ask("ACL", "SETUSER", "documented", "+mget", "resetkeys", "~elsewhere:*")
        await store.open()
        with pytest.raises(StoreUnavailable, match="lacks a permission"):
            await store.find("one")
        await store.close()


async def test_a_server_without_room_for_a_connection_is_unavailable(server: RedisServer) -> None:
    """And usable once there is."""
    async with by_hand(server) as hand:
        store = hand.another()
        await store.open()
        few = configured(server, maxclients="2")  # two are connected already: the other store's and the test's own
        with few, pytest.raises(StoreUnavailable):
            await store.find("one")
        assert await store.find("one") == ONE
        await store.close()


async def test_a_cluster_is_refused_with_a_word_about_it(require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """Its slots live elsewhere, and the scripts cross them."""
    program = valkey() or debian_redis()
    if program is None:
        (pytest.fail if require_all else pytest.skip)("there is no server on this machine")
    server = RedisServer(program, "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--databases", "1")
    try:
        store = RedisKeyStore.from_url(server.url())
        await store.open()
        for call in (store.ping(), store.find("one"), store.migrate()):
            with pytest.raises(StoreUnfit, match="single server"):
                await call
        await store.close()
    finally:
        server.stop()


async def test_nobody_listening_is_unavailable() -> None:
    """No address in the message."""
    port = free_port()
    store = RedisKeyStore.from_url(f"redis://127.0.0.1:{port}")
    await store.open()
    for call in (store.ping(), store.find("one"), store.add(make_key("one")), store.migrate(), store.replicate()):
        with pytest.raises(StoreUnavailable, match="no connection") as caught:
            await call
        assert str(port) not in str(caught.value)
    await store.close()


# -- TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls_server(require_all: bool) -> RedisServer:  # noqa: FBT001 - a fixture
    """Whose certificate is for 127.0.0.1, by an authority of its own."""
    server = kind_named("tls", require_all=require_all).server()
    assert server is shared_tls_server()
    return shared_tls_server()


async def test_a_server_that_nobody_vouches_for_is_refused(tls_server: RedisServer) -> None:
    """Without its authority's file, in clear, and by another name."""
    url = tls_server.url()
    plain = url.partition("?")[0]
    for wrong in (plain, plain.replace("rediss:", "redis:"), url.replace("127.0.0.1", "localhost")):
        store = RedisKeyStore.from_url(wrong)
        await store.open()
        with pytest.raises(StoreUnavailable, match=r"no connection|no answer"):
            await store.find("one")
        await store.close()


async def test_the_name_need_not_fit_where_the_url_says_so(tls_server: RedisServer) -> None:
    """The authority still counts."""
    url = tls_server.url(host="localhost", ssl_check_hostname="no")
    store = RedisKeyStore.from_url(url)
    await store.open()
    await store.migrate()
    await store.ping()
    await store.close()


async def test_a_server_may_ask_for_the_clients_certificate(tls_server: RedisServer, tmp_path: Path) -> None:
    """Which the URL names."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    tls_server.ask("CONFIG", "SET", "tls-auth-clients", "yes")
    try:
        authority = tls_server.authority
        assert isinstance(authority, Authority)
        certificate, key = authority.issue("gatekey")
        async with opened(tls_server.url(ssl_certfile=str(certificate), ssl_keyfile=str(key))) as store:
            await store.migrate()
            await store.ping()
        async with opened(tls_server.url()) as store:
            with pytest.raises(StoreError):
                await store.find("one")
    finally:
        tls_server.ask("CONFIG", "SET", "tls-auth-clients", "no")  # on the connection that is open already
    other, its_key = Authority(tmp_path, openssl).issue("stranger")
    with pytest.raises(ValueError, match="do not fit") as caught:
        RedisKeyStore.from_url(tls_server.url(ssl_certfile=str(other), ssl_keyfile=str(key)))
    assert str(tmp_path) not in str(caught.value)
    assert its_key.exists()


class opened:  # noqa: N801 - reads as a function
    def __init__(self, url: str) -> None:
        self._store = RedisKeyStore.from_url(url)

    async def __aenter__(self) -> RedisKeyStore:
        await self._store.open()
        return self._store

    async def __aexit__(self, *error: object) -> None:
        await self._store.close()
