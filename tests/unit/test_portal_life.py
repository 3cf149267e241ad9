"""Start and end of the portal's own loop: after fork, once, bounded, without a warning, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from backends.errors import StoreUnavailable
from service.portal import Portal, PortalClosed
from tests.support.servers import ROOT, clean_environment, wait_until

_FORKING_WITH_THREADS = "ignore:This process:DeprecationWarning"  # Python 3.12 warns; here it is what is tested


async def _nothing() -> None:
    """A startup without anything to start."""


async def _hang(entered: threading.Event) -> None:
    entered.set()
    await asyncio.sleep(3600)


def _threads_named(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_startup_runs_once_however_many_threads_come_first() -> None:
    """Sixteen first calls at the same time start one loop, and all get their result from it."""
    starts = []

    async def startup() -> None:
        await asyncio.sleep(0)
        starts.append(asyncio.get_running_loop())

    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    portal = Portal(startup=startup)
    with ThreadPoolExecutor(16) as pool:
        loops = set(pool.map(lambda _: portal.run(which), range(16)))
    portal.stop()
    assert loops == set(starts)
    assert len(starts) == 1


def test_startup_and_shutdown_run_on_the_loop_of_the_views() -> None:
    """What startup opens belongs to the loop that later closes it."""
    events = []

    async def startup() -> None:
        events.append(("startup", asyncio.get_running_loop()))

    async def shutdown() -> None:
        events.append(("shutdown", asyncio.get_running_loop()))

    portal = Portal(startup=startup, shutdown=shutdown)
    loop = portal.start()
    portal.stop()
    assert events == [("startup", loop), ("shutdown", loop)]
    assert loop.is_closed()


def test_a_failed_startup_is_told_cleaned_up_and_tried_again() -> None:
    """The first caller gets the error, ``shutdown`` has run, no thread is left, and the next call starts anew."""
    events = []

    async def startup() -> None:
        events.append("startup")
        if len(events) == 1:
            raise StoreUnavailable("not yet")

    async def shutdown() -> None:
        events.append("shutdown")

    portal = Portal(startup=startup, shutdown=shutdown)
    with pytest.raises(StoreUnavailable):
        portal.run(_nothing)
    assert events == ["startup", "shutdown"]
    portal.run(_nothing)
    portal.stop()
    assert events == ["startup", "shutdown"] * 2
    assert not _threads_named("gatekey-loop")


def test_a_loop_that_cannot_start_is_not_alive() -> None:
    """``is_alive`` answers, whatever keeps the loop from starting."""

    async def startup() -> NoReturn:
        raise StoreUnavailable("down")

    portal = Portal(startup=startup)
    assert not portal.is_alive()


def test_stop_tells_whoever_waits() -> None:
    """A call under way ends with ``PortalClosed`` when the loop stops, long before its deadline."""
    portal = Portal(startup=_nothing, deadline=3600)
    entered = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.run, _hang, entered)
        assert entered.wait(20)
        portal.stop()
        with pytest.raises(PortalClosed):
            waiting.result(20)


def test_detach_tells_whoever_waits_and_starts_no_other_loop() -> None:
    """When the server's loop ends, waiters are told, later calls too, and the portal opens nothing of its own."""
    starts = []

    async def startup() -> None:
        starts.append(1)

    loop = asyncio.new_event_loop()
    runner = threading.Thread(target=loop.run_forever, daemon=True)
    runner.start()
    portal = Portal(startup=startup, deadline=3600)
    portal.attach(loop)
    entered = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.run, _hang, entered)
        assert entered.wait(20)
        portal.detach()
        with pytest.raises(PortalClosed):
            waiting.result(20)
    with pytest.raises(PortalClosed):
        portal.run(_nothing)
    assert not portal.is_alive()
    assert not starts
    assert not asyncio.run_coroutine_threadsafe(_other_tasks(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    runner.join()
    loop.close()


async def _other_tasks() -> set[asyncio.Task[object]]:
    """What still runs beside this, after what was cancelled had its turn."""
    await asyncio.sleep(0)
    own = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not own}


def test_a_call_that_the_loop_has_not_begun_is_told_too() -> None:
    """A call on its way when the loop is detached neither runs nor raises anything inside the loop."""
    loop = asyncio.new_event_loop()
    problems: list[object] = []
    loop.set_exception_handler(lambda _loop, context: problems.append(context))
    portal = Portal(deadline=3600)
    portal.attach(loop)  # it does not run yet
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.run, _hang, begun)
        wait_until(lambda: portal._pending, "the call is on its way")
        portal.detach()
        with pytest.raises(PortalClosed):
            waiting.result(20)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert not problems
    assert not begun.is_set()


def test_stop_is_idempotent_and_final() -> None:
    """A second stop does nothing, and a stopped portal refuses calls instead of opening everything again."""
    starts = []

    async def startup() -> None:
        starts.append(1)

    portal = Portal(startup=startup)
    portal.stop()
    portal.stop()
    with pytest.raises(PortalClosed):
        portal.run(_nothing)
    assert not starts


def test_a_call_on_a_loop_that_somebody_else_closed_is_told() -> None:
    """A closed loop is ``PortalClosed``, not a ``RuntimeError`` from inside asyncio."""
    loop = asyncio.new_event_loop()
    portal = Portal()
    portal.attach(loop)
    loop.close()
    with pytest.raises(PortalClosed):
        portal.run(_nothing)


def _run_script(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", _FORKING_WITH_THREADS, "-c", source],
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_that_ends_without_stopping_says_nothing() -> None:
    """With warnings as errors and asyncio's debug mode, a program that just ends leaves its standard error empty."""
    done = _run_script(
        """
import asyncio, gc
from flask import Flask
from service.portal import Portal, PortalFlask

async def startup():
    global background
    background = asyncio.create_task(asyncio.sleep(3600))

async def shutdown():
    print("shut down")

app = PortalFlask(__name__, Portal(startup=startup, shutdown=shutdown))

@app.get("/")
async def view():
    await asyncio.sleep(0)
    return "served"

print(app.test_client().get("/").text)
"""
    )
    assert (done.stdout.split("\n"), done.stderr, done.returncode) == (["served", "shut down", ""], "", 0)


def test_a_child_after_fork_has_a_loop_of_its_own() -> None:
    """Parent and children serve at the same time, each from a loop that it started itself, and end without a word."""
    done = _run_script(
        """
import os, sys
from service.portal import Portal

async def startup():
    print("start", os.getpid(), flush=True)

async def pid():
    return os.getpid()

portal = Portal(startup=startup, deadline=20)
assert portal.run(pid) == os.getpid()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        assert portal.run(pid) == os.getpid()
        sys.exit(7)
    children.append(child)
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert portal.run(pid) == os.getpid()
"""
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert len(set(done.stdout.split("\n")[:-1])) == 4


def test_a_fork_while_a_call_is_under_way_does_not_hang_the_child() -> None:
    """A child forked while other threads hold the portal's locks and wait for the loop starts clean."""
    done = _run_script(
        """
import asyncio, os, sys, threading
from service.portal import Portal

async def startup():
    pass

async def work():
    await asyncio.sleep(0)
    return 1

portal = Portal(startup=startup, deadline=20)
going = True
def load():
    while going:
        portal.run(work)

threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads:
    thread.start()
codes = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(portal.run(work))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
going = False
for thread in threads:
    thread.join()
assert codes == [1] * 20, codes
"""
    )
    assert (done.stderr, done.returncode) == ("", 0)
