"""Two real processes over each real store, one behind a line that fails: what callers see, and what outlives a crash."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import pytest

from backends.redis_keys import Names, address_of
from tests.support import leaks, raw_http, sqlite_kind
from tests.support.fault_proxy import FaultProxy, Mode
from tests.support.filled import fill
from tests.support.keys import SECRET
from tests.support.postgres_kind import PostgresKind, psql
from tests.support.processes import HOST, at_door, children, get, status
from tests.support.redis_kind import RedisKind, forget
from tests.support.servers import GatekeyServer, key_line, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager

    from tests.support.raw_http import RawResponse

T = TypeVar("T")
PEPPER = "the-pepper-of-stores-under-fire!"
leaks.register(PEPPER)
SETTINGS = {
    "GATEKEY_PEPPER": PEPPER,
    "GATEKEY_SECRET_KEY": "the-secret-key-of-both-processes",
    "GATEKEY_WORKERS": "1",  # so that its metrics are one process's
    "GATEKEY_LOG_SUMMARIZE": "off",
}
ENDS: dict[str, tuple[str, str, dict[str, Any] | None, str]] = {
    "revoked": ("POST", "/v1/keys/key_{0}/revoke", None, "key_inactive"),
    "moved": ("PATCH", "/v1/keys/key_{0}", {"domains": ["elsewhere.example.com"]}, "domain_not_allowed"),
    "closed": ("PATCH", "/v1/organizations/{0}", {"is_active": False}, "key_inactive"),
}
"""How a key ends: the write (of the key, or of the organization of the same name), and the code of the refusal."""
KEYS = {
    **dict.fromkeys(["known", "cold", "spoilt", "neighbour", "distant", "used"], "acme"),
    **{f"{end}-{use}": f"{end}-{use}" for end in ENDS for use in ("hot", "idle")},
}
"""``api_key -> organization``."""


@dataclass(frozen=True, slots=True)
class Place:
    """One store: ``first`` is the URL whose line can fail, ``second`` another one of the same data, by which it is filled."""

    first: str
    second: str
    lose: Callable[[], object]
    give_back: Callable[[], object]
    spoil: Callable[[str], None]
    """Edits the record of an ``api_key`` by hand into nonsense."""


@contextmanager
def sqlite_place() -> Iterator[Place]:
    """The folder can be moved away."""
    with sqlite_kind.folder("gatekey-fire-") as outer:
        path, elsewhere = Path(outer, "data", "keys.db"), Path(outer, "elsewhere")
        path.parent.mkdir()
        yield Place(
            first=f"sqlite:///{path}",
            second=f"sqlite:///{path}",
            lose=lambda: path.parent.rename(elsewhere),
            give_back=lambda: elsewhere.rename(path.parent),
            spoil=lambda name: sqlite_kind.by_hand(path, f"UPDATE api_keys SET secret = NULL WHERE api_key = '{name}'"),  # noqa: S608 - a name of ours
        )


@contextmanager
def behind_proxy(kind: RedisKind | PostgresKind, name: str, spoil: Callable[[str], None]) -> Iterator[Place]:
    """The line to the server can be cut; the proxy runs on a thread, because the tests wait for processes."""
    with on_a_thread() as run:
        proxy = FaultProxy(*kind.address())
        run(proxy.__aenter__())
        try:
            yield Place(
                first=kind.url(name, "127.0.0.1", proxy.port),
                second=kind.url(name, *kind.address()),
                lose=lambda: run(proxy.become(Mode.REFUSE)),
                give_back=lambda: run(proxy.become(Mode.PASS)),
                spoil=spoil,
            )
        finally:
            run(proxy.__aexit__(None, None, None))


@contextmanager
def on_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """What runs a coroutine on a loop of its own and waits for it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def redis_place() -> Iterator[Place]:
    kind, name = RedisKind(), f"gk{uuid.uuid4().hex}"
    names = Names(name, 0)
    with behind_proxy(kind, name, lambda key: kind.server().ask("SET", names.record(address_of(key)), "{")) as place:
        yield place
    forget(kind.server(), name)


@contextmanager
def postgres_place() -> Iterator[Place]:
    name = f"gk{uuid.uuid4().hex}"

    async def execute(statement: str) -> None:
        async with psql() as connection:
            await connection.execute(statement)

    def spoil(key: str) -> None:
        asyncio.run(execute(f"UPDATE {name}.keys SET secret = 'nonsense' WHERE api_key = '{key}'"))  # noqa: S608 - names of ours

    with behind_proxy(PostgresKind(), name, spoil) as place:
        yield place
    asyncio.run(execute(f"SET lock_timeout = '10s'; DROP SCHEMA {name} CASCADE"))


PLACES: dict[str, tuple[Callable[[], str], Callable[[], AbstractContextManager[Place]]]] = {
    "sqlite": (sqlite_kind.SqliteKind().missing, sqlite_place),
    "redis": (RedisKind().missing, redis_place),
    "postgresql": (PostgresKind().missing, postgres_place),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two processes over one place; the first one's line can fail."""

    place: Place
    first: GatekeyServer
    second: GatekeyServer


@pytest.fixture(scope="module", params=PLACES)
def started(request: pytest.FixtureRequest, require_all: bool) -> Iterator[Pair]:  # noqa: FBT001 - a fixture
    """They serve all tests of a store, each of which has keys of its own."""
    missing, make = PLACES[request.param]
    if lack := missing():
        (pytest.fail if require_all else pytest.skip)(f"{request.param}:// is not tested: {lack}")
    with make() as place, ExitStack() as stack:
        asyncio.run(_fill(place.second))
        servers = []
        for url in (place.first, place.second):
            servers.append(GatekeyServer(env={**SETTINGS, "GATEKEY_STORE_URL": url}))
            stack.callback(servers[-1].stop)
        yield Pair(place, *servers)


@pytest.fixture
def pair(started: Pair) -> Pair:
    """Both are at work, whatever another test has done to them."""
    for server in (started.first, started.second):
        server.wait_ready()
        wait_until(lambda: link(server) == 1, "announcements reach the process")  # noqa: B023 - called at once
    return started


async def _fill(url: str) -> None:
    lines = [key_line(name, organization_id=KEYS[name], key_id=f"key_{name}") for name in KEYS]
    scopes = ["gatekey:read", "gatekey:write"]
    lines.append(key_line("operator", organization_id="gatekey", domains=["@gatekey"], scopes=scopes))
    await fill(url, lines, pepper=PEPPER)


def decided(server: GatekeyServer, api_key: str, secret: str = SECRET) -> RawResponse:
    """What the forward door says to a key."""
    return at_door(server.port, [("X-Api-Key", api_key), ("X-Secret-Token", secret)])


def managed(server: GatekeyServer, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    """An operator's request, which must be answered with this status."""
    data = b"" if body is None else orjson.dumps(body)
    lines = [*HOST, ("X-Api-Key", "operator"), ("X-Secret-Token", SECRET), ("Content-Type", "application/json")]
    answer = raw_http.request(server.port, method, path, [*lines, ("Content-Length", str(len(data)))], data)
    assert answer.status == status, answer.body
    return answer.json()


def measured(server: GatekeyServer, series: str) -> float:
    """One series of ``/metrics``, named with its labels."""
    page = get(server.port, "/metrics").body.decode()
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)
    return float(found)


def link(server: GatekeyServer) -> float:
    return measured(server, "gatekey_invalidation_link_up")


def arrived(server: GatekeyServer) -> Counter[str]:
    """How many changes it heard of in each way."""
    page = get(server.port, "/metrics").body.decode()
    found = re.findall(r'^gatekey_invalidations_total\{origin="(\w+)"\} (\S+)$', page, re.MULTILINE)
    return Counter({origin: int(float(count)) for origin, count in found})


def test_a_store_that_goes_away_and_comes_back_costs_strangers_a_503_and_no_restart(pair: Pair) -> None:
    """A known key passes all the time; nobody is refused without evidence; then everything is as before."""
    server, processes = pair.first, children(pair.first.pid)
    assert decided(server, "known").status == 200
    assert decided(server, "nobodys-0").status == 401
    said = []

    def noticed() -> bool:
        said.append(decided(server, "known").status)
        return link(server) == 0

    pair.place.lose()
    try:
        wait_until(noticed, "the loss is noticed")
        wait_until(lambda: get(server.port, "/readyz").json().get("degraded") == ["store"], "the readiness tells")
        assert get(server.port, "/readyz").status == 200
        said.append(decided(server, "known").status)
        assert set(said) == {200}
        refusals = [decided(server, name) for name in ("nobodys-1", "nobodys-2", "cold")]
        assert [(answer.status, answer.json()["code"]) for answer in refusals] == [(503, "temporarily_unavailable")] * 3
        assert all(answer.header("retry-after").isdigit() for answer in refusals)
    finally:
        pair.place.give_back()
    wait_until(lambda: decided(server, "cold").status == 200, "a key that was not cached passes")
    wait_until(lambda: decided(server, "nobodys-1").status == 401, "a stranger is refused")
    wait_until(lambda: link(server) == 1, "announcements arrive again")
    wait_until(lambda: get(server.port, "/readyz").json() == {"status": "ready", "degraded": []}, "nothing is degraded")
    assert children(server.pid) == processes


def test_a_row_that_a_hand_has_broken_denies_that_key_alone(pair: Pair) -> None:
    """The log and the metrics say ``store_corrupt``; its neighbours pass, cached and not."""
    server, series = pair.second, 'gatekey_decisions_total{outcome="error",reason="store_corrupt"}'
    assert [decided(server, name).status for name in ("spoilt", "neighbour")] == [200, 200]
    assert measured(server, series) == 0
    pair.place.spoil("spoilt")
    wait_until(lambda: decided(server, "spoilt").status != 200, "the hand's change counts")
    answer = decided(server, "spoilt")
    assert (answer.status, answer.json()["code"]) == (503, "temporarily_unavailable")
    assert answer.header("retry-after").isdigit()
    assert [decided(server, name).status for name in ("neighbour", "distant")] == [200, 200]
    count = measured(server, series)
    assert count >= 2
    assert len(server.decisions(int(count), reason="store_corrupt")) == count
    assert not [event for event in server.decisions(2, key_id="key_neighbour") if event["outcome"] != "allow"]


@pytest.mark.parametrize("end", ENDS)
def test_a_key_that_ends_in_one_process_is_refused_by_another_that_was_told(pair: Pair, end: str) -> None:
    """Hot or idle, by an announcement; so the idle key, whose end came first, is dead when the hot one is."""
    method, path, body, code = ENDS[end]
    server, hot, idle = pair.second, f"{end}-hot", f"{end}-idle"
    assert [decided(server, name).status for name in (hot, idle, hot, idle)] == [200] * 4
    before = arrived(server)
    for name in (idle, hot):
        managed(pair.first, method, path.format(name), body)
    wait_until(lambda: decided(server, hot).status != 200, "the hot key is refused")
    refusals = [decided(server, name) for name in (idle, hot)]
    assert [(answer.status, answer.json()["code"]) for answer in refusals] == [(401, code)] * 2
    # The first one's news may have been of every key, and then the hot one was read anew before its own came.
    wait_until(lambda: (arrived(server) - before).total() >= 2, "both changes are told")
    assert set(arrived(server) - before) <= {"key", "bulk"}


def test_a_worker_that_is_killed_right_after_a_write_loses_nothing_that_was_told(pair: Pair) -> None:
    """The key works, the audit trail has its entry, and counts that had been shown are there."""
    server, usage = pair.second, "/v1/keys/key_used/usage"
    assert {decided(server, "used").status for _ in range(5)} == {200}
    wait_until(lambda: managed(server, "GET", usage)["total"] == 5, "the uses are written")
    (worker,) = children(server.pid)
    made = managed(server, "POST", "/v1/organizations/acme/keys", {"domains": ["api.example.com"]}, status=201)
    os.kill(worker, signal.SIGKILL)
    leaks.register(made["secret_token"])
    wait_until(lambda: worker not in children(server.pid) and children(server.pid), "the worker is replaced")
    wait_until(lambda: status(server.port, "/readyz") == 200, "the new worker serves")
    assert decided(server, made["api_key"], made["secret_token"]).status == 200
    entries = managed(server, "GET", "/v1/audit?organization_id=acme")["items"]
    assert [entry["action"] for entry in entries if made["key_id"] in entry["target"]] == ["key.created"]
    assert managed(server, "GET", usage)["total"] == 5
