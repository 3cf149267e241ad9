"""Lines on their way out: nobody waits for a slow reader, nothing is torn, and what is lost is counted and said."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from service.auth.reasons import Reason
from service.observe.lines import MAX_LINE, DecisionLine
from service.observe.metrics import Metrics
from service.observe.writer import LineWriter
from tests.support.servers import DEADLINE, ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Pipe:
    """A pipe whose reading end is read only when a test says so."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self._data = b""

    def read_until(self, condition: Callable[[list[bytes]], object]) -> list[bytes]:
        """Read until the lines so far fulfil the condition; returns them."""
        until = time.monotonic() + DEADLINE
        while not condition(self._data.splitlines()):
            ready, _, _ = select.select([self.read_fd], [], [], max(0.0, until - time.monotonic()))
            assert ready, "gave up waiting for the lines"
            self._data += os.read(self.read_fd, 65536)
        return self._data.splitlines()

    def read_all(self) -> list[bytes]:
        """Close the writing end and read what is left; returns all lines."""
        os.close(self.write_fd)
        while piece := os.read(self.read_fd, 65536):
            self._data += piece
        return self._data.splitlines()

    def fill(self) -> int:
        """Fill it with spaces, so that the next write blocks; returns their number."""
        os.set_blocking(self.write_fd, False)
        count = 0
        with suppress(BlockingIOError):
            while True:
                count += os.write(self.write_fd, b" " * 4096)
        with suppress(BlockingIOError):
            while True:
                count += os.write(self.write_fd, b" ")
        os.set_blocking(self.write_fd, True)
        return count

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_metrics() -> Metrics:
    return Metrics(store="memory", version="1")


class Counted:
    """How far the log's series moved since it was made."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._start = self._now()

    def _now(self) -> dict[str, float]:
        value = self.metrics.registry.get_sample_value
        found = {
            reason: value("gatekey_decision_log_dropped_total", {"reason": reason})
            for reason in ("queue_full", "write_error", "encode_error")
        }
        found["lines"] = value("gatekey_decision_log_lines_total")
        return {name: count or 0.0 for name, count in found.items()}

    @property
    def moved(self) -> dict[str, float]:
        return {name: count - self._start[name] for name, count in self._now().items() if count != self._start[name]}


@pytest.fixture
def counted(shared_metrics: Metrics) -> Counted:
    return Counted(shared_metrics)


def decision_line(seq: int, size: int = 300, *, at: float = 0.0) -> DecisionLine:
    head = b'{"event":"auth.decision","seq":%d,"text":"' % seq
    return DecisionLine(head + b"x" * (size - len(head) - 3) + b'"}\n', None, Reason.OK, seq, at)


def numbers(lines: list[bytes]) -> list[int]:
    return [event["seq"] for line in lines if (event := json.loads(line))["event"] == "auth.decision"]


def ending_with(line: bytes) -> Callable[[list[bytes]], bool]:
    return lambda lines: lines[-1:] == [line]


def lost(lines: list[bytes]) -> int:
    return sum(event["count"] for line in lines if (event := json.loads(line))["event"] == "log.lines_dropped")


def test_lines_come_out_in_order_and_are_counted(pipe: Pipe, counted: Counted) -> None:
    """What was handed over is written, once."""
    writer = LineWriter(pipe.write_fd, metrics=counted.metrics)
    for seq in range(500):
        writer.put(decision_line(seq))
    lines = pipe.read_until(lambda found: len(found) >= 500)
    assert writer.close()
    assert numbers(lines) == list(range(500))
    assert counted.moved == {"lines": 500}


def test_a_write_holds_whole_lines_and_at_most_4096_bytes() -> None:
    """POSIX keeps such writes in one piece when several processes share a pipe."""
    reader, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # keeps the writes apart
    with reader, sender:
        reader.settimeout(DEADLINE)
        writer = LineWriter(sender.fileno())
        sizes = [50, 4096, 100, 3996, 3000, 1096, 1, 4095, 2048, 2048, 2049, *range(40, 1040)]
        for size in sizes:
            writer.put(b"x" * (size - 1) + b"\n")
        writes: list[bytes] = []
        while sum(map(len, writes)) < sum(sizes):
            writes.append(reader.recv(65536))
        assert writer.close()
    assert all(len(data) <= MAX_LINE and data.endswith(b"\n") for data in writes)
    assert [len(line) for data in writes for line in data.splitlines(keepends=True)] == sizes
    assert len(writes) < len(sizes)


class Waits(threading.Event):
    """Notes for how long it is waited for, and when that is over."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.limits.append(timeout)
        return super().wait(timeout)


def test_a_line_waits_at_most_100_ms_for_its_writer(pipe: Pipe) -> None:
    """The writer looks at its queue at least as often, though nobody wakes it; counted, since a machine may be slow."""
    writer = LineWriter(pipe.write_fd)
    writer._wake = waits = Waits()
    for number in range(3):
        writer.put(b"%d\n" % number)
        pipe.read_until(ending_with(b"%d" % number))
    assert writer.close()
    assert len(waits.limits) >= 3
    assert all(limit is not None and limit <= 0.1 for limit in waits.limits)


def test_a_stalled_reader_never_makes_a_decision_wait_and_the_loss_is_said(pipe: Pipe, counted: Counted) -> None:
    """The queue is bounded, further lines are counted as lost, and the log says so as soon as it is read again."""
    writer = LineWriter(pipe.write_fd, metrics=counted.metrics, max_queued=50)
    total = 1000
    for seq in range(total):
        writer.put(decision_line(seq, size=1000))  # returns at once although nobody reads, or this test never ends
        assert len(writer) <= 50
    assert counted.moved["queue_full"] > 0
    pipe.read_until(lambda found: any(b"log.lines_dropped" in line for line in found))
    assert writer.close()
    lines = pipe.read_all()
    got = numbers(lines)
    assert got == sorted(set(got))
    assert len(got) < total
    assert len(got) + lost(lines) == total
    assert counted.moved == {"lines": len(got), "queue_full": total - len(got)}


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds for which whoever hands lines over has slept; nothing is written meanwhile."""
    taken: list[float] = []
    monkeypatch.setattr("service.observe.writer.time", SimpleNamespace(sleep=taken.append))
    monkeypatch.setattr(LineWriter, "_start", lambda _: None)
    return taken


def put_48(writer: LineWriter, *, seconds: float) -> None:
    """Three times as many lines as are looked at together; all but the first come later by so much."""
    for seq in range(48):
        writer.put(decision_line(seq, at=seconds if seq else 0.0))


def test_a_thread_that_outruns_the_writer_gives_way_to_it(pipe: Pipe, naps: list[float]) -> None:
    """The interpreter is one thread's at a time, and whoever only decides would keep it from the one that writes."""
    put_48(LineWriter(pipe.write_fd), seconds=0.04)
    assert len(naps) == 3
    assert 0 < max(naps) < 0.001


def test_the_later_the_writer_the_longer_it_is_given_way_to_but_never_over_1_ms(pipe: Pipe, naps: list[float]) -> None:
    """So that its lines are in time where cores are scarce, and a decision hardly waits where the reader is slow."""
    for seconds in (0.04, 0.045, 60.0):
        put_48(LineWriter(pipe.write_fd), seconds=seconds)
    assert naps[0] < naps[3] < naps[6] <= 0.001


def test_nobody_gives_way_to_a_writer_that_keeps_up(pipe: Pipe, naps: list[float]) -> None:
    """It looks at its queue every 25 ms, so what is younger is not late."""
    put_48(LineWriter(pipe.write_fd), seconds=0.025)
    assert naps == []


async def test_an_event_loop_never_gives_way(pipe: Pipe, naps: list[float]) -> None:
    """Everybody's requests would wait; and it waits for its sockets all the time, which lets the writer on."""
    put_48(LineWriter(pipe.write_fd), seconds=0.1)
    assert naps == []


def test_nobody_gives_way_to_a_reader(pipe: Pipe, naps: list[float]) -> None:
    """One that stalls makes the writer late for ever; it is told by the queue, whose first half is for all others."""
    put_48(LineWriter(pipe.write_fd, max_queued=48), seconds=0.1)
    assert len(naps) == 1


def test_each_loss_is_said_once(pipe: Pipe, counted: Counted) -> None:
    """The numbers in the log add up, and nothing is said while nothing is lost."""
    writer = LineWriter(pipe.write_fd, metrics=counted.metrics, max_queued=10)
    filled = pipe.fill()
    for seq in range(30):
        writer.put(decision_line(seq))
    assert os.read(pipe.read_fd, filled) == b" " * filled
    pipe.read_until(lambda found: any(b"log.lines_dropped" in line for line in found))
    writer.put(decision_line(30))
    pipe.read_until(lambda found: b'"seq":30,' in found[-1])
    assert writer.close()
    lines = pipe.read_all()
    assert len(numbers(lines)) + lost(lines) == 31
    assert len([line for line in lines if b"lines_dropped" in line]) == 1


def test_lines_of_the_service_itself_are_no_decisions(pipe: Pipe, counted: Counted) -> None:
    """They are written and missed in the same way, but the decisions' series count decisions only."""
    writer = LineWriter(pipe.write_fd, metrics=counted.metrics, max_queued=1)
    filled = pipe.fill()
    for _ in range(20):
        writer.put(b'{"event":"said"}\n')
    os.read(pipe.read_fd, filled)
    lines = pipe.read_until(lambda found: found and b"lines_dropped" in found[-1])
    assert writer.close()
    assert len(lines) - 1 + lost(lines) == 20
    assert counted.moved == {}


def test_a_reader_that_is_gone_costs_lines_and_nothing_else(pipe: Pipe, counted: Counted, tmp_path: Path) -> None:
    """A closed pipe is counted; when the log can be written again, it says how much is missing."""
    writer = LineWriter(pipe.write_fd, metrics=counted.metrics)
    os.close(pipe.read_fd)
    for seq in range(5):
        writer.put(decision_line(seq))
    assert writer.flush()
    assert counted.moved == {"write_error": 5}
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), pipe.write_fd)
    writer.put(decision_line(5))
    assert writer.close()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert numbers(lines) == [5]
    assert lost(lines) == 5
    assert counted.moved == {"write_error": 5, "lines": 1}


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe, counted: Counted) -> None:
    """The mode is shared with every process that has the same standard output."""
    os.set_blocking(pipe.write_fd, False)
    writer = LineWriter(pipe.write_fd, metrics=counted.metrics)
    for seq in range(500):
        writer.put(decision_line(seq, size=1000))
    wait_until(lambda: _full(pipe.write_fd), "the pipe is full")
    lines = pipe.read_until(lambda found: len(found) >= 500)
    assert writer.close()
    assert numbers(lines) == list(range(500))
    assert counted.moved == {"lines": 500}


def _full(fd: int) -> bool:
    return not select.select([], [fd], [], 0)[1]


def test_the_descriptor_stays_as_it_was(pipe: Pipe) -> None:
    """Its flags belong to everybody who shares it."""
    before = fcntl.fcntl(pipe.write_fd, fcntl.F_GETFL)
    writer = LineWriter(pipe.write_fd)
    writer.put(b"{}\n")
    assert writer.close()
    assert fcntl.fcntl(pipe.write_fd, fcntl.F_GETFL) == before


def test_flush_tells_whether_all_is_written(pipe: Pipe) -> None:
    """It waits no longer than it is told to."""
    writer = LineWriter(pipe.write_fd)
    assert writer.flush()
    filled = pipe.fill()
    writer.put(b"{}\n")
    assert not writer.flush(timeout=0.01)
    assert not writer.close(timeout=0.01)
    os.read(pipe.read_fd, filled)
    assert writer.flush()
    assert writer.close()
    assert pipe.read_until(len) == [b"{}"]


def test_a_closed_writer_begins_again_with_the_next_line(pipe: Pipe) -> None:
    """What is said during a shutdown is not lost, and closing twice is closing once."""
    writer = LineWriter(pipe.write_fd)
    before = set(threading.enumerate())
    assert writer.close()
    for number in range(3):
        writer.put(b"%d\n" % number)
        assert writer.close()
        assert writer.close()
    assert pipe.read_until(lambda found: len(found) >= 3) == [b"0", b"1", b"2"]
    wait_until(lambda: not set(threading.enumerate()) - before, "the writing thread has ended")


def test_many_threads_lose_nothing(pipe: Pipe) -> None:
    """Each line comes out exactly once, whoever handed it over and however often the writer was closed meanwhile."""
    writer = LineWriter(pipe.write_fd)

    def put_from(first: int) -> None:
        for number in range(first, first + 500):
            writer.put(b"%d\n" % number)

    threads = [threading.Thread(target=put_from, args=(first,)) for first in range(0, 4000, 500)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        writer.close()
    lines = pipe.read_until(lambda found: len(found) >= 4000)
    for thread in threads:
        thread.join()
    assert writer.close()
    assert sorted(map(int, lines)) == list(range(4000))


def test_a_process_without_a_free_thread_keeps_its_lines(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing a line over never raises; the next line tries again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    writer = LineWriter(pipe.write_fd)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        writer.put(b"1\n")
    writer.put(b"2\n")
    assert writer.close()
    assert pipe.read_until(lambda found: len(found) >= 2) == [b"1", b"2"]


def run(tmp_path: Path, script: str) -> list[bytes]:
    """The lines that a script prints in a process of its own, which must end well."""
    path = tmp_path / "script.py"
    path.write_text(script)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(path)], env=environ, capture_output=True, timeout=DEADLINE, check=True)
    assert done.stderr == b""
    return done.stdout.splitlines()


def test_lines_are_written_before_the_process_ends(tmp_path: Path) -> None:
    """Nobody need remember to close the log."""
    script = """
from service.observe.writer import LineWriter
writer = LineWriter(1)
for number in range(100):
    writer.put(b"%d\\n" % number)
"""
    assert run(tmp_path, script) == [b"%d" % number for number in range(100)]


CRASHES = {
    "an exception": "raise RuntimeError('a defect')",
    "an exception in the middle of another": "try:\n    1 / 0\nfinally:\n    raise KeyError",
    "an exit": "sys.exit(70)",
    "an interrupt": "os.kill(os.getpid(), signal.SIGINT); threading.Event().wait()",
    "a thread that fails": "t = threading.Thread(target=int, args=('x',)); t.start(); t.join(); sys.exit(1)",
    "no memory": "raise MemoryError",
}


@pytest.mark.parametrize("crash", CRASHES.values(), ids=[name.replace(" ", "-") for name in CRASHES])
def test_a_crash_that_the_interpreter_survives_costs_no_line(tmp_path: Path, crash: str) -> None:
    """What was decided before it is in the log."""
    path = tmp_path / "script.py"
    head = "import os, signal, sys, threading\nfrom service.observe.writer import LineWriter\nwriter = LineWriter(1)\n"
    lines = "for number in range(100):\n    writer.put(b'%d\\n' % number)\n"
    path.write_text(f"{head}{lines}{crash}\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(path)], env=environ, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode != 0
    assert done.stdout.splitlines() == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_process_writes_its_last_line(tmp_path: Path, method: str) -> None:
    """``multiprocessing`` ends its workers without ``atexit``, and the last line says why a worker ended."""
    script = f"""
import multiprocessing, sys
from service.observe.writer import LineWriter

def work():
    writer = LineWriter(1)
    writer.put(b"last words\\n")
    sys.exit(3)

if __name__ == "__main__":
    worker = multiprocessing.get_context({method!r}).Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 3
"""
    assert run(tmp_path, script) == [b"last words"]


def test_a_forked_child_has_an_identity_and_a_thread_of_its_own(tmp_path: Path) -> None:
    """Lines that the parent had queued are written once, by the parent."""
    script = """
import os
from service.observe.writer import LineWriter
writer = LineWriter(1)
for number in range(50):
    writer.put(b"parent %d\\n" % number)
parent = writer.boot_id
pid = os.fork()
if pid == 0:
    assert writer.boot_id != parent
    assert len(writer) == 0
    writer.put(b"child\\n")
    assert writer.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
writer.put(b"parent last\\n")
"""
    lines = run(tmp_path, script)
    assert sorted(lines) == sorted([*(b"parent %d" % number for number in range(50)), b"child", b"parent last"])


def test_processes_that_share_a_pipe_never_tear_a_line(tmp_path: Path) -> None:
    """Three workers write long lines into one pipe at the same time; every line arrives whole, and once."""
    script = """
import os
from service.observe.writer import LineWriter
children = []
for name in b"abc":
    pid = os.fork()
    if pid == 0:
        writer = LineWriter(1, max_queued=10_000)
        for number in range(3000):
            writer.put(bytes([name]) * (100 + number % 1900) + b" %d\\n" % number)
        assert writer.close(timeout=25)
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
"""
    found = [line.split() for line in run(tmp_path, script)]
    expected = [[bytes([name]) * (100 + number % 1900), b"%d" % number] for name in b"abc" for number in range(3000)]
    assert sorted(found) == sorted(expected)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on file sizes that ends a write half-way")
def test_after_a_torn_line_the_next_one_is_a_line_again(tmp_path: Path) -> None:
    """A full disk may cut a line; what follows when there is room begins on a line of its own."""
    script = f"""
import os, resource
from service.observe.writer import LineWriter
fd = os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
writer = LineWriter(fd)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
writer.put(b"a" * 99 + b"\\n")
assert writer.flush()
writer.put(b"b" * 99 + b"\\n")
assert writer.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
writer.put(b"c" * 99 + b"\\n")
"""
    assert run(tmp_path, script) == []
    first, torn, *rest = (tmp_path / "log").read_bytes().splitlines()
    assert first == b"a" * 99
    assert torn == b"b" * 50
    assert b"c" * 99 in rest
    assert lost([line for line in rest if line.startswith(b"{")]) == 1


def test_a_defect_in_the_writing_costs_lines_and_never_the_log(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread goes on, and says that something was lost."""
    defects = [LookupError("a defect"), LookupError("another")]
    writer = LineWriter(pipe.write_fd)
    real = writer._write_queue

    def failing() -> list[Any]:
        if defects:
            raise defects.pop()
        return real()

    monkeypatch.setattr(writer, "_write_queue", failing)
    writer.put(b'{"event":"after"}\n')
    assert writer.close(DEADLINE)
    events = [json.loads(line) for line in pipe.read_all()]
    assert {"event": "after"} in events
    assert [event["count"] for event in events if event["event"] == "log.lines_dropped"] == [2]
