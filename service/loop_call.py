"""One call on its way from a worker thread to the event loop and back; its outcome is settled once, whoever comes first."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

__all__ = ["DeadlineExceeded", "LoopCall", "PortalClosed"]

_R = TypeVar("_R")
_MISSING: Final = object()


class DeadlineExceeded(TimeoutError):
    """A view took longer than it may; it was cancelled, and its caller need not wait for that."""


class PortalClosed(RuntimeError):
    """The loop has stopped; whoever waited for it is told instead of waiting for ever."""


class LoopCall(Generic[_R]):
    """Made in the caller's thread, which then calls ``send``, ``result`` and, when the function ended, ``bring_back``."""

    __slots__ = ("_context", "_future", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = copy_context()
        self._future: Future[_R] = Future()
        self._task: asyncio.Task[_R] | None = None

    def send(self, make: Callable[[], Coroutine[Any, Any, _R]]) -> None:
        """Have the loop begin with what ``make`` returns there."""
        try:
            self._loop.call_soon_threadsafe(self._begin, make)
        except RuntimeError:  # it is closed
            raise PortalClosed("the event loop has stopped") from None

    def result(self, deadline: float) -> _R:
        """The function's result or exception; after ``deadline`` seconds the task is cancelled and nobody waits for it."""
        try:
            return self._future.result(deadline)
        except TimeoutError:
            if self._settle(error=DeadlineExceeded("the view took too long")):
                self._cancel_soon()
            return self._future.result()  # what was settled first: the function's own end, or the deadline
        finally:
            del self  # else an exception, its traceback and this frame hold each other

    def bring_back(self) -> None:
        """Set the context variables that the function changed in the caller's context too."""
        for variable, value in self._context.items():
            if variable.get(_MISSING) is not value:
                variable.set(value)

    def abandon(self) -> None:
        """From any thread: tell the caller that the loop stops."""
        if self._settle(error=PortalClosed("the event loop has stopped")):
            self._cancel_soon()

    def _begin(self, make: Callable[[], Coroutine[Any, Any, _R]]) -> None:
        # Where the caller has left already, a cancellation follows at once and the task never takes a step.
        self._task = self._loop.create_task(_contained(make), context=self._context)
        self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[_R]) -> None:
        if task.cancelled():
            self._settle(error=PortalClosed("the view was cancelled"))
        elif (error := task.exception()) is not None:
            self._settle(error=error.exit if isinstance(error, _Exit) else error)
        else:
            with contextlib.suppress(InvalidStateError):  # the caller has left
                self._future.set_result(task.result())

    def _cancel_soon(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _settle(self, *, error: BaseException) -> bool:
        """Whether this was the outcome; ``False`` when there was one already."""
        try:
            self._future.set_exception(error)
        except InvalidStateError:
            return False
        return True


class _Exit(Exception):
    """Carries ``SystemExit`` or ``KeyboardInterrupt`` past asyncio, which would stop everybody's loop with it."""

    def __init__(self, exit_: BaseException) -> None:
        super().__init__()
        self.exit = exit_


async def _contained(make: Callable[[], Coroutine[Any, Any, _R]]) -> _R:
    try:
        return await make()
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Exit(error) from None
