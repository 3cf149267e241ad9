"""The parent's care for its workers: replaced, told of new policies, and given up with one line when hopeless."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from service.worker import collect_briefly
from tests.support.plugin_store import PASSWORD, environment
from tests.support.processes import (
    DEMO,
    KEY,
    at_door,
    children,
    get,
    refused,
    replaced,
    serving,
)
from tests.support.raw_http import RawConnection, render
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
    from pathlib import Path


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_a_killed_worker_is_replaced_and_knows_the_imported_keys(tmp_path: Path, interface: str) -> None:
    """After SIGKILL, again and again, the next worker serves the keys of ``--import`` and ``--demo``."""
    keys = tmp_path / "keys.jsonl"
    keys.write_bytes(key_line("key-one"))
    with serving("--demo", "--import", str(keys), "--interface", interface) as server:
        for _ in range(4):  # each soon after its birth: that alone is no reason to give up
            replaced(server, children(server.pid)[0])
            assert get(server.port, "/readyz").status == 200  # not refused meanwhile
            assert at_door(server.port, KEY).status == 200
            assert get(server.port, "/v1/whoami", DEMO).status == 200
    died = [event for event in server.events if event["event"] == "worker_died"]
    assert [event["exit_code"] for event in died] == [-9] * 4
    assert [event["replaced_in"] for event in died] == [0, 0.5, 1, 2]


def test_a_full_collection_does_not_walk_through_what_survived_the_last_one() -> None:
    """A million cached keys would make each of them a second long; what nobody refers to any more goes nevertheless."""
    before = list(gc.callbacks)
    try:
        collect_briefly()
        collect_briefly()
        assert len(gc.callbacks) == len(before) + 1
        kept = [threading.Event() for _ in range(1_000)]
        gone = weakref.ref(kept[-1])
        gc.collect(1)
        assert any(item is kept for item in gc.get_objects())
        gc.collect()
        assert not any(item is kept for item in gc.get_objects())
        kept.clear()
        assert gone() is None
    finally:
        gc.callbacks[:] = before


def test_a_worker_that_somebody_ends_politely_is_replaced_too() -> None:
    """SIGTERM to a worker alone ends that worker, not the service."""
    with serving("--demo") as server:
        replaced(server, children(server.pid)[0], signal.SIGTERM)
        assert at_door(server.port, DEMO).status == 200


def test_other_workers_serve_while_one_is_replaced(tmp_path: Path) -> None:
    """Two workers of a store that allows them: a connection to the one lives on when the other is killed."""
    keys = tmp_path / "keys.jsonl"
    keys.write_bytes(key_line("key-one"))
    with serving("--import", str(keys), env=environment(tmp_path / "package", "fine")) as server:
        wait_until(lambda: len(children(server.pid)) == 2, "both workers run")
        with RawConnection(server.port) as connection:
            connection.send(render("GET", "/readyz", [("Host", "h")]))
            assert connection.receive().status == 200
            pids = children(server.pid)
            busy = _who_serves(connection, pids)
            (other,) = set(pids) - {busy}
            replaced(server, other)
            connection.send(render("GET", "/livez", [("Host", "h")]))
            assert connection.receive().status == 200
        wait_until(lambda: len(children(server.pid)) == 2, "both workers run again")


def _who_serves(connection: RawConnection, pids: list[int]) -> int:
    """The worker at the other end: the one whose processor time grows while it is asked."""

    def spent(pid: int) -> int:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - short
            fields = stat.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = {pid: spent(pid) for pid in pids}
    while True:
        for _ in range(100):
            connection.send(render("GET", "/livez", [("Host", "h")]))
            assert connection.receive().status == 200
        grown = {pid: spent(pid) - before[pid] for pid in pids}
        busiest = max(grown, key=lambda pid: grown[pid])
        if grown[busiest] > 5 + 2 * min(grown.values()):
            return busiest


@pytest.mark.parametrize(
    ("manner", "told"),
    [
        ("no-url", "LookupError in plugin_store.py"),
        ("no-open", "LookupError in plugin_store.py"),
        ("unavailable", "pluggable: the server refused to open"),
        ("unfit", "pluggable: the schema is too old; run gatekey migrate"),
    ],
)
@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_workers_that_cannot_start_end_the_service_with_one_line(
    tmp_path: Path, interface: str, manner: str, told: str
) -> None:
    """A store that cannot be made or opened is told once, whatever the number of workers, without traceback or secret."""
    code, lines = refused("--interface", interface, env=environment(tmp_path, manner))
    said = [line for line in lines if not line.startswith("{") and "reads X_Api_Key" not in line]
    assert code == 1
    assert len(said) == 1
    assert told in said[0]
    assert PASSWORD not in "".join(lines)


def test_workers_that_serve_are_not_ended_by_one_that_cannot_start(tmp_path: Path) -> None:
    """While the store is away a dead worker cannot be replaced; the other one serves on, and it is tried again."""
    gate = tmp_path / "gate"
    env = {
        **environment(tmp_path / "package", "shut"),
        "GATEKEY_TEST_GATE": str(gate),
        "GATEKEY_LOG_LEVEL": "debug",
    }
    with serving(env=env) as server:
        wait_until(lambda: len(_said(server, "worker_started")) == 2, "both workers serve")
        gate.touch()
        os.kill(children(server.pid)[0], signal.SIGKILL)
        wait_until(lambda: len(_said(server, "worker_not_started")) >= 2, "it was tried in vain more than once")
        assert at_door(server.port, KEY).status == 401
        gate.unlink()
        wait_until(lambda: len(_said(server, "worker_started")) == 3, "the worker is replaced")
    assert {event["reason"] for event in _said(server, "worker_not_started")} == {
        "pluggable: the server refused to open"
    }


def test_a_plug_in_that_cannot_be_imported_is_told_with_one_line(tmp_path: Path) -> None:
    """The line names the package."""
    code, lines = refused(env=environment(tmp_path, "fine", entry_point="no_such_name"))
    said = [line for line in lines if not line.startswith("{")]
    assert (code, len(said)) == (1, 1)
    assert "pluggable-store" in said[0]


def test_several_workers_are_not_for_the_memory_store() -> None:
    """``GATEKEY_WORKERS`` is overruled with a line that says why."""
    with serving("--demo", env={"GATEKEY_WORKERS": "3"}) as server:
        assert len(children(server.pid)) == 1
    assert any("memory://" in line and "one worker" in line for line in server.lines)


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_hangup_reads_the_policies_again_all_or_nothing(tmp_path: Path, interface: str) -> None:
    """A right file counts at once; a wrong one changes nothing and is told; a worker that comes later has the right ones."""
    config = tmp_path / "gatekey.toml"
    config.write_text("")
    env = {"GATEKEY_CONFIG": str(config)}
    with serving("--demo", "--interface", interface, env=env) as server:
        assert at_door(server.port, DEMO, policy="orders").status == 404
        config.write_text("[policy.orders]\nscopes = ['orders:read']\n[policy.admin]\nscopes = ['admin:all']\n")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: at_door(server.port, DEMO, policy="orders").status == 200, "the new policies count")
        assert at_door(server.port, DEMO, policy="admin").status == 403

        config.write_text("[policy.late]\n[policy.orders]\nscopes = 'not a list'\n")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: _said(server, "policies_not_reloaded"), "the mistake is told")
        assert at_door(server.port, DEMO, policy="orders").status == 200
        assert at_door(server.port, DEMO, policy="late").status == 404

        replaced(server, children(server.pid)[0])
        assert at_door(server.port, DEMO, policy="orders").status == 200
    (problem,) = _said(server, "policies_not_reloaded")
    assert "orders" in str(problem["problems"])


def test_a_hangup_during_the_start_is_not_lost(tmp_path: Path) -> None:
    """A worker that is just being made when the policies change serves with the new ones."""
    config = tmp_path / "gatekey.toml"
    config.write_text("")
    server = GatekeyServer("--demo", env={"GATEKEY_CONFIG": str(config)})
    try:
        wait_until(lambda: children(server.pid), "a worker is there")
        config.write_text("[policy.orders]\nscopes = ['orders:read']\n")
        server.send_signal(signal.SIGHUP)
        server.wait_ready()
        wait_until(lambda: at_door(server.port, DEMO, policy="orders").status == 200, "the new policies count")
    finally:
        server.stop()
    assert not _said(server, "worker_died")


def _said(server: GatekeyServer, event: str) -> list[dict[str, object]]:
    return [line for line in server.events if line["event"] == event]


def test_workers_started_by_spawning_serve_as_well() -> None:
    """Where processes are spawned instead of forked (macOS, Python 3.14) everything is handed over all the same."""
    port = free_port()
    program = (
        "import multiprocessing, sys; from service.cli import main\n"
        "if __name__ == '__main__': multiprocessing.set_start_method('spawn'); main(['serve', '--demo'])"
    )
    env = {**clean_environment(), "GATEKEY_PORT": str(port), "GATEKEY_DRAIN": "0"}
    server = Process([sys.executable, "-c", program], env=env)
    server.printed_secrets = ("demo-secret",)
    try:
        wait_until(lambda: accepts(port) or server.returncode is not None, "the service listens")
        assert at_door(port, DEMO).status == 200
        before = [pid for pid in children(server.pid) if _is_worker(pid)]
        os.kill(before[0], signal.SIGKILL)
        assert at_door(port, DEMO).status == 200
    finally:
        code = server.stop()
    assert code == 0


def _is_worker(pid: int) -> bool:
    """Not the tracker of resources that multiprocessing starts too."""
    with open(f"/proc/{pid}/cmdline") as line:  # noqa: PTH123 - short
        return "resource_tracker" not in line.read()
