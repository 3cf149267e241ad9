"""Granian's worker process as the parent sees it: it starts with all signals blocked, and its birth and death are news."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from granian.server.mp import WorkerProcess

from service.worker import SIGNALS, STARTED

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from queue import SimpleQueue

__all__ = ["Birth", "Death", "SupervisedWorker"]


@dataclass(frozen=True, slots=True)
class Birth:
    """A worker serves."""

    worker: SupervisedWorker


@dataclass(frozen=True, slots=True)
class Death:
    """A worker ended on its own."""

    worker: SupervisedWorker


class SupervisedWorker(WorkerProcess):
    """Granian's worker process, with our own word about its start and its end."""

    voice: Connection
    """The worker's end of a pipe."""
    ear: Connection
    """The parent's end."""
    news: SimpleQueue[Birth | Death | int]
    """Where the parent hears of births and deaths (and of signals, which it puts there itself)."""
    word: str | None = None
    """What the worker said: ``STARTED``, why it cannot start, or nothing."""

    @classmethod
    def adopt(
        cls, worker: WorkerProcess, *, ear: Connection, voice: Connection, news: SimpleQueue[Birth | Death | int]
    ) -> SupervisedWorker:
        """The same worker, supervised: Granian names its class in one place, and the constructor has nothing of ours to do."""
        worker.__class__ = cls
        adopted = cast("SupervisedWorker", worker)
        adopted.ear, adopted.voice, adopted.news = ear, voice, news
        return adopted

    @property
    def serves(self) -> bool:
        """Whether it has started and not ended."""
        return self.word == STARTED and bool(self.inner.is_alive())

    def start(self) -> None:
        """Start the process with all signals blocked; see ``service.worker``."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            super().start()  # type: ignore[no-untyped-call]  # Granian is untyped
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.voice.close()

    def _watcher(self) -> None:
        """Follow the process to its end, on a thread that Granian starts."""
        with self.ear, contextlib.suppress(EOFError, OSError):
            self.word = self.ear.recv()
        if self.word == STARTED:
            self.news.put(Birth(self))
        self.inner.join()
        if not self.interrupt_by_parent and not self.parent.interrupt_signal:
            self.news.put(Death(self))
