"""The proof that async views may keep connections: many requests from many threads over one pool, and nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.app import running_app
from tests.support.echo import EchoPool, echo_server
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from flask import Flask

    from service.portal import Portal

REQUESTS = 10_000
THREADS = 32
CONNECTIONS = 8


async def _tasks() -> int:
    return len(asyncio.all_tasks())


def _open_files() -> int:
    fds = Path("/proc/self/fd")
    return len(list(fds.iterdir())) if fds.is_dir() else 0


def _ask(app: Flask, numbers: range) -> int:
    client = app.test_client()
    return sum(client.get(f"/echo/{number}").text == f"echo {number}" for number in numbers)


@pytest.mark.timeout(300)
def test_ten_thousand_requests_over_one_connection_pool(caplog: pytest.LogCaptureFixture) -> None:
    """10,000 requests from 32 threads are answered over 8 connections; no loop error, no task, thread or file more."""
    caplog.set_level(logging.WARNING)
    with echo_server() as server, running_app() as app:
        portal: Portal = app.extensions["gatekey"].portal
        pool = EchoPool(server.port, size=CONNECTIONS)

        @app.get("/echo/<text>")
        async def echo(text: str) -> str:
            return "echo " + await pool.echo(text)

        assert _ask(app, range(1)) == 1  # what is made once is made now
        gc.collect()
        tasks, files, threads = portal.run(_tasks), _open_files(), threading.active_count()
        share = REQUESTS // THREADS + 1
        with ThreadPoolExecutor(THREADS) as executor:
            parts = [range(n * share, (n + 1) * share) for n in range(THREADS)]
            answered = sum(executor.map(lambda numbers: _ask(app, numbers), parts))

        assert answered == share * THREADS >= REQUESTS
        assert server.opened == server.current <= CONNECTIONS
        assert portal.run(_tasks) == tasks
        assert not portal._pending
        portal.run(pool.close)
        wait_until(lambda: server.current == 0, "all connections are closed")
        gc.collect()
        wait_until(lambda: _open_files() <= files, "as few files are open as before")
        assert threading.active_count() == threads
    assert not [record for record in caplog.records if record.name == "asyncio"]
