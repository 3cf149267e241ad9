"""The end of the service: first not ready, then what is under way finishes, then exit 0, whatever clients do."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.plugin_store import environment
from tests.support.processes import (
    DEMO,
    HOST,
    KEY,
    at_door,
    children,
    get,
    is_running,
    serving,
    status,
)
from tests.support.raw_http import RawConnection, render
from tests.support.servers import GatekeyServer, accepts, key_line, wait_until

if TYPE_CHECKING:
    from pathlib import Path

FOREVER = "600"  # seconds: a test that waits for this fails
VERIFY = b'{"api_key":"demo-key","secret_token":"demo-secret","domain":"api.example.com"}'
HUNG = {
    "half-sent header": b"GET /livez HTTP/1.1\r\nHo",
    "half-sent body": render("POST", "/v1/keys/verify", [*HOST, *DEMO, ("Content-Length", "999")], b"{"),
    "half-sent body at a door": render("POST", "/auth/forward/default", [*HOST, ("Content-Length", "999")], b"{"),
    "silent": b"",
    "unread answers": render("GET", "/metrics", HOST) * 500,
}


@pytest.fixture(params=["rsgi", "wsgi"])
def interface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_not_ready_comes_first_and_requests_are_still_served(interface: str) -> None:
    """After SIGTERM ``/readyz`` is 503 with the reason, new connections are answered, and a second signal hurries."""
    with serving("--demo", "--interface", interface, env={"GATEKEY_DRAIN": FOREVER}) as server:
        assert status(server.port, "/readyz") == 200
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: status(server.port, "/readyz") == 503, "the service says that it drains")
        assert get(server.port, "/readyz").json()["problems"] == ["draining"]
        assert status(server.port, "/livez") == 200
        assert get(server.port, "/v1/whoami", DEMO).status == 200
        assert at_door(server.port, DEMO).status == 200
        assert server.returncode is None
        assert server.stop(signal.SIGTERM) == 0
    said = [event["event"] for event in server.events if event.get("logger") == "service.server"]
    assert said == ["draining", "stopped"]


def test_draining_ends_by_itself() -> None:
    """The service ends when the time of ``GATEKEY_DRAIN`` is over, without another signal."""
    with serving("--demo", env={"GATEKEY_DRAIN": "0.1"}) as server:
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_ctrl_c_skips_the_draining(interface: str) -> None:
    """SIGINT to the whole process group, as a terminal sends it, ends the service without waiting."""
    with serving("--demo", "--interface", interface, env={"GATEKEY_DRAIN": FOREVER}) as server:
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == 0
    assert "draining" not in [event["event"] for event in server.events]


def test_what_is_under_way_at_a_door_finishes(tmp_path: Path) -> None:
    """A decision that waits for the store when SIGTERM comes gets its answer, and the listener is closed meanwhile."""
    gate, keys = tmp_path / "gate", tmp_path / "keys.jsonl"
    keys.write_bytes(key_line("key-one"))
    env = {
        **environment(tmp_path / "package", "held", workers=1),
        "GATEKEY_TEST_GATE": str(gate),
        "GATEKEY_STORE_TIMEOUT": "60",
        "GATEKEY_SHUTDOWN_TIMEOUT": FOREVER,
    }
    with serving("--import", str(keys), env=env) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(at_door, server.port, KEY)
        wait_until((tmp_path / "gate.asked").exists, "the look-up waits")
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(server.port), "the listener is closed")
        gate.touch()
        assert answer.result(30).status == 200
        assert server.wait() == 0
    assert server.decisions(1, outcome="allow")


def test_a_body_that_comes_in_time_is_still_answered(interface: str) -> None:
    """A request whose second half arrives during the draining is served."""
    request = render("POST", "/v1/keys/verify", [*HOST, *DEMO, ("Content-Length", str(len(VERIFY)))])
    request = request.replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n")
    with serving("--demo", "--interface", interface, env={"GATEKEY_DRAIN": FOREVER}) as server:
        with RawConnection(server.port) as connection:
            connection.send(request + VERIFY[:10])
            server.send_signal(signal.SIGTERM)
            wait_until(lambda: status(server.port, "/readyz") == 503, "the service drains")
            connection.send(VERIFY[10:])
            assert connection.receive().json()["valid"] is True
        assert server.stop() == 0


@pytest.mark.parametrize("client", HUNG)
def test_a_hung_client_holds_up_the_end_only_for_a_bounded_time(interface: str, client: str) -> None:
    """With clients that never go on, the service ends with 0 soon after ``GATEKEY_SHUTDOWN_TIMEOUT``, nothing killed."""
    env = {"GATEKEY_SHUTDOWN_TIMEOUT": "0.5"}
    with (
        serving("--demo", "--interface", interface, env=env) as server,
        socket.socket() as hung,
        RawConnection(server.port) as idle,
    ):
        hung.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hung.connect(("127.0.0.1", server.port))
        hung.settimeout(0)
        if HUNG[client]:
            hung.send(HUNG[client])
        idle.send(render("GET", "/livez", HOST))
        assert idle.receive().status == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert not [line for line in server.lines if "Killing" in line]
    assert server.events[-1]["event"] == "stopped"


def test_a_further_signal_ends_the_waiting_for_a_hung_client() -> None:
    """Whoever presses Ctrl-C again does not wait for ``GATEKEY_SHUTDOWN_TIMEOUT``; the log is complete nevertheless."""
    with serving("--demo", env={"GATEKEY_SHUTDOWN_TIMEOUT": FOREVER}) as server, RawConnection(server.port) as hung:
        hung.send(HUNG["half-sent header"])
        assert at_door(server.port, DEMO).status == 200
        server.send_signal(signal.SIGINT)
        wait_until(lambda: not accepts(server.port), "the listener is closed")
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0
    assert server.decisions(1, outcome="allow")
    assert [event["hurried"] for event in server.events if event["event"] == "shutdown_forced"] == [True]


@pytest.mark.parametrize("moment", ["the parent is there", "a worker is there", "it listens"])
def test_a_signal_during_the_start_ends_the_service(interface: str, moment: str) -> None:
    """SIGTERM is neither lost nor deadly for a half-made worker: the service ends, with 0 once it has its workers."""
    for _ in range(2):
        server = GatekeyServer("--demo", "--interface", interface, env={"GATEKEY_SHUTDOWN_TIMEOUT": FOREVER})
        try:
            if moment == "a worker is there":
                wait_until(lambda: children(server.pid), "a worker is there")  # noqa: B023 - called before the next round
            elif moment == "it listens":
                server.wait_ready()
            server.send_signal(signal.SIGTERM)
            code = server.wait()
        finally:
            server.stop()
        assert code in ((0, -signal.SIGTERM) if moment == "the parent is there" else (0,)), server.lines


def test_workers_end_when_their_parent_is_killed(interface: str) -> None:
    """A parent that is killed leaves no worker behind that would hold the port for ever."""
    server = GatekeyServer("--demo", "--interface", interface)
    try:
        server.wait_ready()
        workers = children(server.pid)
        server.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(is_running(pid) for pid in workers), "the workers have ended")
        assert workers
    finally:
        server.stop()
    assert not accepts(server.port)


def test_nothing_that_was_decided_is_missing_in_the_log() -> None:
    """Requests keep coming while the service ends: every answer that a client got has its line."""
    answered = 0
    lock = threading.Lock()
    with serving("--demo", env={"GATEKEY_DRAIN": FOREVER}) as server, ThreadPoolExecutor(4) as pool:

        def ask() -> None:
            nonlocal answered
            try:
                while at_door(server.port, DEMO).status == 200:
                    with lock:
                        answered += 1
            except OSError:
                pass

        asking = [pool.submit(ask) for _ in range(4)]
        wait_until(lambda: answered > 100, "a hundred requests were answered")
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: status(server.port, "/readyz") == 503, "the service drains")
        assert server.stop() == 0
        for future in asking:
            future.result(30)
    assert len(server.decisions(answered, outcome="allow")) >= answered
