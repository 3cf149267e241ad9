"""Several ``gatekey serve`` processes over one store, with keys in it, and an operator who may do everything."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from backends.factory import create_store
from benchmarks.faults.client import Answer, Client, forwarded, key_headers
from service.auth.keyfile import read_key_lines
from service.auth.peppers import Peppers
from tests.support.servers import GatekeyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = ["Fleet", "environment", "fleet", "key_line"]

PEPPER: Final = "a pepper for measurements of 32 bytes or more"
_SECRET: Final = "the-secret-of-every-key"  # noqa: S105 - of keys that live for a minute on this machine
DOMAIN: Final = "api.example.com"
_DOOR: Final = forwarded(DOMAIN)
_OPERATOR: Final = "operator"
_STARTED: Final = 30.0  # seconds until every process must be at work


class Fleet:
    """``clients`` has one connection to each process for whoever wants to ask it; keys are ``name -> key_id``."""

    def __init__(self, servers: list[GatekeyServer]) -> None:
        self.servers = servers
        self.clients = [Client(server.port) for server in servers]
        self._operators = [Client(server.port) for server in servers]

    async def ask(self, process: int, api_key: str, *, secret: str = _SECRET, client: Client | None = None) -> Answer:
        """What one process decides for a key at the forward door."""
        headers = {**_DOOR, **key_headers(api_key, secret)}
        return await (client or self.clients[process]).ask("/auth/forward/default", headers)

    async def manage(self, process: int, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """An operator's request to one process."""
        data = b"" if body is None else orjson.dumps(body)
        return await self._operators[process].ask(path, key_headers(_OPERATOR, _SECRET), method=method, body=data)

    def close(self) -> None:
        """Give all connections back and stop the processes."""
        for client in (*self.clients, *self._operators):
            client.close()
        for server in self.servers:
            server.stop()


@asynccontextmanager
async def fleet(
    url: str, *, processes: int, keys: Mapping[str, str], seed_url: str | None = None
) -> AsyncIterator[Fleet]:
    """Prepare the store (through ``seed_url``), fill in ``keys`` (name -> organization), serve, and stop all at the end."""
    await _fill(seed_url or url, keys)
    environ = {**environment(url), "GATEKEY_WORKERS": "1"}
    running = Fleet([GatekeyServer(env=environ) for _ in range(processes)])
    try:
        await asyncio.gather(*(asyncio.to_thread(server.wait_ready) for server in running.servers))
        async with asyncio.timeout(_STARTED):
            while not all([await _hears(client) for client in running.clients]):  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.05)
        yield running
    finally:
        await asyncio.to_thread(running.close)


def environment(url: str) -> dict[str, str]:
    """What a process or a command needs to work on the store."""
    return {"GATEKEY_STORE_URL": url, "GATEKEY_PEPPER": PEPPER, "GATEKEY_SECRET_KEY": "a secret key for measurements"}


async def _hears(client: Client) -> bool:
    """Whether announcements reach the process already."""
    return b"\ngatekey_invalidation_link_up 1.0" in (await client.ask("/metrics", {})).body


async def _fill(url: str, keys: Mapping[str, str]) -> None:
    scopes = ["gatekey:read", "gatekey:write"]
    lines = [key_line(name, organization) for name, organization in keys.items()]
    lines.append(key_line(_OPERATOR, "gatekey", domains=["@gatekey"], scopes=scopes))
    seed = read_key_lines(lines, peppers=Peppers({1: PEPPER.encode()}, current=1), now=datetime.now(UTC))
    store = create_store(url)
    await store.migrate()
    await store.open()
    try:
        await store.add_many(seed.organizations, seed.records)
    finally:
        await store.close()


def key_line(name: str, organization: str, **fields: Any) -> bytes:
    """A line of an import file; all keys have the same secret, and a ``key_id`` that is their name."""
    line = {
        "organization_id": organization,
        "api_key": name,
        "key_id": name,
        "secret_token": _SECRET,
        "domains": [DOMAIN],
    }
    return orjson.dumps({**line, **fields})
