"""Another process on the same SQLite file: ``watch`` prints what it is told, ``die`` is killed in the middle of writes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.records import KeyState, Origin
from backends.sqlite import SqliteKeyStore
from tests.support.clock import START
from tests.support.keys import make_key

if TYPE_CHECKING:
    from typing import NoReturn

BATCH = 5


class Printer:
    def key_changed(self, api_key: str, *, at: float | None = None, origin: Origin = Origin.KEY) -> None:
        say(what="key", api_key=api_key, at=at, origin=origin)

    def everything_changed(self, *, at: float | None = None, origin: Origin = Origin.BULK) -> None:
        say(what="everything", at=at, origin=origin)

    def heartbeat(self, *, delay: float = 0.0) -> None:
        say(what="heartbeat", delay=delay, said_at=time.clock_gettime(time.CLOCK_BOOTTIME))


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 - read by the test


async def watch(path: Path) -> None:
    store = SqliteKeyStore(path)
    await store.open()
    await store.watch(Printer())


def die(path: Path, rounds: int) -> None:
    """Again and again a child that writes batches and says so is killed; then the file is looked at."""
    chance = random.Random(rounds)  # noqa: S311 - the same moments each time
    for number in range(rounds):
        hear, tell = os.pipe()
        pid = os.fork()
        if not pid:
            asyncio.run(write(path, number, tell))
        os.close(tell)
        written = len(os.read(hear, 1))  # it is open, and has written once
        select.select([], [], [], chance.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(hear, 4096):
            written += len(more)
        os.close(hear)
        say(whole=look(path, number, written))


async def write(path: Path, number: int, tell: int) -> NoReturn:
    store = SqliteKeyStore(path)
    await store.open()
    batch = 0
    while True:
        keys = [make_key(f"k{number}-{batch}-{place}") for place in range(BATCH)]
        await store.add_many([], keys)
        await store.set_state(keys[0].key_id, KeyState.REVOKED, now=START)
        os.write(tell, b".")
        batch += 1


def look(path: Path, number: int, written: int) -> bool:
    """Sound, no batch in part, and everything that was said to be written is there and revoked."""
    with closing(sqlite3.connect(path)) as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT count(*), sum(state = 'revoked') FROM api_keys WHERE api_key LIKE ?"
        count, revoked = connection.execute(query, (f"k{number}-%",)).fetchone()
    return sound and count % BATCH == 0 and written <= revoked <= count // BATCH <= written + 1


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        asyncio.run(watch(Path(sys.argv[2])))
    else:
        die(Path(sys.argv[2]), int(sys.argv[3]))
