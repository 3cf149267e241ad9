"""The parent's part in a scrape of the whole service: it asks all workers at once and makes one page of their answers.

Whoever is scraped, the same one memory answers, so no counter depends on which worker it was. Within the deadline a worker
answers or counts with what it told last; the parent hears from every worker once a second, so that one that is killed
takes no more than that with it. All this runs on a thread and a loop of its own, in the one process that decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import structlog

from service.observe.exposition import Unanswered, exposition
from service.observe.merge import Whole
from service.observe.peers_wire import MAX_LINE, Link, decode_shape, decode_snapshot, write_page
from service.observe.process import START_TIME, started_at

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from prometheus_client import Metric

    from service.observe.merge import Shape, Snapshot

__all__ = ["Hub"]

DEADLINE: Final = 0.2  # seconds that all workers together may take to answer
_INTERVAL: Final = 1.0  # seconds between two words of a worker when nobody scrapes
_DELIVERY: Final = 1.0  # seconds that whoever asked may take to read the answer
_MAX_ACCEPT: Final = 1024

_log = structlog.get_logger(__name__)


class Hub:
    """Serves from the start on, until ``close``; ``workers`` is how many there should be."""

    def __init__(self, *, workers: int) -> None:
        self.deaths = 0
        """Workers that have ended by themselves or could not start; whoever replaces them counts."""
        self._configured = workers
        started = started_at(os.getpid())
        self._started = {} if started is None else {START_TIME: started}
        self._whole = Whole()
        self._workers: list[_Worker] = []  # the one that has served longest first
        self._door, self._entrance = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.setblocking(False)  # noqa: FBT003 - the library's signature
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.SelectorEventLoop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="gatekey-metrics", daemon=True)
        self._thread.start()

    def link(self) -> Link:
        """The ends for one new worker; the parent closes them once the worker has started."""
        mine, workers = socket.socketpair()
        self._loop.call_soon_threadsafe(self._start, self._follow(mine))
        return Link(questions=workers, entrance=self._entrance)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The scrape of the whole service and its content type, for any thread of the parent; raises ``Unanswered``."""
        try:
            return asyncio.run_coroutine_threadsafe(self._page(accept), self._loop).result(_DELIVERY)
        except TimeoutError as error:
            raise Unanswered("the workers cannot be asked") from error

    def close(self) -> None:
        """End; whoever waits for an answer gets none."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._entrance.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self._loop.close()
            self._door.close()

    async def _live(self) -> None:
        self._loop.add_reader(self._door, self._admit)
        self._start(self._listen())
        await self._end.wait()
        self._loop.remove_reader(self._door)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        """Hear from every worker now and then; one that still owes an answer is not asked again."""
        while True:
            await asyncio.sleep(_INTERVAL)
            for worker in self._workers:
                if not worker.owes:
                    worker.ask()

    async def _follow(self, mine: socket.socket) -> None:
        """Hear what a worker says until it ends; it belongs to the service from its first numbers on."""
        reader, writer = await asyncio.open_unix_connection(sock=mine, limit=MAX_LINE)
        worker: _Worker | None = None
        try:
            shape = decode_shape(await reader.readline())
            while (line := await reader.readline()).endswith(b"\n"):
                if worker is None:
                    worker = _Worker(writer, shape, line)
                    self._workers.append(worker)
                else:
                    worker.hear(line)
        except (OSError, ValueError, TypeError, KeyError) as error:  # it died before its first word, or talks nonsense
            _log.debug("metrics_worker_lost", error_type=type(error).__name__)
        finally:
            writer.close()
            if worker is not None:
                self._workers.remove(worker)
                self._whole.ended(worker.last)
                worker.end()

    def _admit(self) -> None:
        """Take a scrape from a worker."""
        with contextlib.suppress(BlockingIOError):
            accept, sockets, _, _ = socket.recv_fds(self._door, _MAX_ACCEPT, 1)
            for number in sockets:
                self._start(self._deliver(socket.socket(fileno=number), accept.decode("latin-1")))

    async def _deliver(self, asker: socket.socket, accept: str) -> None:
        with asker, contextlib.suppress(OSError, TimeoutError, Unanswered):
            asker.setblocking(False)  # noqa: FBT003 - the library's signature
            page = write_page(*await self._page(accept))
            await asyncio.wait_for(self._loop.sock_sendall(asker, page), _DELIVERY)

    async def _page(self, accept: str) -> tuple[bytes, str]:
        asked = {worker: worker.ask() for worker in self._workers}
        if asked:
            await asyncio.wait(asked.values(), timeout=DEADLINE)
        silent = [worker for worker, answer in asked.items() if not answer.done()]
        answered = [worker for worker in self._workers if worker not in silent]
        living = [worker.last for worker in (*answered, *silent)]
        families = self._whole.merge(
            living,
            answered=len(answered),
            known={
                "gatekey_workers_configured": float(self._configured),
                "gatekey_worker_deaths_total": float(self.deaths),
                **self._started,
            },
        )
        if not families:
            raise Unanswered("no worker has said anything yet")
        return exposition(_Collected(families), accept)


class _Worker:
    """What a living worker told last, and who waits for its next word."""

    def __init__(self, writer: asyncio.StreamWriter, shape: Shape, line: bytes) -> None:
        self._writer = writer
        self._shape = shape
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.last: Snapshot = decode_snapshot(line, shape)[1]

    @property
    def owes(self) -> bool:
        """Whether a question is unanswered."""
        return bool(self._waiting)

    def ask(self) -> asyncio.Future[None]:
        """Done when ``last`` is no older than this question, or the worker has ended."""
        self._writer.write(b"?")
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        return answer

    def hear(self, line: bytes) -> None:
        """Take its next word."""
        answers, self.last = decode_snapshot(line, self._shape)
        for _ in range(min(answers, len(self._waiting))):
            self._answered()

    def end(self) -> None:
        """Let nobody wait for it any more."""
        while self._waiting:
            self._answered()

    def _answered(self) -> None:
        self._waiting.popleft().set_result(None)


class _Collected:
    """Families as the client library's renderers take them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
