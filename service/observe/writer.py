"""Lines on their way to standard output: handed over without waiting for a reader, written by one thread, counted when lost.

A log reader that stalls must never stall a decision. Several processes share one pipe, so each write holds whole lines
and at most 4,096 bytes (POSIX keeps writes of up to PIPE_BUF bytes in one piece), and the descriptor stays blocking,
because its mode is shared with every other process that holds it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import threading
import time
import weakref
from collections import deque
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, Final

from service.auth.clock import SystemClock
from service.observe.floods import Floods
from service.observe.lines import MAX_LINE, DecisionLine
from service.observe.text import json_line, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.auth.clock import Clock
    from service.observe.metrics import Metrics

__all__ = ["LineWriter"]

_INTERVAL: Final = 0.025  # seconds between two looks at the queue
_MAX_QUEUED: Final = 8192  # lines, and so at most 32 MiB
_LATE: Final = 0.03  # seconds; a line that waits for longer than this has missed a look at the queue
_GIVE_WAY_EVERY: Final = 16  # lines, some two writes
_GIVE_WAY: Final = 0.02  # of the time for which the oldest line has waited
_MAX_GIVE_WAY: Final = 0.001  # seconds


class _Mark:
    """A place in the queue: ``reached`` is set when all lines before it were written or lost."""

    def __init__(self, *, last: bool = False) -> None:
        self.last = last
        self.reached = threading.Event()


class _Tally:
    """A counter that any thread raises without a lock (one step of the interpreter) and one thread reads."""

    def __init__(self) -> None:
        self._count = itertools.count()
        self._reads = 0

    def add(self) -> None:
        next(self._count)

    def total(self) -> int:
        self._reads += 1
        return next(self._count) - self._reads + 1


class LineWriter:
    """Owns the queue and the writing thread, which starts with the first line of a process (also after a fork).

    ``clock`` defaults to the system's; without ``metrics`` nothing is counted outside the log itself.
    """

    def __init__(
        self,
        fd: int = 1,
        *,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        summarize: bool = True,
        max_queued: int = _MAX_QUEUED,
    ) -> None:
        self.render_notice: Callable[[dict[str, Any]], bytes] = json_line
        """Makes the line of what the log says about itself; replaced for a log that people read."""
        self._fd = fd
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._summarize = summarize
        self._max_queued = max_queued
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        """Start from nothing: a new process has its own identity, and no thread."""
        self.boot_id = os.urandom(8).hex()
        self._queue: deque[bytes | DecisionLine | _Mark] = deque()
        self._refused = _Tally()
        self._lost = 0
        self._told = 0
        self._torn = False
        self._floods = Floods(self._clock) if self._summarize else None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()

    def __len__(self) -> int:
        """Return the number of lines that wait."""
        return len(self._queue)

    def put(self, line: bytes | DecisionLine) -> None:
        """Hand a line over (with its newline, at most ``MAX_LINE`` bytes); lost and counted when the queue is full."""
        waiting = len(self._queue)
        if waiting >= self._max_queued:
            self._refused.add()
            if self._metrics is not None and isinstance(line, DecisionLine):
                self._metrics.log_dropped("queue_full")
            return
        self._queue.append(line)
        if self._thread is None:
            self._start()
        if waiting % _GIVE_WAY_EVERY == _GIVE_WAY_EVERY - 1:
            self._give_way(line)

    def is_flooded(self, network: str, at: float) -> bool:
        """Return whether a refusal of that network goes into a summary: it needs no line, but is handed over all the same."""
        return self._floods is not None and at < self._floods.full.get(network, 0.0)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until what was handed over before is written, summaries of floods that are under way included.

        ``False`` when it was not within ``timeout`` seconds.
        """
        return self._reach(_Mark(), timeout)

    def close(self, timeout: float = 2.0) -> bool:
        """Flush and end the thread; idempotent.

        A line that comes later starts the thread again, so that nothing said during a shutdown is lost.
        """
        return self._reach(_Mark(last=True), timeout)

    def _give_way(self, latest: bytes | DecisionLine) -> None:
        """Let the writing thread have the interpreter for a moment, where it has fallen behind.

        A thread that does nothing but decide holds on to it, and the writer, which gives it away with every write, would get
        it back once in 5 ms: too seldom from 1,400 lines a second on. The one wait on a decision's way: at most one nap in
        16 lines, never on an event loop, which waits often enough, and not where half of the queue is full, because then
        it is the reader who is slow.
        """
        if len(self._queue) > self._max_queued // 2:
            return
        try:
            first = self._queue[0]
        except IndexError:  # just written
            return
        if not isinstance(first, DecisionLine) or not isinstance(latest, DecisionLine):
            return
        late = latest.at - first.at
        if late > _LATE:
            try:
                asyncio.get_running_loop()
            except RuntimeError:  # there is none in this thread
                time.sleep(min(late * _GIVE_WAY, _MAX_GIVE_WAY))

    def _reach(self, mark: _Mark, timeout: float) -> bool:
        thread = self._thread
        if thread is None:  # then nothing waits either
            return True
        self._queue.append(mark)
        if self._thread is None:  # it has ended since
            self._start()
        self._wake.set()
        return mark.reached.wait(timeout)

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            _close_at_exit()
            self._thread = threading.Thread(target=self._run, name="gatekey-log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread is to be had now; the next line tries again, and this one waits
                self._thread = None

    def _ends(self) -> bool:
        """Leave, unless a line came in the meantime; whoever comes afterwards finds no thread and starts one."""
        with self._starting:
            self._thread = None
            if self._queue:
                self._thread = threading.current_thread()
                return False
            return True

    def _run(self) -> None:
        while True:
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            try:
                if self._turn():
                    return
            except Exception:  # noqa: BLE001 - a defect here may cost lines, which are told, but never the log
                self._lost += 1

    def _turn(self) -> bool:
        """Write what waits; ``True`` when that was the last of it and the thread ends."""
        marks = self._write_queue()
        last = any(mark.last for mark in marks)
        if self._floods is not None:
            for summary in self._floods.due(everything=bool(marks)):
                self._lost += not self._write(self._notice(summary))
        self._tell_lost()
        ended = last and self._ends()
        for mark in marks:
            mark.reached.set()
        return ended

    def _write_queue(self) -> list[_Mark]:
        """Write the lines that wait now, in batches of whole lines."""
        marks: list[_Mark] = []
        batch: list[bytes] = []
        size = decisions = summarized = 0
        for _ in range(len(self._queue)):
            item = self._queue.popleft()
            if isinstance(item, _Mark):
                marks.append(item)
                continue
            if isinstance(item, DecisionLine):
                if self._floods is not None and self._floods.swallows(item):
                    summarized += 1
                    continue
                line, is_decision = item.line, 1
            else:
                line, is_decision = item, 0
            if size + len(line) > MAX_LINE:
                self._write_batch(batch, decisions)
                batch, size, decisions = [], 0, 0
            batch.append(line)
            size += len(line)
            decisions += is_decision
        if batch:
            self._write_batch(batch, decisions)
        if summarized and self._metrics is not None:
            self._metrics.log_summarized(summarized)
        return marks

    def _write_batch(self, batch: list[bytes], decisions: int) -> None:
        written = self._write(b"".join(batch))
        if not written:
            self._lost += len(batch)
        if decisions and self._metrics is not None:
            if written:
                self._metrics.log_lines(decisions)
            else:
                self._metrics.log_dropped("write_error", decisions)

    def _write(self, data: bytes) -> bool:
        """Write all of it, however long that takes; ``False`` when the reader is gone or the disk is full."""
        rest = memoryview(data)
        try:
            if self._torn:
                os.write(self._fd, b"\n")  # what follows is a line of its own again
                self._torn = False
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError:
            self._torn = self._torn or 0 < len(rest) < len(data)
            return False
        return True

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # somebody else made the shared descriptor non-blocking
            waiter = select.poll()
            waiter.register(self._fd, select.POLLOUT)
            waiter.poll(_INTERVAL * 1000)
            return 0

    def _tell_lost(self) -> None:
        count = self._refused.total() + self._lost - self._told
        if count and self._write(self._notice({"event": "log.lines_dropped", "count": count})):
            self._told += count

    def _notice(self, event: dict[str, Any]) -> bytes:
        head = {"timestamp": timestamp(self._clock.wall()), "level": "warning", "boot_id": self.boot_id}
        return self.render_notice({**head, **event})


_alive: weakref.WeakSet[LineWriter] = weakref.WeakSet()
_closing_in = 0  # the process whose end closes its writers


def _reset_children() -> None:
    """Begin anew: a child has the parent's queue but not its thread, and the parent writes those lines."""
    for writer in list(_alive):
        writer._begin()  # noqa: SLF001 - same module


def _close_at_exit() -> None:
    """Close all writers when this process ends.

    Not by ``atexit``: a worker made by ``multiprocessing`` ends without it, and its last lines say why it ended.
    """
    global _closing_in  # noqa: PLW0603 - one registration for each process
    if _closing_in != os.getpid():
        _closing_in = os.getpid()
        Finalize(None, _close_all, exitpriority=0)


def _close_all() -> None:
    for writer in list(_alive):
        writer.close()


os.register_at_fork(after_in_child=_reset_children)
