"""Async views of an application on Granian's RSGI loop: one connection pool for all requests, no leak at the end."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.support.echo import echo_server
from tests.support.processes import HOST
from tests.support.raw_http import RawConnection, render
from tests.support.servers import ROOT, Process, accepts, clean_environment, free_port, wait_until

REQUESTS = 1_000
THREADS = 16
CONNECTIONS = 4

PROGRAM = f"""
import asyncio, os
import service.front
from service import create_app
from service.cli import main
from tests.support.echo import EchoPool

def with_views(**options):
    app = create_app(**options)
    pool = EchoPool(int(os.environ["GATEKEY_TEST_PORT"]), size={CONNECTIONS})

    @app.get("/echo/<text>")
    async def echo(text):
        return "echo " + await pool.echo(text)

    @app.get("/tasks")
    async def tasks():
        return str(len(asyncio.all_tasks()))

    return app

service.front.create_app = with_views
main(["serve"])
"""


def _ask(port: int, paths: list[str]) -> list[str]:
    with RawConnection(port) as connection:
        answers = []
        for path in paths:
            connection.send(render("GET", path, HOST))
            answers.append(connection.receive().body.decode())
        return answers


def test_many_requests_over_one_pool_on_the_workers_loop() -> None:
    """1,000 requests over 16 connections use 4 of the pool, and leave no task on the loop."""
    port = free_port()
    with echo_server() as echo:
        env = {"GATEKEY_PORT": str(port), "GATEKEY_DRAIN": "0", "GATEKEY_TEST_PORT": str(echo.port)}
        server = Process([sys.executable, "-c", PROGRAM], env={**clean_environment(), **env}, cwd=ROOT)
        try:
            wait_until(lambda: accepts(port) or server.returncode is not None, "the service listens")
            before = _ask(port, ["/tasks", "/tasks"])
            parts = [[f"/echo/{thread}-{n}" for n in range(REQUESTS // THREADS + 1)] for thread in range(THREADS)]
            with ThreadPoolExecutor(THREADS) as pool:
                answers = list(pool.map(lambda paths: _ask(port, paths), parts))
            assert answers == [[path.replace("/echo/", "echo ") for path in paths] for paths in parts]
            assert 1 <= echo.opened == echo.current <= CONNECTIONS
            wait_until(lambda: _ask(port, ["/tasks"])[0] in before, "no more tasks than before")
        finally:
            code = server.stop()
        assert code == 0
        wait_until(lambda: echo.current == 0, "the connections are closed")
    assert not [line for line in server.lines if "rror" in line]
