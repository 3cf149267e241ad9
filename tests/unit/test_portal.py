"""The way from worker threads to the one event loop: results, exceptions, deadlines, context, and what must not leak."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn, TypeVarTuple

import pytest
import structlog
from flask import Flask, Response, g, request

from service.portal import DeadlineExceeded, Portal, PortalClosed, PortalFlask
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

colour: ContextVar[str] = ContextVar("colour")
_Arguments = TypeVarTuple("_Arguments")


async def _nothing() -> None:
    """What a portal needs at its start when nothing lives on the loop."""


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal(startup=_nothing, deadline=20)
    yield portal
    portal.stop()


@pytest.fixture
def hasty() -> Iterator[Portal]:
    """A portal whose views may take no time at all."""
    portal = Portal(startup=_nothing, deadline=0.05)
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture
def app(portal: Portal) -> Flask:
    return PortalFlask(__name__, portal)


async def _tasks() -> int:
    return len(asyncio.all_tasks())


async def _return(value: str) -> str:
    await asyncio.sleep(0)
    return value


def test_all_async_views_hooks_and_error_handlers_share_one_loop(app: Flask) -> None:
    """View, ``before_request``, ``after_request`` and error handler of every request run on the same loop."""
    loops = set()

    @app.before_request
    async def before() -> None:
        loops.add(asyncio.get_running_loop())

    @app.get("/")
    async def view() -> str:
        loops.add(asyncio.get_running_loop())
        raise LookupError

    @app.errorhandler(LookupError)
    async def handle(_error: LookupError) -> str:
        loops.add(asyncio.get_running_loop())
        return "handled"

    answers = {app.test_client().get("/").text for _ in range(5)}
    assert answers == {"handled"}
    assert len(loops) == 1


def test_requests_of_many_threads_run_on_the_loop_at_the_same_time(app: Flask) -> None:
    """Eight requests that wait for each other all pass: none holds the loop."""
    barrier = asyncio.Barrier(8)

    @app.get("/")
    async def view() -> str:
        await barrier.wait()
        return "met"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: app.test_client().get("/").text, range(8)))
    assert answers == ["met"] * 8


def test_request_and_g_are_the_callers_in_an_async_view(app: Flask) -> None:
    """Flask's context locals work on the loop, and what the view puts into ``g`` is there afterwards."""

    @app.get("/<name>")
    async def view(name: str) -> str:
        await asyncio.sleep(0)
        g.seen = name
        return request.path

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-Seen"] = g.seen
        return response

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: app.test_client().get(f"/{n}"), range(64)))
    assert [(answer.text, answer.headers["X-Seen"]) for answer in answers] == [(f"/{n}", str(n)) for n in range(64)]


def test_context_variables_go_in_and_changed_ones_come_back(portal: Portal) -> None:
    """A view reads the caller's variables; what it sets, and structlog's context, is the caller's afterwards."""
    colour.set("red")
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id="r-1")
    seen = []

    async def view() -> None:
        await asyncio.sleep(0)
        seen.append((colour.get(), structlog.contextvars.get_contextvars()))
        colour.set("blue")
        structlog.contextvars.bind_contextvars(key_id="k-1")

    portal.run(view)
    assert seen == [("red", {"request_id": "r-1"})]
    assert colour.get() == "blue"
    assert structlog.contextvars.get_contextvars() == {"request_id": "r-1", "key_id": "k-1"}
    structlog.contextvars.clear_contextvars()


def test_context_variables_come_back_from_a_view_that_raises(portal: Portal) -> None:
    """What a failing view bound to the log is still bound where its error is handled."""
    colour.set("red")

    async def view() -> NoReturn:
        colour.set("green")
        raise LookupError

    with pytest.raises(LookupError):
        portal.run(view)
    assert colour.get() == "green"


@pytest.mark.parametrize("error", [LookupError("x"), TimeoutError("its own"), SystemExit(3), KeyboardInterrupt()])
def test_a_view_that_raises_leaves_the_loop_healthy(portal: Portal, error: BaseException) -> None:
    """The caller gets the very exception, ``SystemExit`` included, and the same loop serves the next call."""

    async def view() -> NoReturn:
        await asyncio.sleep(0)
        raise error

    before = portal.start()
    with pytest.raises(type(error)) as caught:
        portal.run(view)
    assert caught.value is error
    assert portal.run(_return, "next") == "next"
    assert portal.start() is before


def test_a_function_that_fails_before_its_first_step_is_told_to_the_caller(portal: Portal) -> None:
    """Wrong arguments raise ``TypeError`` at once instead of leaving the caller to its deadline."""
    with pytest.raises(TypeError):
        portal.run(_return)  # type: ignore[call-arg]  # that is the point


def test_a_view_that_is_cancelled_is_told_as_closed(portal: Portal) -> None:
    """A cancellation never leaves its caller waiting, and never looks like the caller's own."""

    async def view() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(3600)

    with pytest.raises(PortalClosed):
        portal.run(view)
    assert portal.run(_return, "next") == "next"


def test_a_view_that_outlives_its_deadline_is_cancelled_and_its_thread_is_free(hasty: Portal) -> None:
    """The caller gets ``DeadlineExceeded``, the task its cancellation, and nothing remains on the loop."""
    ended = threading.Event()

    async def view() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with pytest.raises(DeadlineExceeded):
        hasty.run(view)
    assert ended.wait(20)
    wait_until(lambda: hasty.run(_tasks) == 1, "only the task that counts is left")


def test_a_view_that_ignores_its_cancellation_still_frees_its_caller(hasty: Portal) -> None:
    """Whoever waits goes away at the deadline; what the view does later reaches nobody."""
    cancelled = threading.Event()
    release = asyncio.Event()

    async def view() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            await release.wait()
        return "too late"

    with pytest.raises(DeadlineExceeded):
        hasty.run(view)
    assert cancelled.wait(20)
    assert hasty.run(_return, "next") == "next"
    hasty.start().call_soon_threadsafe(release.set)
    wait_until(lambda: hasty.run(_tasks) == 1, "the stubborn view has ended")


def test_a_view_that_blocks_the_loop_frees_every_caller_at_the_deadline(hasty: Portal) -> None:
    """One view that blocks the thread of the loop makes it not alive, but holds no other thread for ever."""
    release = threading.Event()
    entered = threading.Event()

    async def view() -> None:
        entered.set()
        release.wait(20)

    with pytest.raises(DeadlineExceeded):
        hasty.run(view)
    assert entered.is_set()
    with pytest.raises(DeadlineExceeded):
        hasty.run(_return, "never begun")
    assert not hasty.is_alive(timeout=0.01)
    release.set()
    assert hasty.is_alive(timeout=20)
    assert hasty.run(_tasks) == 1


def test_waiting_on_the_loops_own_thread_is_refused(portal: Portal) -> None:
    """A view that calls something that waits for the loop gets an error at once, not a deadlock."""

    async def view() -> None:
        portal.run(_return, "never")

    with pytest.raises(RuntimeError, match="await the coroutine"):
        portal.run(view)
    assert portal.is_alive(timeout=20)


def test_nothing_is_kept_of_calls_that_are_over(hasty: Portal) -> None:
    """Neither a finished, nor a failed, nor an abandoned call stays pending."""

    async def fail() -> NoReturn:
        raise LookupError

    hasty.run(_return, "x")
    with pytest.raises(LookupError):
        hasty.run(fail)
    with pytest.raises(DeadlineExceeded):
        hasty.run(asyncio.sleep, 3600)
    assert not hasty._pending


def test_an_exception_is_freed_with_its_last_reference(portal: Portal) -> None:
    """No cycle of exception, traceback and future keeps a failed request alive until the garbage collector comes."""

    class Failure(Exception):
        """Can be referred to weakly."""

    async def fail() -> NoReturn:
        raise Failure

    def call() -> weakref.ref[Failure]:
        try:
            portal.run(fail)
        except Failure as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        reference = call()
        portal.run(_return, "the loop has let go of the task")
        assert reference() is None
    finally:
        gc.enable()


class _CountingLoop(asyncio.SelectorEventLoop):
    """Notes what asyncio has it do soon, each of which is a turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def call_soon(
        self, callback: Callable[[*_Arguments], object], *args: *_Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        self.turns += 1
        return super().call_soon(callback, *args, context=context)


def test_a_view_that_waits_for_nothing_takes_one_step_and_no_callback() -> None:
    """Each turn of the loop gives the interpreter's lock away and asks the kernel for events."""
    loop = _CountingLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    portal = Portal()
    portal.attach(loop)

    async def view() -> str:
        return "ok"

    try:
        portal.run(view)
        before = loop.turns
        assert [portal.run(view) for _ in range(10)] == ["ok"] * 10
        assert loop.turns - before == 10
    finally:
        portal.detach()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
