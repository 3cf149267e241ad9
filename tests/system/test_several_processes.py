"""What several real processes over one real store owe their callers: a paused one, and a new pepper one after the other."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Self

import pytest

from backends.factory import create_store
from backends.records import KeyState
from service.auth.keyfile import read_key_lines
from service.auth.peppers import Peppers
from tests.support import leaks, raw_http
from tests.support.clock import START
from tests.support.postgres_kind import PostgresKind
from tests.support.processes import CONTEXT, HOST, KEY, at_door, children
from tests.support.redis_kind import RedisKind
from tests.support.servers import ROOT, GatekeyServer, clean_environment, gatekey, key_line, wait_until
from tests.support.sqlite_kind import folder

if TYPE_CHECKING:
    from collections.abc import Iterator

PEPPERS = {1: b"the-first-pepper-of-32-bytes-or-more", 2: b"the-second-pepper-of-32-bytes-or-so"}
leaks.register(*(pepper.decode() for pepper in PEPPERS.values()))
SETTINGS = {"GATEKEY_SECRET_KEY": "the-secret-key-of-all-processes", "GATEKEY_WORKERS": "1"}
PAUSE = 7.0  # seconds: longer than any entry serves once its process hears nothing


@pytest.fixture
def sqlite_url() -> Iterator[str]:
    """A store of this test's own, with one key in it."""
    with folder("gatekey-processes-") as place:
        url = f"sqlite:///{place}/keys.db"
        asyncio.run(_fill(url))
        yield url


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def url(request: pytest.FixtureRequest, require_all: bool) -> Iterator[str]:  # noqa: FBT001 - a fixture
    """The same in each kind of store; nothing of it is left there."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    kind = RedisKind() if request.param == "redis" else PostgresKind()
    if missing := kind.missing():
        (pytest.fail if require_all else pytest.skip)(f"{request.param}:// is not tested: {missing}")
    name = f"gk{uuid.uuid4().hex}"
    found = kind.url(name, *kind.address())
    asyncio.run(_fill(found))
    yield found
    asyncio.run(_forget(kind, name))


async def _forget(kind: RedisKind | PostgresKind, name: str) -> None:
    async with kind.make(name) as place:
        assert await place.stored()  # on the way out it takes away what is there
    assert await place.stored() == b""


async def _fill(url: str) -> None:
    seed = read_key_lines([key_line("key-one")], peppers=Peppers({1: PEPPERS[1]}, current=1), now=START)
    store = create_store(url)
    await store.migrate()
    await store.open()
    await store.add_many(seed.organizations, seed.records)
    await store.close()


async def _revoke(url: str, key_id: str) -> None:
    store = create_store(url)
    await store.open()
    await store.set_state(key_id, KeyState.REVOKED, now=START)
    await store.close()


def _peppers(*versions: int, current: int) -> dict[str, str]:
    listed = ",".join(f"{version}:{base64.b64encode(PEPPERS[version]).decode()}" for version in versions)
    return {"GATEKEY_PEPPERS": listed, "GATEKEY_PEPPER_CURRENT": str(current)}


def _hears(server: GatekeyServer) -> bool:
    page = raw_http.request(server.port, "GET", "/metrics", HOST)
    return b"\ngatekey_invalidation_link_up 1.0" in page.body


def test_a_process_that_was_paused_serves_nothing_that_it_had_cached_before(url: str) -> None:
    """The key is revoked while it stands still; the first answer afterwards refuses."""
    with gatekey(env={**SETTINGS, **_peppers(1, current=1), "GATEKEY_STORE_URL": url}) as server:
        wait_until(lambda: _hears(server), "announcements reach the process")
        first = at_door(server.port, KEY)
        assert first.status == 200
        assert at_door(server.port, KEY).status == 200
        (worker,) = children(server.pid)
        os.kill(worker, signal.SIGSTOP)
        try:
            asyncio.run(_revoke(url, first.header("x-gatekey-key-id")))
            with raw_http.RawConnection(server.port) as connection:
                connection.send(raw_http.render("GET", "/auth/forward/default", [*HOST, *CONTEXT, *KEY]))
                threading.Event().wait(PAUSE)  # the time itself is what is tested
                os.kill(worker, signal.SIGCONT)
                answer = connection.receive()
        finally:
            os.kill(worker, signal.SIGCONT)
        assert answer.status == 401
        assert answer.json()["code"] == "key_inactive"
        (line,) = server.decisions(1, reason="inactive")
        assert line["source"] == "store"


class _Users:
    """Use the key all the time, of every process that serves; every answer must be 200."""

    def __init__(self) -> None:
        self._servers: list[GatekeyServer] = []
        self._statuses: list[int] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._use)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)
        for server in self._servers:
            server.stop()
        assert len(self._statuses) > 50
        assert set(self._statuses) == {200}

    def _use(self) -> None:
        while not self._ended.wait(0.01):
            with self._lock:
                self._statuses += [at_door(server.port, KEY).status for server in self._servers]

    def turn_to(self, newer: GatekeyServer, *, processes: int = 2) -> None:
        """Use a process that has just started, and stop the oldest where there are too many."""
        newer.wait_ready()
        wait_until(lambda: at_door(newer.port, KEY).status == 200, "the new process serves")
        with self._lock:
            self._servers.append(newer)
            older = self._servers.pop(0) if len(self._servers) > processes else None
        if older is not None:
            assert older.stop() == 0


def _under_each_pepper(env: dict[str, str]) -> dict[int, int]:
    done = subprocess.run(
        [sys.executable, "-m", "service", "pepper", "status", "--json"],
        cwd=ROOT,
        env={**clean_environment(), **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return {row["version"]: row["secrets"] for row in json.loads(done.stdout)["items"]}


def test_a_new_pepper_costs_no_request(sqlite_url: str) -> None:
    """Processes are replaced one by one: accept the new one, make it current, take the old one out when nothing needs it."""
    base = {**SETTINGS, "GATEKEY_STORE_URL": sqlite_url}
    steps = [_peppers(1, current=1), _peppers(1, 2, current=1), _peppers(1, 2, current=2), _peppers(2, current=2)]
    with _Users() as users:
        for step in steps:
            if step is steps[-1]:
                wait_until(lambda: _under_each_pepper({**base, **steps[2]})[1] == 0, "every secret has moved")
            for _ in range(2):
                users.turn_to(GatekeyServer(env={**base, **step}))
    assert _under_each_pepper({**base, **steps[-1]}) == {2: 1}
