"""Threads that run the calls of one kind, each with a connection of its own, so that the event loop never waits for a disk.

A call is withdrawn when its caller leaves or its time is over: it does not begin any more, and what has begun is
interrupted. Whoever leaves a write learns first whether it happened.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from backends.errors import StoreClosed, StoreUnavailable
from backends.sqlite_errors import StoreBusy, translated
from backends.sqlite_file import StoreGone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from backends.sqlite_link import Link

__all__ = ["Threads"]

_MAX_WAITING: Final = 1_000
_GRACE: Final = 2.0
"""Seconds for what was interrupted to end: only a disk that hangs takes longer."""
_PAUSE: Final = 0.005  # between two attempts, where SQLite refused without waiting

_T = TypeVar("_T")


class Threads:
    """Runs from ``start`` to ``close``, once."""

    def __init__(self, name: str, links: Sequence[Link]) -> None:
        self._links = links
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._closing = threading.Event()
        self._busy: set[Link] = set()
        self._threads = [
            threading.Thread(target=self._serve, args=(link,), name=f"gatekey-sqlite-{name}-{number}", daemon=True)
            for number, link in enumerate(links)
        ]

    @property
    def maximum(self) -> int:
        """How many connections there may be."""
        return len(self._links)

    @property
    def used(self) -> int:
        """Connections that work at this moment."""
        return len(self._busy)

    @property
    def idle(self) -> int:
        """Connections that wait for work."""
        return max(0, sum(link.is_connected for link in self._links) - len(self._busy))

    def start(self) -> None:
        """Let the threads run."""
        for thread in self._threads:
            thread.start()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, call: Callable[[Link], _T], *, limit: float, settle: bool = False) -> _T:
        """What ``call`` returns or raises, within ``limit`` seconds.

        ``settle``: a caller who is cancelled leaves only when the call is over, so that it knows what there is then.
        """
        if self._closing.is_set():
            raise StoreClosed("the SQLite store is not open")
        if self._queue.qsize() >= _MAX_WAITING:
            raise StoreUnavailable("too many calls wait for the SQLite file")
        job = _Job(call, limit)
        late = asyncio.get_running_loop().call_later(limit, job.wake)
        self._queue.put(job)
        try:
            await job.awake
        except asyncio.CancelledError:
            if job.withdraw() and settle:
                await asyncio.wait({job.over}, timeout=_GRACE)
            raise
        finally:
            late.cancel()
        if not job.over.done() and job.withdraw():
            await asyncio.wait({job.over}, timeout=_GRACE if settle else 0)
        if not job.over.done():
            raise StoreUnavailable("the SQLite file gave no answer in time")
        result, error = job.over.result()
        if error is not None:
            raise error
        returned: _T = result
        return returned

    async def close(self) -> None:
        """Interrupt what is running, refuse what waits, end the threads; within ``_GRACE``, whatever they do."""
        self._closing.set()
        for link in self._links:
            link.interrupt()
        last = [_Job(None, _GRACE) for _ in self._threads]  # each ends one thread
        for job in last:
            self._queue.put(job)
        await asyncio.wait([job.over for job in last], timeout=_GRACE)
        for thread in self._threads:
            if all(job.over.done() for job in last):
                thread.join(_GRACE)  # it has said that it is over

    def _serve(self, link: Link) -> None:
        while True:
            job = self._queue.get()
            if job.call is None:
                link.close()
                job.end(None, None)
                return
            if job.begin(link):
                self._busy.add(link)
                result, error = self._perform(job.call, job, link)
                self._busy.discard(link)
                job.end(result, error)

    def _perform(self, call: Callable[[Link], Any], job: _Job, link: Link) -> tuple[Any, Exception | None]:
        while not self._closing.is_set():
            try:
                with translated():
                    return call(link), None
            except StoreBusy as error:
                if job.is_late():
                    return None, error
                self._closing.wait(_PAUSE)
            except StoreGone as error:
                return None, error
            except StoreUnavailable as error:
                link.close()  # start afresh; costs less than a millisecond
                return None, error
            except Exception as error:  # noqa: BLE001 - errors and defects belong to the caller; the thread lives on
                return None, error
        return None, StoreClosed("the SQLite store is not open")


class _Job:
    """One call, its end on the caller's loop, and who of both threads was first."""

    def __init__(self, call: Callable[[Link], Any] | None, limit: float) -> None:
        self.call = call
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[tuple[Any, Exception | None]] = self._loop.create_future()
        self.awake: asyncio.Future[None] = self._loop.create_future()
        """When it is over or late; for one caller to wait for, a turn of the loop shorter than ``asyncio.wait``."""
        self._until = time.monotonic() + limit
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._withdrawn = False

    def begin(self, link: Link) -> bool:
        """``False`` where the caller has left."""
        with self._lock:
            if not self._withdrawn:
                link.begin()
                self._link = link
            return not self._withdrawn

    def end(self, result: Any, error: Exception | None) -> None:
        """Tell the caller, if its loop is still there."""
        with self._lock:
            self._link = None
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, (result, error))

    def withdraw(self) -> bool:
        """Never begin, or interrupt; ``True`` when it had begun."""
        with self._lock:
            self._withdrawn = True
            if self._link is not None:
                self._link.interrupt()
            return self._link is not None

    def wake(self) -> None:
        """The caller has waited for long enough; on its loop."""
        if not self.awake.done():
            self.awake.set_result(None)

    def is_late(self) -> bool:
        """Whether nobody waits any more."""
        return self._withdrawn or time.monotonic() >= self._until

    def _settle(self, outcome: tuple[Any, Exception | None]) -> None:
        if not self.over.done():
            self.over.set_result(outcome)
        self.wake()
