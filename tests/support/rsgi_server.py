"""Granian inside the test's process, so that a test can look at both ends of a connection."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from tests.support.servers import accepts, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager


@contextmanager
def rsgi_server(
    application: Any, *, life: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
) -> Iterator[int]:
    """The port on which an RSGI application (an object with ``__rsgi__``) is served, on a thread with a loop of its own.

    ``life`` is what must be begun on that loop before the first request, and ended after the last one.
    """
    port = free_port()
    ready: list[tuple[asyncio.AbstractEventLoop, Server]] = []

    async def run() -> None:
        async with life():
            server = Server(
                application,
                port=port,
                interface=Interfaces.RSGI,
                http=HTTPModes.http1,
                websockets=False,
                log_enabled=False,
            )
            ready.append((asyncio.get_running_loop(), server))
            await server.serve()

    logging.getLogger("_granian").disabled = True  # it says with a warning that being embedded is experimental
    thread = threading.Thread(target=lambda: asyncio.run(run()), name="rsgi-server")
    thread.start()
    try:
        wait_until(lambda: accepts(port), "the server accepts connections")
        yield port
    finally:
        loop, server = ready[0]
        loop.call_soon_threadsafe(server.stop)
        thread.join(10)
        logging.getLogger("_granian").disabled = False
    assert not thread.is_alive(), "the server does not end"
