"""One event loop per process for Flask's async views, so that a connection pool opened in one request serves the next.

Stock Flask gives every async view a loop of its own and closes it afterwards. Here they all run on the worker's loop
(Granian RSGI) or, under any other WSGI server, on one loop in a thread that starts with the first need, after any fork.
Nobody waits without a limit: not for a view, not for the loop's start or end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from flask import Flask

from service.loop_call import DeadlineExceeded, LoopCall, PortalClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from flask import Request
    from werkzeug.routing import MapAdapter

__all__ = ["DeadlineExceeded", "Portal", "PortalClosed", "PortalFlask", "guard_before_the_hop"]

# Imported here and not where it is used: a fork in the middle of an import leaves the child waiting for it for ever.
try:
    import uvloop

    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:
    _new_event_loop = asyncio.new_event_loop

_START_LIMIT: Final = 10.0  # seconds
_SHUTDOWN_LIMIT: Final = 6.0
_CANCEL_LIMIT: Final = 1.0  # for tasks that were cancelled; before and after the shutdown
_STOP_LIMIT: Final = _SHUTDOWN_LIMIT + 2 * _CANCEL_LIMIT + 1.0

_P = ParamSpec("_P")
_R = TypeVar("_R")
_STOPPED: Final = "the event loop has stopped"


class Portal:
    """The way from worker threads to the loop.

    ``startup`` and ``shutdown`` are coroutine functions that run on the loop first and last when the portal owns it;
    ``shutdown`` also after a failed ``startup``. ``deadline`` is the seconds that a view may take.
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
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        """Start from nothing: a child process has none of its parent's threads, so it needs a loop of its own."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._pending: set[LoopCall[Any]] = set()
        self._lock = threading.Lock()  # guards the fields above; never held while anybody waits
        self._starting = threading.Lock()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use the loop of the server; whoever runs it starts and stops what lives on it."""
        with self._lock:
            self._loop = loop
            self._closed = False

    def detach(self) -> None:
        """The server's loop is about to stop: everybody who waits for it is told now, and no other loop is started."""
        self._close()
        self._abandon()

    def run(self, function: Callable[_P, Coroutine[Any, Any, _R]], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a coroutine function on the loop and wait for its result, from any thread but the loop's own.

        Context variables go in and changed ones come back. Raises what the function raises, ``DeadlineExceeded`` after
        the deadline (the task is then cancelled), ``PortalClosed`` when the loop stops meanwhile or the task is cancelled.
        """
        loop = self.start()
        _refuse_to_wait_for_oneself(loop)
        call: LoopCall[_R] = LoopCall(loop)
        with self._lock:
            if self._loop is not loop:
                raise PortalClosed(_STOPPED)
            self._pending.add(call)
        try:
            call.send(lambda: function(*args, **kwargs))
            result = call.result(self._deadline)
        except (DeadlineExceeded, PortalClosed):
            raise  # it may still be running: its context is half-way
        except Exception:
            call.bring_back()
            raise
        else:
            call.bring_back()
            return result
        finally:
            with self._lock:
                self._pending.discard(call)
            del call  # else an exception, its traceback and this frame hold each other

    def is_alive(self, timeout: float = 0.5) -> bool:
        """Whether the loop answers within ``timeout`` seconds; starts the portal's own one if need be."""
        answered = threading.Event()
        try:
            self.start().call_soon_threadsafe(answered.set)
        except Exception:  # noqa: BLE001 - whatever keeps it from starting, it is not alive
            return False
        return answered.wait(timeout)

    def start(self) -> asyncio.AbstractEventLoop:
        """The loop; the portal's own one is started with the first call, and raises what ``startup`` raises."""
        if self._loop is not None:
            return self._loop
        if not self._starting.acquire(timeout=self._deadline):
            raise DeadlineExceeded("the event loop takes too long to start")
        try:
            if self._loop is not None:
                return self._loop
            if self._closed or self._startup is None:
                raise PortalClosed(_STOPPED)
            return self._start_own(self._startup)
        finally:
            self._starting.release()

    def stop(self) -> None:
        """Stop the portal's own loop, if it has one, for good; within a bounded time, idempotent."""
        loop, thread = self._close()
        if loop is None or thread is None:
            return
        atexit.unregister(self.stop)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_LIMIT)
        self._abandon()

    def _close(self) -> tuple[asyncio.AbstractEventLoop | None, threading.Thread | None]:
        with self._lock:
            before = self._loop, self._thread
            self._loop = self._thread = None
            self._closed = True
        return before

    def _abandon(self) -> None:
        with self._lock:
            calls = list(self._pending)
        for call in calls:
            call.abandon()

    def _start_own(self, startup: Callable[[], Awaitable[None]]) -> asyncio.AbstractEventLoop:
        started: Future[asyncio.AbstractEventLoop] = Future()
        thread = threading.Thread(target=self._own, args=(startup, started), name="gatekey-loop", daemon=True)
        thread.start()
        try:
            loop = started.result(_START_LIMIT)
        except TimeoutError:
            if started.cancel():
                raise PortalClosed("the event loop did not start in time") from None
            loop = started.result()  # it has started in this moment, or failed
        with self._lock:
            if self._closed:  # stopped meanwhile
                loop.call_soon_threadsafe(loop.stop)
                raise PortalClosed(_STOPPED)
            self._loop, self._thread = loop, thread
        atexit.register(self.stop)
        return loop

    def _own(self, startup: Callable[[], Awaitable[None]], started: Future[asyncio.AbstractEventLoop]) -> None:
        """Run the portal's own loop until it is stopped (its thread)."""
        loop = _new_event_loop()
        failure: BaseException | None = None
        try:
            try:
                loop.run_until_complete(_bounded(startup, _START_LIMIT))
            except BaseException as error:  # noqa: BLE001 - whoever started the loop gets it
                failure = error
            else:
                if started.set_running_or_notify_cancel():
                    started.set_result(loop)
                    loop.run_forever()
            _cancel_all(loop)
            if self._shutdown is not None:
                with contextlib.suppress(TimeoutError):
                    loop.run_until_complete(_bounded(self._shutdown, _SHUTDOWN_LIMIT))
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
            if failure is not None and started.set_running_or_notify_cancel():
                started.set_exception(failure)


class PortalFlask(Flask):
    """A Flask whose async views, hooks and error handlers all run on the portal's loop (Flask documents the override)."""

    def __init__(self, import_name: str, portal: Portal, **options: Any) -> None:
        super().__init__(import_name, **options)
        self._portal = portal

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """See ``Flask.create_url_adapter``; a websocket's first request is routed like any other, not refused with 400."""
        adapter = super().create_url_adapter(request)
        if adapter is not None:
            adapter.websocket = False
        return adapter

    def async_to_sync(self, func: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """See ``Flask.async_to_sync``."""
        guarded: _Guarded | None = getattr(func, "__gatekey_guard__", None)
        if guarded is None or guarded.owner() is not func:
            return partial(self._portal.run, func)

        def guarded_view(*args: Any, **kwargs: Any) -> Any:
            refusal = guarded.guard()
            return self._portal.run(guarded.view, *args, **kwargs) if refusal is None else refusal

        return guarded_view


class _Guarded(NamedTuple):
    owner: Callable[[], Any]
    """Whose attribute it is: ``functools.wraps`` copies it to what another decorator makes of the function."""
    guard: Callable[[], Any]
    view: Callable[..., Coroutine[Any, Any, Any]]


def guard_before_the_hop(
    function: Callable[..., Any], guard: Callable[[], Any], view: Callable[..., Coroutine[Any, Any, Any]]
) -> None:
    """Have ``PortalFlask`` call ``guard`` on the request's own thread, and only ``view`` on the loop, instead of ``function``.

    What ``guard`` returns is the answer, unless it is ``None``.
    """
    function.__gatekey_guard__ = _Guarded(weakref.ref(function), guard, view)  # type: ignore[attr-defined]  # ours


def _refuse_to_wait_for_oneself(loop: asyncio.AbstractEventLoop) -> None:
    try:
        current = asyncio.get_running_loop()
    except RuntimeError:
        return
    if current is loop:
        raise RuntimeError("this is the event loop's own thread: await the coroutine instead of waiting for it")


async def _bounded(function: Callable[[], Awaitable[None]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await function()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_LIMIT))


_alive: weakref.WeakSet[Portal] = weakref.WeakSet()


def _begin_anew() -> None:
    for portal in list(_alive):
        portal._begin()  # noqa: SLF001 - same module


os.register_at_fork(after_in_child=_begin_anew)
