"""Several processes on one SQLite file: heard at once, paused, killed in the middle of a write."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backends.records import KeyState
from backends.sqlite import SqliteKeyStore
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.servers import ROOT, Process, wait_until
from tests.support.sqlite_kind import ask, by_hand, folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEYS = 40


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("gk-processes-") as place:
        yield Path(place, "keys.db")


@pytest.fixture(autouse=True)
async def store(path: Path) -> AsyncIterator[SqliteKeyStore]:
    store = SqliteKeyStore(path)
    await store.open()
    await store.add_organization(make_organization())
    await store.add_many([], [make_key(f"k{number}") for number in range(KEYS)])
    yield store
    await store.close()


class Child:
    def __init__(self, process: Process) -> None:
        self.process = process

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.process.lines]

    def wait_for(self, **wanted: Any) -> None:
        wait_until(
            lambda: any(wanted.items() <= line.items() for line in self.told()), f"the other process is told {wanted}"
        )


@contextmanager
def child(*arguments: object) -> Iterator[Child]:
    command = [sys.executable, "-m", "tests.support.sqlite_child", *map(str, arguments)]
    process = Process(command, env=dict(os.environ), cwd=ROOT)
    try:
        yield Child(process)
    finally:
        process.stop()


async def test_a_revocation_is_heard_in_another_process(path: Path, store: SqliteKeyStore) -> None:
    """With the time of the write."""
    with child("watch", path) as other:
        other.wait_for(what="heartbeat")
        await store.set_state("key_k7", KeyState.REVOKED, now=START)
        other.wait_for(what="key", api_key="k7", origin="key")
        (line,) = (line for line in other.told() if line["what"] == "key")
        assert line["at"] == pytest.approx(path.with_name("keys.db-wal").stat().st_mtime, abs=60)


async def test_a_change_made_by_hand_is_heard_in_another_process(path: Path) -> None:
    """As any other."""
    with child("watch", path) as other:
        other.wait_for(what="heartbeat")
        by_hand(path, "UPDATE api_keys SET state = 'revoked' WHERE api_key = 'k3'")
        other.wait_for(what="key", api_key="k3")


async def test_a_paused_process_hears_what_it_missed_before_a_young_sign_of_life(
    path: Path, store: SqliteKeyStore
) -> None:
    """A sign of life that was on its way when it was paused tells its true age."""
    with child("watch", path) as other:
        other.wait_for(what="heartbeat")
        os.kill(other.process.pid, signal.SIGSTOP)
        wait_until(lambda: stopped(other.process.pid), "it is paused")
        for number in range(KEYS):
            await store.set_state(f"key_k{number}", KeyState.REVOKED, now=START)
        written_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.kill(other.process.pid, signal.SIGCONT)
        wait_until(lambda: any(vouches(line, written_at) for line in other.told()), "it is told a young sign of life")
        told = other.told()
        young = next(place for place, line in enumerate(told) if vouches(line, written_at))
        missed = {line["api_key"] for line in told[:young] if line["what"] == "key"}
        assert missed == {f"k{number}" for number in range(KEYS)}


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def vouches(line: dict[str, Any], moment: float) -> bool:
    """Whether the line says: what was announced before that moment has arrived."""
    return line["what"] == "heartbeat" and bool(line["said_at"] - line["delay"] > moment)


async def test_the_log_of_a_deleted_file_does_not_spoil_a_new_one(path: Path, store: SqliteKeyStore) -> None:
    """Another process, which is paused, holds the deleted one open; it goes on with the new one."""
    with child("watch", path) as other:
        other.wait_for(what="heartbeat")
        os.kill(other.process.pid, signal.SIGSTOP)
        wait_until(lambda: stopped(other.process.pid), "it is paused")
        await store.close()
        delete(path)
        assert exists(path.with_name("keys.db-wal")), "nothing was left of it"
        await store.open()
        assert await store.find("k1") is None
        await store.add_organization(make_organization("new"))
        await store.add(make_key("new", organization_id="new"))
        os.kill(other.process.pid, signal.SIGCONT)
        wait_until(lambda: len(reconnections(other)) == 2, "it is told that everything may have changed")
        await store.set_state("key_new", KeyState.REVOKED, now=START)
        other.wait_for(what="key", api_key="new")
    await store.close()
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "SELECT organization_id, state FROM api_keys") == [("new", "revoked")]


async def test_a_backup_that_is_moved_into_place_is_read_by_all_processes(path: Path, store: SqliteKeyStore) -> None:
    """And what was written after it is gone for all."""
    with child("watch", path) as one, child("watch", path) as two:
        for other in (one, two):
            other.wait_for(what="heartbeat")
        by_hand(path, f"VACUUM INTO '{path}.backup'")
        await store.add_many([], [make_key(f"late{number}") for number in range(300)])
        move(Path(f"{path}.backup"), path)
        for other in (one, two):
            wait_until(lambda: len(reconnections(other)) == 2, "it is told that everything may have changed")  # noqa: B023 - called at once
        assert await store.find("late7") is None
        assert await store.find("k7") is not None
        await store.set_state("key_k7", KeyState.REVOKED, now=START)
        for other in (one, two):
            other.wait_for(what="key", api_key="k7")
    await store.close()
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "SELECT count(*) FROM api_keys") == [(KEYS,)]


def reconnections(child: Child) -> list[dict[str, Any]]:
    """The first one is that of its start."""
    return [line for line in child.told() if line.get("origin") == "reconnect"]


def move(source: Path, target: Path) -> None:
    source.rename(target)


def delete(path: Path) -> None:
    path.unlink()


def exists(path: Path) -> bool:
    return path.exists()


async def test_a_process_that_is_killed_while_it_writes_leaves_the_file_whole(
    path: Path, store: SqliteKeyStore
) -> None:
    """100 times: no half of a batch, nothing lost that had returned. Nobody else has it open, so its log is recovered."""
    await store.close()
    with child("die", path, 100) as other:
        wait_until(lambda: len(other.told()) == 100, "all were killed", deadline=90)
        assert other.told() == [{"whole": True}] * 100
