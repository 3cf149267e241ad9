"""What a million keys cost: a cached decision among them, the memory of each, and the start on a store that holds them."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.bench.cores import pinned
from benchmarks.bench.errors import BadRun
from benchmarks.bench.launches import fill_store, gatekey_environment, import_line
from benchmarks.bench.lineup import DOOR
from benchmarks.faults.client import Client
from tests.support.servers import ROOT, GatekeyServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench.cores import Cores

__all__ = ["FEW", "MANY", "SCENES", "Many", "grow", "measure"]

FEW: Final = 1_000
MANY: Final = 1_000_000
_OK: Final = 200
_LOOK: Final = 0.005  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """One round: the same figure for few keys and for many; ``entry_bytes`` is 0 where no cache was filled."""

    few: float
    many: float
    entry_bytes: float = 0.0


async def measure(scene: str, cores: Cores, *, rounds: int, report: Callable[[str], None]) -> list[Many]:
    """Raises ``BadRun`` where an answer was not the expected one."""
    report(f"many-{scene}: {MANY:,} keys")
    return await SCENES[scene](cores, rounds)


async def _keys(cores: Cores, rounds: int) -> list[Many]:
    command = [sys.executable, "-m", "benchmarks.bench.many_keys", str(FEW), str(MANY), str(rounds)]
    with pinned(cores.one):
        done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise BadRun(f"the cache of many keys failed: {done.stderr.decode().strip().splitlines()[-1:]}")
    found = orjson.loads(done.stdout)
    pairs = zip(found["few"], found["many"], strict=True)
    return [Many(few=few, many=many, entry_bytes=found["entry_bytes"]) for few, many in pairs]


def _prepared(few: Path, many: Path, keys: Path) -> None:
    keys.write_bytes(import_line())
    for path in (few, many):
        fill_store(keys, gatekey_environment(free_port(), GATEKEY_STORE_URL=f"sqlite:///{path}"))
    grow(many, MANY)


async def _start(cores: Cores, rounds: int) -> list[Many]:
    with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
        few, many = Path(folder, "few.db"), Path(folder, "many.db")
        await asyncio.to_thread(_prepared, few, many, Path(folder, "keys.jsonl"))
        return [Many(few=await _started(few, cores), many=await _started(many, cores)) for _ in range(rounds)]


SCENES: Final = {"keys": _keys, "start": _start}


def grow(path: Path, keys: int) -> None:
    """Add copies of the one key in the file under other names, by SQL: an import of a million takes minutes."""
    with closing(sqlite3.connect(path)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(api_keys)")]
        changed = {"key_id": "printf('key_%032x', n)", "api_key": "printf('copy-%d', n)"}
        selected = ", ".join(changed.get(column, column) for column in columns)
        numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
        with db:
            db.execute("INSERT INTO meta (name, value) VALUES ('bulk', '1')")  # one announcement for all, as an import
            db.execute(
                f"{numbers} INSERT INTO api_keys SELECT {selected} FROM numbers, (SELECT * FROM api_keys LIMIT 1)",  # noqa: S608 - our own names
                (keys,),
            )
            db.execute("DELETE FROM meta WHERE name = 'bulk'")


async def _started(path: Path, cores: Cores) -> float:
    """Seconds until the service is ready; its key must pass then."""
    began = time.perf_counter()
    with pinned(cores.one):
        server = GatekeyServer(env=gatekey_environment(free_port(), GATEKEY_STORE_URL=f"sqlite:///{path}"))
    try:
        await asyncio.to_thread(server.wait_ready)
        client = Client(server.port)
        try:
            while (await client.ask("/readyz", {})).status != _OK:  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(_LOOK)
            taken = time.perf_counter() - began
            answer = await client.ask(DOOR.path, DOOR.headers)
        finally:
            client.close()
        if answer.status != _OK:
            raise BadRun(f"a key that is in the store was answered with {answer.status}")
        return taken
    finally:
        await asyncio.to_thread(server.stop)
