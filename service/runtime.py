"""Everything that one process of the service consists of, started and stopped as one.

The parts are made by ``service.app.build``; here is only their life: the store opens and the background tasks run on
the process's one event loop, and whoever started them stops them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import start_http_server

from backends.errors import StoreError, StoreUnavailable
from service.portal import Portal
from service.settings import SettingsError, read_policy_file

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from backends.contract import KeyStore
    from service.answers.next_url import NextUrls
    from service.answers.responder import Responder
    from service.auth.authenticator import Authenticator
    from service.auth.cache import KeyCache
    from service.auth.clock import Clock
    from service.auth.keyfile import Seed
    from service.doors.doors import Doors
    from service.doors.peers import TrustedProxies
    from service.lifecycle import Lifecycle
    from service.observe.metrics import Metrics
    from service.observe.observer import Observer
    from service.observe.writer import LineWriter
    from service.policies import PolicyBook
    from service.settings import Settings

__all__ = ["Gatekey"]

_PING_INTERVAL: Final = 1.0  # seconds between two looks at the store
_COUNT_EVERY: Final = 60  # looks between two counts of the keys by state
_STOP_LIMIT: Final = 2.0  # seconds that closing may take

_log = structlog.get_logger(__name__)


class Gatekey:
    """The parts of one process, and their life on its event loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        observer: Observer,
        store: KeyStore,
        cache: KeyCache,
        authenticator: Authenticator,
        policies: PolicyBook,
        proxies: TrustedProxies,
        next_urls: NextUrls,
        responder: Responder,
        doors: Doors,
        lifecycle: Lifecycle,
        writer: LineWriter,
        seed: Seed | None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.observer = observer
        self.store = store
        self.cache = cache
        self.authenticator = authenticator
        self.policies = policies
        self.proxies = proxies
        self.next_urls = next_urls
        self.responder = responder
        self.doors = doors
        self.lifecycle = lifecycle
        self.portal = Portal(startup=self.start, shutdown=self.stop)
        self.writer = writer
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []
        self._admin: tuple[WSGIServer, Thread] | None = None

    async def start(self) -> None:
        """Open the store, load the seed, watch for changes. On the process's loop; once."""
        await self.store.open()
        if self._seed is not None:
            await self.store.add_many(self._seed.organizations, self._seed.records)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.store.watch(self.cache), name="gatekey-watch"),
            loop.create_task(self._look_after_store(), name="gatekey-store-health"),
            loop.create_task(self._measure_lag(), name="gatekey-loop-lag"),
        ]
        if self.settings.admin_listen is not None:
            host, port = self.settings.admin_listen
            self._admin = start_http_server(port, host, self.metrics.registry)
        await self._ping()

    async def stop(self) -> None:
        """Stop what ``start`` began, within a bounded time, and flush the log; also after a failed start."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_LIMIT)
        self._tasks = []
        if self._admin is not None:
            server, _ = self._admin
            await asyncio.get_running_loop().run_in_executor(None, server.shutdown)
            server.server_close()
            self._admin = None
        await self.cache.close()
        with contextlib.suppress(TimeoutError, StoreError):
            async with asyncio.timeout(_STOP_LIMIT):
                await self.store.close()
        self.writer.flush()

    def stop_soon(self) -> None:
        """The process is about to be stopped: whatever hangs then (a client, a view) must not keep it alive.

        A thread ends the process at the end of ``shutdown_timeout``, after the log is written; no line is lost.
        """
        self.lifecycle.drain()
        threading.Thread(target=self._end_process, name="gatekey-end", daemon=True).start()

    def _end_process(self) -> None:
        time.sleep(self.settings.shutdown_timeout)
        _log.warning("shutdown_forced", seconds=self.settings.shutdown_timeout)
        self.writer.close()
        os._exit(0)

    def reload_policies(self) -> None:
        """Read the policies again, all or nothing; what is wrong is logged and the old ones stay in force."""
        path = self.settings.config_path
        try:
            policies = {} if path is None else read_policy_file(path)
        except SettingsError as error:
            _log.error("policies_not_reloaded", problems=list(error.problems))
            return
        if path is not None:
            self.policies.replace(policies)
        _log.info("policies_reloaded", policies=len(self.policies))

    async def _look_after_store(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(_PING_INTERVAL)
            await self._ping()
            if looks % _COUNT_EVERY == 0:
                with contextlib.suppress(StoreError, TimeoutError):
                    async with asyncio.timeout(_STOP_LIMIT):
                        self.metrics.keys_counted(await self.store.count_keys(now=self.clock.now()))
            looks += 1

    async def _ping(self) -> None:
        """Whether the store answers, for ``/readyz`` and the metrics; logged when it changes."""
        before = self.lifecycle.store_up
        try:
            async with asyncio.timeout(_STOP_LIMIT):
                await self.store.ping()
        except (StoreUnavailable, TimeoutError) as error:
            self.lifecycle.store_answers(up=False)
            self.metrics.store_up(up=False)
            if before is not False:
                _log.warning("store_lost", store=self.store.name, error_type=type(error).__name__)
        else:
            self.lifecycle.store_answers(up=True)
            self.metrics.store_up(up=True)
            if before is False:
                _log.info("store_back", store=self.store.name)

    async def _measure_lag(self) -> None:
        """How late the loop wakes a task that asked for 100 ms: the first sign of something that blocks it."""
        loop = asyncio.get_running_loop()
        while True:
            wanted = loop.time() + 0.1
            await asyncio.sleep(0.1)
            self.metrics.loop_lag(max(0.0, loop.time() - wanted))
