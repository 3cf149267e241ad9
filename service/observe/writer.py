"""Lines on their way to standard output: handed over without waiting, written by one thread, bounded, and counted when lost.

A log reader that stalls must never stall a decision. Several processes share one pipe, so each write holds whole lines
and at most 4,096 bytes (POSIX keeps writes of up to PIPE_BUF bytes in one piece), and the descriptor stays blocking,
because its mode is shared with every other process that holds it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from service.observe.floods import Floods

if TYPE_CHECKING:
    from service.auth.clock import Clock
    from service.auth.reasons import Reason
    from service.observe.metrics import Metrics

__all__ = ["MAX_LINE", "DecisionLine", "LineWriter"]

MAX_LINE: Final = 4096  # bytes, newline included
_INTERVAL: Final = 0.05  # seconds between two looks at the queue
_MAX_QUEUED: Final = 8192  # lines


class DecisionLine(NamedTuple):
    """A rendered decision; ``network`` is set for refusals that a flood can cause, ``at`` is ``Clock.age``."""

    line: bytes
    network: str | None
    reason: Reason
    seq: int
    at: float


class LineWriter:
    """Owns the queue and the writing thread, which starts with the first line of a process (also after a fork)."""

    def __init__(
        self, fd: int = 1, *, metrics: Metrics | None = None, clock: Clock | None = None, summarize: bool = True
    ) -> None:
        self._fd = fd
        self._metrics = metrics
        self._queue: deque[bytes | DecisionLine] = deque()
        self._dropped = 0
        self._floods = Floods(clock) if summarize and clock is not None else None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._closed = False
        _alive.add(self)

    def __len__(self) -> int:
        """Lines that wait."""
        return len(self._queue)

    def put(self, line: bytes | DecisionLine) -> None:
        """Hand a line over (with its newline, at most ``MAX_LINE`` bytes); dropped and counted when the queue is full."""
        if len(self._queue) >= _MAX_QUEUED:
            self._dropped += 1
            if self._metrics is not None and isinstance(line, DecisionLine):
                self._metrics.log_dropped("queue_full")
            return
        self._queue.append(line)
        if self._thread is None:
            self._start()

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until what was handed over before is written; ``False`` when the reader does not take it in time."""
        if self._thread is None or not self._thread.is_alive():
            return not self._queue
        self._idle.clear()
        self._wake.set()
        return self._idle.wait(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left, summaries of floods included, and end the thread; idempotent."""
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        self._thread = None
        self._closed = False

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gatekey-log", daemon=True)
                self._thread.start()

    def _after_fork(self) -> None:
        """A child has the parent's queue but not its thread; the parent writes those lines."""
        self._queue.clear()
        self._thread = None
        self._starting = threading.Lock()
        self._wake, self._idle = threading.Event(), threading.Event()

    def _run(self) -> None:
        while True:
            closing = self._closed
            self._wake.clear()
            self._write_queue()
            if self._floods is not None:
                for line in self._floods.due(everything=closing):
                    self._write(line)
            self._tell_dropped()
            if not self._queue:
                self._idle.set()
                if closing:
                    return
            self._wake.wait(_INTERVAL)

    def _write_queue(self) -> None:
        batch = bytearray()
        decisions = 0
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, DecisionLine):
                if self._floods is not None and self._floods.swallows(item):
                    continue
                line, is_decision = item.line, 1
            else:
                line, is_decision = item, 0
            if len(batch) + len(line) > MAX_LINE:
                self._write_batch(batch, decisions)
                batch, decisions = bytearray(), 0
            batch += line
            decisions += is_decision
        self._write_batch(batch, decisions)

    def _write_batch(self, batch: bytearray, decisions: int) -> None:
        if not batch:
            return
        written = self._write(bytes(batch))
        if self._metrics is not None and decisions:
            if written:
                self._metrics.log_lines(decisions)
            else:
                self._metrics.log_dropped("write_error", decisions)

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody else made the shared descriptor non-blocking
                time.sleep(_INTERVAL)
            except OSError:  # the reader is gone
                self._dropped += 1
                return False
        return True

    def _tell_dropped(self) -> None:
        count, self._dropped = self._dropped, 0
        if not count:
            return
        notice = {"event": "log.lines_dropped", "level": "error", "count": count}
        if not self._write(orjson.dumps(notice, option=orjson.OPT_APPEND_NEWLINE)):
            self._dropped = count  # told when there is a reader again


_alive: weakref.WeakSet[LineWriter] = weakref.WeakSet()


def _reset_children() -> None:
    for writer in list(_alive):
        writer._after_fork()  # noqa: SLF001 - same module


def _flush_at_exit() -> None:
    for writer in list(_alive):
        writer.close()


os.register_at_fork(after_in_child=_reset_children)
atexit.register(_flush_at_exit)
