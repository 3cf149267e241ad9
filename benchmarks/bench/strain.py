"""Whether callers whose key is cached notice what others do: a slow store, a flood of strangers, an operator's long pages.

Each figure stands beside the same one in calm, from the same process a moment before.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.bench import constant, wrk
from benchmarks.bench.cores import pinned
from benchmarks.bench.errors import BadRun
from benchmarks.bench.launches import fill_store, gatekey_environment, import_line
from benchmarks.bench.lineup import DOOR
from benchmarks.bench.openloop import Plan
from benchmarks.contenders import known
from benchmarks.faults.client import Client, key_headers
from benchmarks.faults.stores import STORES
from service.auth.tokens import generate_api_key
from tests.support.servers import GatekeyServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from benchmarks.bench.cores import Cores

__all__ = ["SCENES", "Strained", "measure"]

_SLOW: Final = "0.5 s slower each way"
_COLD: Final = 5_000
_ASKING: Final = 64
_PACE: Final = 0.5
"""Seconds between two requests of each caller whose key is not cached, so that quick refusals are no flood of their own."""
_STRANGERS: Final = 20_000
_READERS: Final = 2
_PAGE: Final = "/v1/keys?limit=1000"
_OPERATOR: Final = {"organization_id": "gatekey", "api_key": "operator"}
_SHARE: Final = 0.35
"""Of the top rate in calm, at which latencies are compared. A closed loop hands requests over in batches, which cost half of
what single ones do: an open loop at half of its top rate has no CPU left, and measures the queue instead of the service."""
_FOUND: Final = re.compile(r'^gatekey_store_operations_total\{[^}]*operation="find"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strained:
    """One round: rates of cached keys (0 where they are not compared), their p99 in milliseconds, and the store's look-ups."""

    calm_rate: float
    strained_rate: float
    calm_p99: float
    strained_p99: float
    store_finds: float
    """A second, while strained."""


async def measure(
    scene: str, cores: Cores, *, rounds: int, seconds: int, report: Callable[[str], None]
) -> list[Strained]:
    """Raises ``BadRun`` where a cached key was not answered with 200 throughout."""
    found = []
    for number in range(1, rounds + 1):
        report(f"{scene} {number}/{rounds}")
        found.append(await SCENES[scene](cores, seconds))
    return found


async def _slow_store(cores: Cores, seconds: int) -> Strained:
    async with STORES["redis"]() as prepared, _service(prepared.url, prepared.direct, cores) as port:
        rate = (await asyncio.to_thread(wrk.run, port, DOOR, seconds=seconds)).rate
        calm = await asyncio.to_thread(constant.run, _plan(port, rate, seconds))
        finds = await _finds(port)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(prepared.faults[_SLOW]())
            cold = [asyncio.create_task(_ask_cold(port, number)) for number in range(_ASKING)]
            stack.push_async_callback(_end, cold)
            strained_rate = (await asyncio.to_thread(wrk.run, port, DOOR, seconds=seconds)).rate
            strained = await asyncio.to_thread(constant.run, _plan(port, rate, seconds))
        return Strained(
            calm_rate=rate,
            strained_rate=strained_rate,
            calm_p99=calm.p99,
            strained_p99=strained.p99,
            store_finds=(await _finds(port) - finds) / (2 * seconds),
        )


async def _flood(cores: Cores, seconds: int) -> Strained:
    with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
        url = f"sqlite:///{folder}/keys.db"
        async with _service(url, url, cores) as port:
            rate = (await asyncio.to_thread(wrk.run, port, DOOR, seconds=seconds)).rate
            calm = await asyncio.to_thread(constant.run, _plan(port, rate, seconds))
            finds = await _finds(port)
            strained = await asyncio.to_thread(constant.run, _plan(port, rate, seconds, strangers=True))
            finds = (await _finds(port) - finds) / seconds
    return Strained(calm_rate=0, strained_rate=0, calm_p99=calm.p99, strained_p99=strained.p99, store_finds=finds)


async def _pages(cores: Cores, seconds: int, *, split: bool) -> Strained:
    """Operators read long pages of keys, in the process of the doors or (``split``) in one of its own beside the load."""
    with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
        url = f"sqlite:///{folder}/keys.db"
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(_service(url, url, cores, role="doors" if split else "all"))
            pages = port
            if split:
                pages = await stack.enter_async_context(_server(url, cores.loading, role="app"))
            calm = await asyncio.to_thread(wrk.run, port, DOOR, seconds=seconds)
            finds = await _finds(port)
            reading = [asyncio.create_task(_read_pages(pages)) for _ in range(_READERS)]
            stack.push_async_callback(_end, reading)
            strained = await asyncio.to_thread(wrk.run, port, DOOR, seconds=seconds)
            if any(each.done() for each in reading):
                raise BadRun("an operator's page was refused")
            finds = (await _finds(port) - finds) / seconds
    return Strained(
        calm_rate=calm.rate,
        strained_rate=strained.rate,
        calm_p99=calm.p99,
        strained_p99=strained.p99,
        store_finds=finds,
    )


SCENES: Final[Mapping[str, Callable[[Cores, int], Awaitable[Strained]]]] = {
    "slow-store": _slow_store,
    "flood": _flood,
    "pages": partial(_pages, split=False),
    "pages-split": partial(_pages, split=True),
}


def _plan(port: int, rate: float, seconds: int, *, strangers: bool = False) -> Plan:
    names = [generate_api_key("live") for _ in range(_STRANGERS if strangers else 0)]
    return Plan(
        port=port,
        request=DOOR,
        rate=_SHARE * rate,
        seconds=seconds,
        connections=4 * wrk.CONNECTIONS if strangers else wrk.CONNECTIONS,
        strangers=tuple(DOOR.changed(expected=401, x_api_key=name) for name in names),
    )


@asynccontextmanager
async def _service(url: str, direct: str, cores: Cores, *, role: str = "all") -> AsyncIterator[int]:
    """``gatekey serve`` on a store that has the key, and others that nobody has asked for; warm."""
    with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
        filled = gatekey_environment(free_port(), GATEKEY_STORE_URL=direct)
        await asyncio.to_thread(_fill, Path(folder, "keys.jsonl"), filled)
    async with _server(url, cores.one, role=role) as port:
        await asyncio.to_thread(wrk.run, port, DOOR, seconds=1)
        yield port


@asynccontextmanager
async def _server(url: str, cores: frozenset[int], *, role: str) -> AsyncIterator[int]:
    with pinned(cores):
        server = GatekeyServer(env=gatekey_environment(free_port(), GATEKEY_STORE_URL=url, GATEKEY_ROLE=role))
    try:
        await asyncio.to_thread(server.wait_ready)
        yield server.port
    finally:
        await asyncio.to_thread(server.stop)


def _fill(path: Path, environment: dict[str, str]) -> None:
    line = orjson.loads(import_line())
    cold = (orjson.dumps({**line, "api_key": f"cold{index}"}) + b"\n" for index in range(_COLD))
    operator = {**line, **_OPERATOR, "domains": ["@gatekey"], "scopes": ["gatekey:read"]}
    path.write_bytes(import_line() + orjson.dumps(operator) + b"\n" + b"".join(cold))
    fill_store(path, environment)


async def _ask_cold(port: int, number: int) -> None:
    await asyncio.sleep(_PACE * number / _ASKING)  # nobody's callers come in step
    client = Client(port)
    try:
        for index in range(number, _COLD, _ASKING):
            headers = {**DOOR.headers, "x-api-key": f"cold{index}", "x-secret-token": known.SECRET}
            answer = await client.ask(DOOR.path, headers)
            await asyncio.sleep(max(0.0, _PACE - answer.seconds))
    finally:
        client.close()


async def _read_pages(port: int) -> None:
    """One after the other, until cancelled; ends at the first that is refused."""
    client = Client(port)
    headers = key_headers(_OPERATOR["api_key"], known.SECRET)
    try:
        while (await client.ask(_PAGE, headers)).status == HTTPStatus.OK:
            pass
    finally:
        client.close()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _finds(port: int) -> float:
    client = Client(port)
    try:
        page = (await client.ask("/metrics", {})).body.decode()
    finally:
        client.close()
    return sum(float(value) for value in _FOUND.findall(page))
