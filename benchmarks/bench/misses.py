"""What a miss costs: the decision as the log line tells it, beside the bare driver call that reads the same rows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.bench.cores import pinned
from benchmarks.bench.errors import BadRun
from benchmarks.bench.figures import quantile
from benchmarks.bench.launches import fill_store, gatekey_environment
from benchmarks.contenders import known
from benchmarks.faults.client import Client, forwarded, key_headers
from benchmarks.faults.stores import STORES
from tests.support import postgres_server, redis_server
from tests.support.servers import ROOT, GatekeyServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.bench.cores import Cores

__all__ = ["KEYS_A_ROUND", "STORES", "Miss", "measure", "medians", "missing"]

KEYS_A_ROUND: Final = 300
_SPARE: Final = 3  # rounds, for those that are void
_DOOR: Final = forwarded(known.DOMAIN)
_WARM_UP: Final = "warm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One round, in milliseconds at the median: ``miss`` and ``hit`` of the same keys, ``bare`` of the driver."""

    miss: float
    miss_p99: float
    bare: float
    bare_p99: float
    hit: float


async def measure(store: str, cores: Cores, *, rounds: int, report: Callable[[str], None]) -> list[Miss]:
    """Rounds alternate between Gatekey and the driver; each asks for keys that nobody has asked for before."""
    async with STORES[store]() as prepared:
        names = [_names(number) for number in range(rounds + _SPARE)]
        report(f"misses, {store}: import")
        settings = {"GATEKEY_STORE_URL": prepared.direct}
        await asyncio.to_thread(_import, settings, [f"{_WARM_UP}{index}" for index in range(100)], *names)
        with pinned(cores.one):
            server = GatekeyServer(env=gatekey_environment(free_port(), **settings))
        try:
            await asyncio.to_thread(server.wait_ready)
            client = Client(server.port)
            await _ask(client, [f"{_WARM_UP}{index}" for index in range(100)])
            found: list[Miss] = []
            for keys in names:
                report(f"misses, {store}: {len(found) + 1}/{rounds}")
                await _ask(client, keys)
                await _ask(client, keys)
                try:
                    missed = await _durations(server, keys, "store")
                    hit = await _durations(server, keys, "cache")
                except BadRun:  # the cache was emptied in the middle of it, as after an import
                    continue
                bare = await asyncio.to_thread(_bare, prepared.direct, keys, cores)
                found.append(medians(missed, hit, bare))
                if len(found) == rounds:
                    break
            else:
                raise BadRun(f"only {len(found)} of {rounds} rounds were not disturbed")
            client.close()
        finally:
            await asyncio.to_thread(server.stop)
        return found


def missing(store: str) -> str:
    """What this machine lacks to run the store's server, empty where nothing."""
    return {"redis": redis_server.missing, "postgresql": postgres_server.missing}.get(store, str)()


def medians(missed: list[float], hit: list[float], bare: list[float]) -> Miss:
    """Of one round."""
    return Miss(
        miss=median(missed),
        miss_p99=quantile(sorted(missed), 0.99),
        bare=median(bare),
        bare_p99=quantile(sorted(bare), 0.99),
        hit=median(hit),
    )


def _names(number: int) -> list[str]:
    return [f"round{number}-key{index}" for index in range(KEYS_A_ROUND)]


def _import(settings: Mapping[str, str], *names: list[str]) -> None:
    line = {"organization_id": "acme", "secret_token": known.SECRET, "domains": [known.DOMAIN]}
    with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
        path = Path(folder, "keys.jsonl")
        keys = ({**line, "api_key": name, "key_id": name} for group in names for name in group)
        path.write_bytes(b"".join(orjson.dumps(key) + b"\n" for key in keys))
        fill_store(path, gatekey_environment(free_port(), **settings))


async def _ask(client: Client, keys: list[str]) -> None:
    for key in keys:
        answer = await client.ask("/auth/forward/default", {**_DOOR, **key_headers(key, known.SECRET)})
        if answer.status != 200:  # noqa: PLR2004 - HTTP
            raise BadRun(f"a key that is in the store was answered with {answer.status}")


async def _durations(server: GatekeyServer, keys: list[str], source: str) -> list[float]:
    """Of the decisions about these keys that were made from ``source``: one for each key, or the round is void."""
    wanted = set(keys)
    lines = await asyncio.to_thread(server.decisions, len(keys), source=source)
    found = [line["duration_ms"] for line in lines if line["key_id"] in wanted]
    if len(found) != len(keys):
        raise BadRun(f"{len(found)} of {len(keys)} decisions came from the {source}")
    return found


def _bare(url: str, keys: list[str], cores: Cores) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.bench.bare"]
    given = orjson.dumps({"url": url, "api_keys": keys})
    with pinned(cores.one):
        done = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise BadRun(f"the bare driver call failed: {done.stderr.decode()[-300:]}")
    taken: list[float] = orjson.loads(done.stdout)
    return taken
