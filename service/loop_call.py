"""One call on its way from a worker thread to the event loop and back; its outcome is settled once, whoever comes first."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["DeadlineExceeded", "LoopCall", "PortalClosed"]

_R = TypeVar("_R")
_MISSING: Final = object()


class DeadlineExceeded(TimeoutError):
    """A view took longer than it may; it was cancelled, and its caller need not wait for that."""


class PortalClosed(RuntimeError):
    """The loop has stopped; whoever waited for it is told instead of waiting for ever."""


class LoopCall(Generic[_R]):
    """Made in the caller's thread, which then calls ``send``, ``result`` and, when the function ended, ``bring_back``.

    Two locks and no ``Future``: every turn of the loop and every lock less is time that an async view does not take.
    """

    __slots__ = ("_context", "_error", "_loop", "_open", "_settled", "_task", "_value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._open = threading.Lock()  # whoever gets it, never to give it back, says what the outcome is
        self._settled = threading.Lock()  # held until the outcome is there
        self._settled.acquire()
        self._value: _R
        self._error: BaseException | None = None

    def send(self, make: Callable[[], Coroutine[Any, Any, _R]]) -> None:
        """Have the loop begin with what ``make`` returns there."""
        try:
            self._loop.call_soon_threadsafe(self._begin, make)
        except RuntimeError:  # it is closed
            raise PortalClosed("the event loop has stopped") from None

    def result(self, deadline: float) -> _R:
        """The function's result or exception; after ``deadline`` seconds the task is cancelled and nobody waits for it."""
        if not self._settled.acquire(timeout=deadline):
            if self._fail(DeadlineExceeded("the view took too long")):
                self._cancel_soon()
            self._settled.acquire()  # what was settled first: the function's own end, in this moment, or the deadline
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # else it, its traceback and this frame hold each other

    def bring_back(self) -> None:
        """Set the context variables that the function changed in the caller's context too."""
        for variable, value in self._context.items():
            if variable.get(_MISSING) is not value:
                variable.set(value)

    def abandon(self) -> None:
        """From any thread: tell the caller that the loop stops."""
        if self._fail(PortalClosed("the event loop has stopped")):
            self._cancel_soon()

    def _begin(self, make: Callable[[], Coroutine[Any, Any, _R]]) -> None:
        # Where the caller has left already, a cancellation follows at once and the task never takes a step.
        self._task = self._loop.create_task(self._run(make), context=self._context)

    async def _run(self, make: Callable[[], Coroutine[Any, Any, _R]]) -> None:
        """Settle it in the function's last step: a callback of the task would take another turn of the loop.

        Nothing leaves here but a cancellation: ``SystemExit`` and ``KeyboardInterrupt`` would stop everybody's loop.
        """
        try:
            value = await make()
        except (asyncio.CancelledError, GeneratorExit):
            self._fail(PortalClosed("the view was cancelled"))
            raise
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            self._fail(error)
        else:
            if self._open.acquire(blocking=False):
                self._value = value
                self._settled.release()

    def _fail(self, error: BaseException) -> bool:
        """Whether this was the outcome; ``False`` when there was one already."""
        if not self._open.acquire(blocking=False):
            return False
        self._error = error
        self._settled.release()
        return True

    def _cancel_soon(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
