"""Granian's worker process as the parent sees it: it starts with all signals blocked, and its birth and death are news."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from granian.server.mp import WorkerProcess

from service.worker import SIGNALS, STARTED

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from queue import SimpleQueue

    from service.observe.peers_wire import Link

__all__ = ["Birth", "Death", "Patience", "SupervisedWorker"]

_LONG: Final = 10.0  # seconds that a worker must have served to be replaced at once whenever it ends
_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 10.0
_ENOUGH: Final = 8  # short lives in a row, after which the delay does not grow any more


@dataclass(frozen=True, slots=True)
class Birth:
    """A worker serves."""

    worker: SupervisedWorker


@dataclass(frozen=True, slots=True)
class Death:
    """A worker ended on its own."""

    worker: SupervisedWorker


class Patience:
    """How soon workers are replaced: one that dies young again and again, or cannot start, later and later."""

    def __init__(self) -> None:
        self._short_lives: dict[int, int] = {}

    def after(self, idx: int, *, served: float | None) -> float:
        """Seconds until worker ``idx`` is replaced, which has served so many seconds (``None``: it could not start).

        Once a worker that served is replaced at once, however soon it died.
        """
        if served is not None and served >= _LONG:
            self._short_lives.pop(idx, None)
            return 0.0
        before = self._short_lives.get(idx, 0)
        self._short_lives[idx] = min(before + 1, _ENOUGH)
        if served is not None:
            before -= 1
        return 0.0 if before < 0 else min(_BACKOFF * 2.0**before, _MAX_BACKOFF)


class SupervisedWorker(WorkerProcess):
    """Granian's worker process, with our own word about its start and its end."""

    voice: Connection
    """The worker's end of a pipe."""
    ear: Connection
    """The parent's end."""
    news: SimpleQueue[Birth | Death | int]
    """Where the parent hears of births and deaths (and of signals, which it puts there itself)."""
    link: Link | None
    """The worker's ends of what it tells the others' scrapes, where there are others."""
    word: str | None = None
    """What the worker said: ``STARTED``, why it cannot start, or nothing."""
    served: float | None = None
    """Seconds that it has served, once it has ended."""

    @classmethod
    def adopt(
        cls,
        worker: WorkerProcess,
        *,
        ear: Connection,
        voice: Connection,
        link: Link | None,
        news: SimpleQueue[Birth | Death | int],
    ) -> SupervisedWorker:
        """The same worker, supervised: Granian names its class in one place, and the constructor has nothing of ours to do."""
        worker.__class__ = cls
        adopted = cast("SupervisedWorker", worker)
        adopted.ear, adopted.voice, adopted.link, adopted.news = ear, voice, link, news
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
            if self.link is not None:
                self.link.close()

    def _watcher(self) -> None:
        """Follow the process to its end, on a thread that Granian starts."""
        with self.ear, contextlib.suppress(EOFError, OSError):
            self.word = self.ear.recv()
        born = time.monotonic()
        if self.word == STARTED:
            self.news.put(Birth(self))
        self.inner.join()
        if self.word == STARTED:
            self.served = time.monotonic() - born
        if not self.interrupt_by_parent and not self.parent.interrupt_signal:
            self.news.put(Death(self))
