"""One scrape of a service with three workers tells of all three, whichever is asked and whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.observe.process import started_at
from tests.support.each_worker import each_worker
from tests.support.plugin_store import environment
from tests.support.processes import KEY, at_door, children, get, is_running, replaced, serving, status
from tests.support.servers import (
    GatekeyServer,
    Process,
    accepts,
    clean_environment,
    free_port,
    key_line,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = 3
START_TIME = "gatekey_process_start_time_seconds"


class Fleet:
    """The running service; ``admin`` is the port of its own for the metrics."""

    def __init__(self, server: GatekeyServer, admin: int) -> None:
        self.server = server
        self.admin = admin

    def ask(self, count: int) -> None:
        """So many decisions, each over a connection of its own."""
        for _ in range(count):
            assert at_door(self.server.port, KEY).status == 200

    def told(self) -> dict[tuple[str, ...], float]:
        """The scrape over the metrics' own port."""
        answer = get(self.admin, "/metrics")
        return numbers(answer.body) if answer.status == 200 else {}

    def decisions(self) -> float:
        return self.told()["gatekey_decisions_total", "allow", "ok"]

    def whole(self, workers: int = WORKERS) -> bool:
        """Whether so many workers are behind a scrape."""
        return self.told().get(("gatekey_workers",)) == workers


def numbers(body: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


@contextmanager
def fleet(folder: Path, *arguments: str, **env: str) -> Iterator[Fleet]:
    """Three workers that all serve, and know one key."""
    keys, admin = folder / "keys.jsonl", free_port()
    keys.write_bytes(key_line("key-one"))
    settings = {
        **environment(folder / "package", "fine", workers=WORKERS),
        "GATEKEY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        **env,
    }
    with serving("--import", str(keys), *arguments, env=settings) as server:
        running = Fleet(server, admin)
        wait_until(running.whole, "all workers are in the scrape")
        yield running


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_every_worker_tells_of_all_workers(tmp_path: Path, interface: str) -> None:
    """Requests are spread over the workers, and each of them, asked for the metrics, knows them all."""
    with fleet(tmp_path, "--interface", interface) as running, each_worker(running.server, WORKERS, KEY) as workers:
        for line in workers.values():
            assert line.decide(KEY)[0] == 200
        sources = Counter(event["source"] for event in running.server.decisions(2 * WORKERS))
        assert sources["store"] >= WORKERS, "each worker has a cache of its own"
        assert sources["cache"] >= WORKERS
        for line in workers.values():
            told = numbers(line.get("/metrics").body)
            assert told["gatekey_decisions_total", "allow", "ok"] == sources.total()
            for source, number in sources.items():
                assert told["gatekey_decision_duration_seconds_count", "allow", source] == number
            assert told["gatekey_workers",] == WORKERS
        assert running.decisions() == sources.total()


def test_a_killed_worker_takes_nothing_out_of_the_sums(tmp_path: Path) -> None:
    """What a scrape has shown stays: right after the death, when it is replaced, and when that one dies too."""
    with fleet(tmp_path) as running:
        running.ask(20)
        before = running.told()
        assert before["gatekey_decisions_total", "allow", "ok"] == 20
        for _ in range(2):
            victim = children(running.server.pid)[-1]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda gone=victim: not is_running(gone), "it is dead")  # type: ignore[misc]  # a default binds it
            after = running.told()
            fallen = {
                key
                for key, value in before.items()
                if key[0].endswith(("_total", "_count", "_sum")) and after[key] < value
            }
            assert not fallen
            assert after["gatekey_decisions_total", "allow", "ok"] == 20
            wait_until(running.whole, "it is replaced")
        running.ask(5)
        assert running.decisions() == 25


def test_the_parent_tells_how_many_workers_there_should_be_and_how_many_died(tmp_path: Path) -> None:
    """A worker that is replaced at once is in no scrape missing, and yet its death is counted; the service's age stays."""
    with fleet(tmp_path) as running:
        before = running.told()
        assert before[START_TIME,] == pytest.approx(started_at(running.server.pid), abs=0.001)
        for deaths in (1, 2):
            replaced(running.server, children(running.server.pid)[-1])
            wait_until(running.whole, "it is replaced")
            after = running.told()
            assert after["gatekey_worker_deaths_total",] == deaths
            assert after["gatekey_workers_configured",] == WORKERS
            assert after[START_TIME,] == before[START_TIME,]
        assert before["gatekey_worker_deaths_total",] == 0


def test_one_worker_alone_tells_of_those_before_it(tmp_path: Path) -> None:
    """Its own counters begin at 0 with each; its start is its own. The keys that end soon are counted with the others."""
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (3, 20))
    keys = tmp_path / "keys.jsonl"
    lines = [key_line("key-one"), *(key_line(f"{end:%d}", expires_at=end.isoformat()) for end in (soon, later))]
    keys.write_bytes(b"".join(lines))
    with serving("--import", str(keys)) as server:

        def told() -> dict[tuple[str, ...], float]:
            return numbers(get(server.port, "/metrics").body)

        begun = told()
        assert (begun["gatekey_worker_deaths_total",], begun["gatekey_workers_configured",]) == (0, 1)
        for deaths in (1, 2):
            replaced(server, children(server.pid)[0])
            after = told()
            assert after["gatekey_worker_deaths_total",] == deaths
            assert after[START_TIME,] > begun[START_TIME,]
        wait_until(lambda: told()["gatekey_keys", "active"] == 3, "the keys were counted")
        wait_until(lambda: told()["gatekey_keys_expiring", "30d"] == 2, "and those that end soon")
        assert told()["gatekey_keys_expiring", "7d"] == 1


def test_a_worker_that_is_ended_politely_hands_its_counts_over(tmp_path: Path) -> None:
    """Although nobody scraped after them, no decision is missing when all workers have been replaced."""
    with fleet(tmp_path) as running:
        running.ask(20)
        old = children(running.server.pid)
        for pid in old:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not any(map(is_running, old)) and running.whole(), "all are replaced")
        assert running.decisions() == 20


def test_a_stopped_worker_is_told_with_its_last_numbers(tmp_path: Path) -> None:
    """The scrape goes on without waiting for it, the sums stay, and the number of workers tells; then it is back."""
    with fleet(tmp_path) as running:
        running.ask(20)
        before = running.told()
        stopped = children(running.server.pid)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            wait_until(lambda: running.whole(WORKERS - 1), "it is missed")
            after = running.told()
            assert after["gatekey_decisions_total", "allow", "ok"] == 20
            assert (
                after["gatekey_process_resident_memory_bytes",] > before["gatekey_process_resident_memory_bytes",] * 0.9
            )
        finally:
            os.kill(stopped, signal.SIGCONT)
        wait_until(running.whole, "it is back")
        running.ask(5)
        assert running.decisions() == 25


def test_a_stopped_parent_is_no_scrape_and_holds_no_decision_up(tmp_path: Path) -> None:
    """A part of the numbers would look like a reset of all counters, so a worker says 503 instead."""
    with fleet(tmp_path) as running:
        os.kill(running.server.pid, signal.SIGSTOP)
        try:
            answer = get(running.server.port, "/metrics")
            assert answer.status == 503
            assert b"gatekey_decisions" not in answer.body
            running.ask(5)
        finally:
            os.kill(running.server.pid, signal.SIGCONT)
        wait_until(lambda: status(running.server.port, "/metrics") == 200, "the scrape is back")
        assert running.decisions() == 5


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_on_the_disk(tmp_path: Path, signum: signal.Signals) -> None:
    """Workers and parent talk over sockets that have no name, so neither an end nor a crash leaves a file."""
    places = {name: tmp_path / name for name in ("TMPDIR", "XDG_RUNTIME_DIR", "HOME")}
    for place in places.values():
        place.mkdir()
    env = {**environment(tmp_path / "package", "fine", workers=WORKERS), **{k: str(v) for k, v in places.items()}}
    server = GatekeyServer(env=env)
    try:
        server.wait_ready()
        wait_until(lambda: len(children(server.pid)) == WORKERS, "all workers run")
        wait_until(lambda: status(server.port, "/metrics") == 200, "there is a scrape")
        workers = children(server.pid)
        server.stop(signum)
        wait_until(lambda: not any(map(is_running, workers)), "the workers end with their parent")
    finally:
        server.stop()
    assert [path for place in places.values() for path in place.iterdir()] == []


def test_draining_can_be_watched_to_its_end(tmp_path: Path) -> None:
    """The metrics' own port answers until the workers have stopped."""
    with fleet(tmp_path, GATEKEY_DRAIN="60") as running:
        running.server.send_signal(signal.SIGTERM)
        wait_until(lambda: status(running.server.port, "/readyz") == 503, "it drains")
        running.ask(3)
        assert running.decisions() == 3
        running.server.send_signal(signal.SIGTERM)  # enough of it
        assert running.server.wait() == 0
    assert status(running.admin, "/metrics") == 0


def test_workers_started_by_spawning_are_in_the_scrape_too(tmp_path: Path) -> None:
    """Where processes are spawned instead of forked (macOS, Python 3.14) they get the same sockets."""
    port = free_port()
    program = (
        "import multiprocessing; from service.cli import main\n"
        "if __name__ == '__main__': multiprocessing.set_start_method('spawn'); main(['serve'])"
    )
    settings = {**environment(tmp_path, "fine", workers=WORKERS), "GATEKEY_PORT": str(port), "GATEKEY_DRAIN": "0"}
    server = Process([sys.executable, "-c", program], env={**clean_environment(), **settings})
    try:
        wait_until(lambda: accepts(port) or server.returncode is not None, "the service listens")
        wait_until(lambda: b"gatekey_workers 3.0" in get(port, "/metrics").body, "all workers are in the scrape")
    finally:
        assert server.stop() == 0
