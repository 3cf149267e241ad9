"""One event loop per process for Flask's async views, so that a connection pool opened in one request serves the next.

Stock Flask gives every async view a loop of its own and closes it afterwards. Here they all run on the worker's loop
(Granian RSGI) or, under any other WSGI server, on one loop in a thread that starts with the first need, after any fork.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from flask import Flask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context

__all__ = ["DeadlineExceeded", "Portal", "PortalClosed", "PortalFlask"]

_START_LIMIT: Final = 10.0  # seconds
_STOP_LIMIT: Final = 5.0

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MISSING: Final = object()


class DeadlineExceeded(TimeoutError):
    """A view took longer than it may; it was cancelled, and its caller need not wait for that."""


class PortalClosed(RuntimeError):
    """The loop has stopped; whoever waited for it is told instead of waiting for ever."""


class Portal:
    """The way from worker threads to the loop.

    ``startup`` and ``shutdown`` are coroutine functions that run on the loop first and last when the portal owns it.
    ``deadline`` is the seconds that a view may take.
    """

    def __init__(
        self,
        *,
        startup: Callable[[], Awaitable[None]] | None = None,
        shutdown: Callable[[], Awaitable[None]] | None = None,
        deadline: float = 30.0,
    ) -> None:
        self._startup = startup
        self._shutdown = shutdown
        self._deadline = deadline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pending: set[Future[Any]] = set()
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use the loop of the server; whoever runs it starts and stops what lives on it."""
        self._loop = loop

    def detach(self) -> None:
        """The server's loop is about to stop: everybody who waits for it is told now."""
        self._loop = None
        self._abandon()

    def run(self, function: Callable[_P, Coroutine[Any, Any, _R]], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a coroutine function on the loop and wait for its result, from any thread but the loop's own.

        Context variables go in and changed ones come back. Raises what the function raises, ``DeadlineExceeded`` after
        the deadline (the task is then cancelled), ``PortalClosed`` when the loop stops meanwhile.
        """
        loop = self._running_loop()
        _refuse_to_wait_for_oneself(loop)
        context = copy_context()
        future: Future[_R] = Future()
        call = _Call(loop, context, future)
        self._pending.add(future)
        try:
            loop.call_soon_threadsafe(call.begin, lambda: function(*args, **kwargs))
            return future.result(self._deadline)
        except TimeoutError:
            if future.done():  # the function itself raised it
                raise
            call.cancel()
            raise DeadlineExceeded("the view took too long") from None
        finally:
            self._pending.discard(future)
            _bring_back(context)

    def is_alive(self, timeout: float = 0.5) -> bool:
        """Whether the loop answers within ``timeout`` seconds."""
        answered = threading.Event()
        try:
            self._running_loop().call_soon_threadsafe(answered.set)
        except (RuntimeError, TimeoutError):
            return False
        return answered.wait(timeout)

    def stop(self) -> None:
        """Stop the portal's own loop, if it has one; within a bounded time, idempotent."""
        with self._lock:
            loop, thread = self._loop, self._thread
            if thread is None or loop is None:
                return
            self._loop = self._thread = None
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_LIMIT)
            self._abandon()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        return loop if loop is not None else self._start()

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is not None:
                return self._loop
            if self._startup is None:
                raise PortalClosed("the event loop has stopped")
            started: Future[asyncio.AbstractEventLoop] = Future()
            thread = threading.Thread(target=self._own, args=(started,), name="gatekey-loop", daemon=True)
            thread.start()
            self._loop = started.result(_START_LIMIT)
            self._thread = thread
            atexit.register(self.stop)
            return self._loop

    def _own(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        """Run the portal's own loop until it is stopped (its thread)."""
        loop = _new_loop()
        try:
            try:
                if self._startup is not None:
                    loop.run_until_complete(_as_coroutine(self._startup))
            except BaseException as error:  # noqa: BLE001 - whoever started the loop gets it
                started.set_exception(error)
                return
            started.set_result(loop)
            loop.run_forever()
            if self._shutdown is not None:
                loop.run_until_complete(_as_coroutine(self._shutdown))
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _abandon(self) -> None:
        for future in list(self._pending):
            if not future.done():
                with contextlib.suppress(Exception):  # it may have been set in this moment
                    future.set_exception(PortalClosed("the event loop has stopped"))

    def _after_fork(self) -> None:
        """A child has none of the parent's threads, so it starts a loop of its own."""
        self._loop = self._thread = None
        self._pending = set()
        self._lock = threading.Lock()


class _Call:
    """One call on its way over the loop."""

    __slots__ = ("_context", "_future", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context, future: Future[Any]) -> None:
        self._loop = loop
        self._context = context
        self._future = future
        self._task: asyncio.Task[Any] | None = None

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """On the loop: start the task (unless its caller has left already)."""
        if self._future.set_running_or_notify_cancel():
            self._task = self._loop.create_task(self._context.run(make), context=self._context)
            self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """From the caller's thread: nobody waits any more."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if self._future.done():  # abandoned
            task.cancelled() or task.exception()
            return
        if task.cancelled():
            self._future.set_exception(PortalClosed("the view was cancelled"))
        elif (error := task.exception()) is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(task.result())


class PortalFlask(Flask):
    """A Flask whose async views, hooks and error handlers all run on the portal's loop (Flask documents the override)."""

    def __init__(self, import_name: str, portal: Portal, **options: Any) -> None:
        super().__init__(import_name, **options)
        self._portal = portal

    def async_to_sync(self, func: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """See ``Flask.async_to_sync``."""

        def on_the_loop(*args: Any, **kwargs: Any) -> Any:
            return self._portal.run(func, *args, **kwargs)

        return on_the_loop


def _refuse_to_wait_for_oneself(loop: asyncio.AbstractEventLoop) -> None:
    try:
        current = asyncio.get_running_loop()
    except RuntimeError:
        return
    if current is loop:
        raise RuntimeError("this is the event loop's own thread: await the coroutine instead of waiting for it")


def _bring_back(context: Context) -> None:
    for variable, value in context.items():
        if variable.get(_MISSING) is not value:
            variable.set(value)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _as_coroutine(function: Callable[[], Awaitable[None]]) -> None:
    await function()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_STOP_LIMIT))
