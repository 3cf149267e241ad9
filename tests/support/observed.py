"""A real service with two workers over a real Postgres, a small load, a real Prometheus that scrapes it, and its faults."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from backends.factory import create_store
from benchmarks.faults.client import Client, key_headers
from service.auth.keyfile import read_key_lines
from service.auth.peppers import Peppers
from service.auth.tokens import generate_api_key
from tests.support import leaks
from tests.support.fault_proxy import FaultProxy, Mode
from tests.support.postgres_kind import PostgresKind
from tests.support.processes import children
from tests.support.prometheus import INSTANCE, Prometheus, past
from tests.support.servers import GatekeyServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

PEPPER: Final = "a pepper for what is observed of 32 bytes or more"
SECRET: Final = "the-secret-of-every-observed-key"
DOMAIN: Final = "api.example.com"
WORKERS: Final = 2
_ORGANIZATIONS: Final = ("acme", "globex", "initech", "umbrella")
_KEYS: Final = 25  # of each organization
_RARE: Final = 2_000  # keys that are asked for once, so that the store has something to do
_WEEK: Final = 7 * 24 * 3600.0
_DOOR: Final = {
    "X-Forwarded-Method": "GET",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": DOMAIN,
    "X-Forwarded-Uri": "/orders",
}


class Observed:
    """What runs, and how to break it; every task of the load ends with ``stop``."""

    def __init__(self, server: GatekeyServer, prometheus: Prometheus, store: FaultProxy, link: FaultProxy) -> None:
        self.server = server
        self.prometheus = prometheus
        self.store = store
        self.link = link
        self.started = time.time()
        self.guesses = 0.0
        """Unknown keys a second, on top of the load."""
        self._rare = iter(range(_RARE))
        self._made = 0
        self._group: list[asyncio.Task[None]] = []
        self._clients: list[Client] = []

    def begin(self) -> None:
        """Start the load: about 70 requests a second, nearly all from the cache."""
        names = cycle(f"{organization}-{index}" for index in range(_KEYS) for organization in _ORGANIZATIONS)
        sources = [(self._known(names), 60.0), (self._unheard(), 0.5), (self._noise(), 2.0), (self._people(), 3.0)]
        for source, speed in sources:
            self._group.append(asyncio.create_task(self._at(source, speed)))
        self._group += [asyncio.create_task(self._guessing()), asyncio.create_task(self._managing())]

    async def stop(self) -> None:
        """End the load and give its connections back; idempotent."""
        for task in self._group:
            task.cancel()
        for task in self._group:
            try:
                await task
            except asyncio.CancelledError:
                continue
        while self._clients:
            self._clients.pop().close()
        await asyncio.sleep(0)  # a closed connection is gone with the loop's next step

    async def store_down(self, seconds: float) -> None:
        """Nobody listens where the store was."""
        await self.store.become(Mode.REFUSE)
        await self.link.become(Mode.REFUSE)
        await asyncio.sleep(seconds)
        await self.store.become(Mode.PASS)
        await self.link.become(Mode.PASS)

    async def store_slow(self, seconds: float, *, pause: float = 0.1) -> None:
        """Each piece on the way to the store and back is held up for ``pause`` seconds."""
        await self.store.become(Mode.SLOW, pause=pause)
        await asyncio.sleep(seconds)
        await self.store.become(Mode.PASS)

    async def link_lost(self, seconds: float) -> None:
        """Look-ups are answered, announcements do not come."""
        await self.link.become(Mode.REFUSE)
        await asyncio.sleep(seconds)
        await self.link.become(Mode.PASS)

    async def guessed(self, seconds: float, *, speed: float = 120.0) -> None:
        """Somebody tries keys."""
        self.guesses = speed
        await asyncio.sleep(seconds)
        self.guesses = 0.0

    async def worker_killed(self) -> None:
        """One of them is gone at once, if all are there."""
        workers = children(self.server.pid)
        if len(workers) == WORKERS:
            os.kill(workers[-1], signal.SIGKILL)
        await asyncio.sleep(0)

    async def revoked(self, count: int) -> None:
        """So many keys end, one after the other."""
        client = self._client()
        for _ in range(count):
            await self._manage(client, "POST", f"/v1/keys/rare-{next(self._rare)}/revoke")

    def _client(self) -> Client:
        client = Client(self.server.port)
        self._clients.append(client)
        return client

    async def _at(self, requests: Iterator[tuple[str, str, dict[str, str]]], speed: float) -> None:
        """Two connections, so that both workers have something to do."""
        clients = cycle([self._client(), self._client()])
        due = time.monotonic()
        for method, path, headers in requests:
            due += 1 / speed
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1)
            await next(clients).ask(path, headers, method=method)

    def _known(self, names: Iterator[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
        for name in names:
            yield "GET", "/auth/forward/default", _asking(name)

    def _unheard(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        for index in self._rare:
            yield "GET", "/auth/forward/default", _asking(f"rare-{index}")

    def _noise(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        """What the internet and a customer's mistake look like."""
        for index in cycle(range(4)):
            known = _asking(f"acme-{index}")
            yield "GET", "/auth/forward/default", {**_DOOR, "X-Forwarded-For": "192.0.2.77"}
            yield "GET", "/auth/forward/default", {**known, "x-api-key": "gk_live_broken"}
            yield "GET", "/auth/forward/default", {**known, "X-Forwarded-Host": "other.example.com"}
            yield "GET", "/auth/forward/default", {**known, "x-secret-token": "somebody-else's"}
            yield "GET", "/auth/forward/default", _asking("stopped")

    def _people(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        operator = key_headers("operator", SECRET)
        for path in cycle(["/v1/whoami", "/login", "/livez", "/v1/organizations", "/docs"]):
            yield "GET", path, operator

    async def _guessing(self) -> None:
        client = self._client()
        for index in cycle(range(250)):
            if not self.guesses:
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(1 / self.guesses)
            headers = {**_asking(generate_api_key("live")), "X-Forwarded-For": f"198.51.100.{index}"}
            await client.ask("/auth/forward/default", headers)

    async def _managing(self) -> None:
        """Keys are made, renamed and sometimes ended, all the time."""
        client = self._client()
        for turn in count():
            if turn % 50 == 0:
                await self._manage(client, "POST", f"/v1/keys/rare-{next(self._rare)}/revoke")
            elif turn % 4 == 0:
                await self._manage(client, "POST", "/v1/organizations/acme/keys", {"domains": [DOMAIN]})
            else:
                key = f"acme-{turn % _KEYS}"
                await self._manage(client, "PATCH", f"/v1/keys/{key}", {"name": f"turn {turn}"})
            await asyncio.sleep(1)

    async def _manage(self, client: Client, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        data = b"" if body is None else orjson.dumps(body)
        self._made += 1
        headers = {**key_headers("operator", SECRET), "Idempotency-Key": f"observed-{self._made}"}
        await client.ask(path, headers, method=method, body=data)


@asynccontextmanager
async def observed(
    folder: Path, *, rules: Iterable[Path] = (), expires_in: float | None = None
) -> AsyncIterator[Observed]:
    """All of it, without load; ``expires_in`` ends the keys of ``globex`` after so many seconds."""
    leaks.register(SECRET, PEPPER)
    kind = PostgresKind()
    name, (host, port), admin = f"gk{uuid.uuid4().hex[:12]}", kind.address(), free_port()
    async with FaultProxy(host, port) as store, FaultProxy(host, port) as link:
        await _fill(kind.url(name, host, port), expires_in)
        environ = {
            "GATEKEY_STORE_URL": kind.url(name, "127.0.0.1", store.port),
            "GATEKEY_STORE_LISTEN_URL": kind.url(name, "127.0.0.1", link.port),
            "GATEKEY_PEPPER": PEPPER,
            "GATEKEY_SECRET_KEY": "a secret key for what is observed",
            "GATEKEY_WORKERS": str(WORKERS),
            "GATEKEY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        }
        server = GatekeyServer(env=environ)
        try:
            await asyncio.to_thread(server.wait_ready)
            targets = {INSTANCE: f"127.0.0.1:{admin}"}
            prometheus = await asyncio.to_thread(Prometheus, folder, targets, rules=rules, past=_last_week())
            try:
                running = Observed(server, prometheus, store, link)
                try:
                    yield running
                finally:
                    await running.stop()
            finally:
                await asyncio.to_thread(prometheus.stop)
        finally:
            await asyncio.to_thread(server.stop)


def _asking(name: str) -> dict[str, str]:
    return {**_DOOR, "X-Forwarded-For": "192.0.2.1", **key_headers(name, SECRET)}


def _last_week() -> str:
    """What the same load would have left a week ago."""
    decisions, duration = "gatekey_decisions_total", "gatekey_decision_duration_seconds"
    speeds = {
        decisions + '{outcome="allow",reason="ok"': 62.0,
        decisions + '{outcome="deny",reason="wrong_domain"': 0.3,
        decisions + '{outcome="deny",reason="missing_credentials"': 0.5,
        duration + '_bucket{outcome="allow",source="cache",le="0.01"': 62.5,
        duration + '_count{outcome="allow",source="cache"': 62.8,
    }
    now = time.time()
    return past(speeds, start=now - _WEEK - 300, end=now - _WEEK + 600)


async def _fill(url: str, expires_in: float | None) -> None:
    ended = None if expires_in is None else (datetime.now(UTC) + timedelta(seconds=expires_in)).isoformat()
    lines = [_line("operator", "gatekey", domains=["@gatekey"], scopes=["gatekey:read", "gatekey:write"])]
    for organization in _ORGANIZATIONS:
        expires = ended if organization == "globex" else None
        lines += [_line(f"{organization}-{index}", organization, expires_at=expires) for index in range(_KEYS)]
    lines += [_line(f"rare-{index}", "acme") for index in range(_RARE)]
    lines.append(_line("stopped", "umbrella", is_active=False))
    seed = read_key_lines(lines, peppers=Peppers({1: PEPPER.encode()}, current=1), now=datetime.now(UTC))
    store = create_store(url)
    await store.migrate()
    await store.open()
    try:
        records = iter(seed.records)
        await store.add_many(seed.organizations, list(islice(records, 500)))
        while batch := list(islice(records, 500)):
            await store.add_many([], batch)
    finally:
        await store.close()


def _line(name: str, organization: str, **fields: Any) -> bytes:
    line = {
        "organization_id": organization,
        "api_key": name,
        "key_id": name,
        "secret_token": SECRET,
        "domains": [DOMAIN],
    }
    return orjson.dumps({**line, **fields})
