"""The log of a real service whose reader stalls, whose clients flood it, and whose end comes at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import leaks
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import (
    DEADLINE,
    ROOT,
    GatekeyServer,
    accepts,
    clean_environment,
    free_port,
    key_line,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BATCH = 100
MANY = 12_000  # more lines than a full pipe and the service's queue can hold


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys.jsonl"
    file.write_bytes(key_line("key-one") + key_line("key-expired", expires_at="2020-01-01T00:00:00Z"))
    return file


def ask_door(
    port: int, count: int, *, api_key: str = "key-one", client_ip: str = "203.0.113.9", path: str = "/v1/orders"
) -> dict[int, int]:
    """Ask the forward door ``count`` times over one connection; returns the number of answers by status."""
    fields = {
        "Host": f"127.0.0.1:{port}",
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": DOMAIN,
        "X-Forwarded-Uri": path,
        "X-Forwarded-For": client_ip,
        "x-api-key": api_key,
        "x-secret-token": SECRET,
        "User-Agent": "under-fire/1.0",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    question = f"GET /auth/forward/default HTTP/1.1\r\n{head}\r\n".encode()
    answers: dict[int, int] = {}
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        for done in range(0, count, BATCH):
            now = min(BATCH, count - done)
            connection.sendall(question * now)
            data = b""
            while len(found := re.findall(rb"HTTP/1\.1 (\d{3})", data)) < now or not _complete(data, now):
                piece = connection.recv(65536)
                assert piece, "the service has closed the connection"
                data += piece
            for status in found:
                answers[int(status)] = answers.get(int(status), 0) + 1
    return answers


def _complete(data: bytes, count: int) -> bool:
    """Whether all of the answers have arrived with their bodies."""
    for _ in range(count):
        head, separator, data = data.partition(b"\r\n\r\n")
        if not separator:
            return False
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        size = 0 if length is None else int(length[1])
        if len(data) < size:
            return False
        data = data[size:]
    return True


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE) as response:
        text = response.read().decode()
    leaks.check(text, "the metrics of the service")
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    }


def checked_events(lines: list[bytes]) -> list[dict[str, Any]]:
    """The log's events; every line must be whole, short enough, and numbered in order."""
    leaks.check(b"\n".join(lines).decode(), "the log of the service")
    events = []
    last: dict[str, int] = {}
    for line in lines:
        if line.startswith((b"Gatekey listens on", b"gatekey: ")):  # for people, mostly on standard error
            continue
        assert len(line) < 4096
        event = json.loads(line)
        if event["event"] == "auth.decision":
            assert event["seq"] > last.get(event["boot_id"], 0)
            last[event["boot_id"]] = event["seq"]
        events.append(event)
    return events


def of(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


class StalledLog:
    """A service whose output nobody reads until ``read`` is called."""

    def __init__(self, keys: Path) -> None:
        self.port = free_port()
        self._read_fd, write_fd = os.pipe()
        environ = {**clean_environment(), "GATEKEY_PORT": str(self.port), "GATEKEY_DRAIN": "0"}
        command = [sys.executable, "-m", "service", "serve", "--import", str(keys)]
        self.process = subprocess.Popen(
            command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=write_fd, stderr=write_fd
        )
        os.close(write_fd)
        self._data = b""
        self._reader: threading.Thread | None = None

    def read(self) -> None:
        """From now on read as fast as it comes, until the service has ended."""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while piece := os.read(self._read_fd, 65536):
            self._data += piece

    @property
    def lines(self) -> list[bytes]:
        """The whole lines so far."""
        return self._data.rpartition(b"\n")[0].splitlines()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        if self._reader is None:
            self.read()
        assert self._reader is not None
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        os.close(self._read_fd)
        return code


@pytest.fixture
def stalled(keys: Path) -> Iterator[StalledLog]:
    log = StalledLog(keys)
    try:
        wait_until(lambda: accepts(log.port), "the service listens")
        yield log
    finally:
        if log.process.poll() is None:
            log.process.kill()
        log.process.wait(DEADLINE)


def test_a_log_that_nobody_reads_delays_no_answer_and_the_loss_is_said(stalled: StalledLog) -> None:
    """All requests are answered, then reading goes on: whole lines, and what is missing is counted to the last one."""
    assert ask_door(stalled.port, MANY) == {200: MANY}
    before = metrics(stalled.port)
    assert before['gatekey_decisions_total{outcome="allow",reason="ok"}'] == MANY
    dropped = before['gatekey_decision_log_dropped_total{reason="queue_full"}']
    assert 0 < dropped < MANY
    assert before["gatekey_decision_log_queue_length"] > 1000

    stalled.read()
    wait_until(lambda: any(b"log.lines_dropped" in line for line in stalled.lines), "the loss is said")
    wait_until(lambda: metrics(stalled.port)["gatekey_decision_log_queue_length"] == 0, "nothing waits any more")
    assert ask_door(stalled.port, 1) == {200: 1}
    wait_until(
        lambda: any(b'"seq":%d,' % (MANY + 1) in line for line in stalled.lines[-5:]), "the latest line is there"
    )
    written = MANY + 1 - dropped
    wait_until(lambda: metrics(stalled.port)["gatekey_decision_log_lines_total"] >= written, "it is counted")
    after = metrics(stalled.port)
    assert stalled.stop() == 0

    events = checked_events(stalled.lines)
    decisions = of(events, "auth.decision")
    said = sum(event["count"] for event in of(events, "log.lines_dropped"))
    assert len(decisions) + said == MANY + 1
    assert after['gatekey_decision_log_dropped_total{reason="queue_full"}'] == said == dropped
    assert after["gatekey_decision_log_lines_total"] == len(decisions)
    assert after['gatekey_decisions_total{outcome="allow",reason="ok"}'] == MANY + 1


def test_a_service_ends_in_time_although_nobody_reads_its_log(stalled: StalledLog) -> None:
    """A stalled reader must not keep the process alive either."""
    assert ask_door(stalled.port, 1000) == {200: 1000}
    stalled.process.send_signal(signal.SIGTERM)
    assert stalled.process.wait(DEADLINE) == 0
    assert stalled.stop() == 0
    assert checked_events(stalled.lines)


class Server(GatekeyServer):
    """``GatekeyServer`` with the raw lines of its log."""

    @property
    def raw_lines(self) -> list[bytes]:
        return [line.encode() for line in self.lines]


@pytest.fixture
def server(keys: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    started = Server("--import", str(keys), env=getattr(request, "param", {}))
    try:
        started.wait_ready()
        yield started
    finally:
        if started.returncode is None:
            started.stop()


def test_a_flood_from_one_network_is_summarised_and_nothing_else_is(server: Server) -> None:
    """A hundred lines, then one; other clients and known keys keep their lines, and every decision is counted."""
    assert ask_door(server.port, 300, api_key="no-such-key") == {401: 300}
    assert ask_door(server.port, 20, api_key="no-such-key", client_ip="203.0.113.10") == {401: 20}
    assert ask_door(server.port, 150, api_key="key-expired") == {401: 150}
    assert ask_door(server.port, 150) == {200: 150}
    counts = metrics(server.port)
    assert server.stop() == 0

    events = checked_events(server.raw_lines)
    decisions = of(events, "auth.decision")
    assert len([event for event in decisions if event["reason"] == "unknown_key"]) == 120
    assert len([event for event in decisions if event["reason"] == "expired"]) == 150
    assert len([event for event in decisions if event["reason"] == "ok"]) == 150
    summaries = of(events, "auth.decisions_summarized")
    assert {summary["client_network"] for summary in summaries} == {"203.0.113.9"}
    assert sum(summary["count"] for summary in summaries) == 200
    assert sum(summary["reasons"]["unknown_key"] for summary in summaries) == 200
    assert (summaries[0]["first_seq"], summaries[-1]["last_seq"]) == (101, 300)
    assert counts['gatekey_decisions_total{outcome="deny",reason="unknown_key"}'] == 320
    assert counts['gatekey_decisions_total{outcome="deny",reason="expired"}'] == 150
    assert counts['gatekey_decisions_total{outcome="allow",reason="ok"}'] == 150


def test_sigterm_writes_the_last_lines(server: Server) -> None:
    """What was decided before the signal is in the log, all of it."""
    assert ask_door(server.port, 2000) == {200: 2000}
    assert server.stop() == 0
    events = checked_events(server.raw_lines)
    assert [event["seq"] for event in of(events, "auth.decision")] == list(range(1, 2001))


@pytest.mark.parametrize("server", [{"GATEKEY_LOG_LEVEL": "error"}], indirect=True)
def test_the_log_level_silences_the_service_and_not_its_decisions(server: Server) -> None:
    """A decision is a record; only the service's own words have a level to filter."""
    assert ask_door(server.port, 3) == {200: 3}
    assert ask_door(server.port, 2, api_key="key-expired") == {401: 2}
    assert server.stop() == 0
    events = checked_events(server.raw_lines)
    assert [event["level"] for event in of(events, "auth.decision")] == ["info"] * 3 + ["warning"] * 2
    assert {event["event"] for event in events} == {"auth.decision"}


def test_hostile_requests_make_whole_lines(server: Server) -> None:
    """What a client writes into its headers breaks no line of the log."""
    for path in ("/" + "a" * 5000, "/\x7f", '/"\\{}', "/%0d%0aevil", "/\t", "//", "/?" + "b" * 3000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as connection:
            head = (
                f"X-Forwarded-Method: {path[:3000]}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: {DOMAIN}\r\n"
                f"X-Forwarded-Uri: {path}\r\nX-Forwarded-For: 203.0.113.9\r\nUser-Agent: {path}\r\n"
                f"X-Request-Id: {path[:200]}\r\nx-api-key: {path[:200]}\r\nx-secret-token: {SECRET}\r\n"
            )
            connection.sendall(
                f"BREW /auth/forward/default HTTP/1.1\r\nHost: x\r\n{head}Connection: close\r\n\r\n".encode()
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 4")
    assert ask_door(server.port, 1) == {200: 1}
    assert server.stop() == 0
    events = checked_events(server.raw_lines)
    assert of(events, "auth.decision")[-1]["reason"] == "ok"
    assert len(of(events, "auth.decision")) >= 6
