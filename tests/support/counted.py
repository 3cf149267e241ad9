"""What one request costs, counted and not timed, so that it holds on a busy machine.

A watched stretch of code counts what its own thread does, and what it causes on event loops wherever that happens.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import prometheus_client.metrics
import prometheus_client.values
import pytest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterator
    from typing import Self


_watched: ContextVar[Counts | None] = ContextVar("watched", default=None)


class Counts:
    """What the body of a ``with`` statement did."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()
        """Python functions by the module that they are in; a coroutine that goes on is entered again."""
        self.hops = 0
        """Calls handed to an event loop by ``call_soon_threadsafe``, as a portal or ``run_coroutine_threadsafe`` does."""
        self.tasks = 0
        """Tasks made on an event loop."""
        self.waits_for_locks = 0
        """Acquisitions that would wait for as long as another thread holds the lock."""
        self.suspensions = 0
        """How often a watched coroutine gave its event loop a turn before it was finished."""

    @property
    def calls(self) -> int:
        """Python functions entered, those of the tests left out."""
        return sum(count for module, count in self.entered.items() if not module.startswith("tests."))

    def entered_in(self, *packages: str) -> list[str]:
        """The modules of these packages in which a function was entered."""
        return sorted(
            module for module in self.entered if any(f"{module}.".startswith(f"{name}.") for name in packages)
        )

    def __enter__(self) -> Self:
        self._token = _watched.set(self)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        _watched.reset(self._token)

    def _note(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self.entered[frame.f_globals.get("__name__", "")] += 1
        elif event == "c_call" and argument.__name__ == "acquire":
            self.waits_for_locks += 1


class WatchedApplication:
    """An RSGI application around another one: ``seen`` has what each request did on the event loop, in their order."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.seen: list[Counts] = []

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        await _step_by_step(self._application.__rsgi__(scope, protocol), self.seen)


@types.coroutine
def _step_by_step(coroutine: Coroutine[Any, Any, None], seen: list[Counts]) -> Generator[Any, Any, None]:
    """Run it, counting what it does before it is suspended for the first time; whatever comes later only happens."""
    with Counts() as counts:
        seen.append(counts)
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return
    while True:
        counts.suspensions += 1
        given = yield waits_for
        try:
            waits_for = coroutine.send(given)
        except StopIteration:
            return


class _CountedLock:
    """A lock that tells the watched stretch when it is asked to wait."""

    def __init__(self) -> None:
        self._lock = _real_lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's signature
        counts = _watched.get()
        if blocking and counts is not None:
            counts.waits_for_locks += 1
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        self._lock.release()

    def _at_fork_reinit(self) -> None:
        self._lock = _real_lock()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


_real_lock = threading.Lock


@contextmanager
def locks_counted() -> Iterator[None]:
    """Locks that are made in the body are counted for ever after."""
    with pytest.MonkeyPatch.context() as patched:
        for module, name in (
            (threading, "Lock"),
            (prometheus_client.metrics, "Lock"),
            (prometheus_client.values, "Lock"),
        ):
            patched.setattr(module, name, _CountedLock)
        yield


def count_on(loop: asyncio.AbstractEventLoop) -> None:
    """Count from now on what is handed to this event loop."""
    hand_over: Any = loop.call_soon_threadsafe

    def counted_hand_over(*arguments: Any, **options: Any) -> Any:
        counts = _watched.get()
        if counts is not None:
            counts.hops += 1
        return hand_over(*arguments, **options)

    def counted_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        context = options.get("context")
        counts = _watched.get() if context is None else context.get(_watched)
        if counts is not None:
            counts.tasks += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.call_soon_threadsafe = counted_hand_over  # type: ignore[assignment, method-assign]  # on this one loop
    loop.set_task_factory(counted_task)
