"""Everything that one process of the service consists of, started and stopped as one.

The parts are made by ``service.app.build``; here is only their life: the store opens and the background tasks run on
the process's one event loop, and whoever started them stops them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import structlog

from backends.errors import StoreUnfit
from service.manage.actor import OPERATORS, Actor
from service.observe.admin import AdminServer
from service.observe.families import SOON
from service.portal import Portal
from service.settings import SettingsError, read_policy_file

if TYPE_CHECKING:
    from collections.abc import Coroutine

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
    from service.manage.background import Background
    from service.manage.manager import KeyManager
    from service.observe.metrics import Metrics
    from service.observe.observer import Observer
    from service.observe.writer import LineWriter
    from service.policies import PolicyBook
    from service.settings import Settings

__all__ = ["Gatekey"]

_PING_INTERVAL: Final = 1.0  # seconds between two looks at the store
_COUNT_INTERVAL: Final = 60.0  # seconds between two counts of the keys by state
_LAST_LINES: Final = (
    1.0  # seconds that a stalled log may hold the end up; less than the margin after which it is killed
)
_STOP_LIMIT: Final = 2.0  # seconds that closing may take

_STARTER: Final = Actor(organization_id=OPERATORS, name="command:serve --import", scopes=(), unlimited=True)

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
        manager: KeyManager,
        background: Background,
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
        self.manager = manager
        self._background = background
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
        self._look: asyncio.Task[None] | None = None
        self._admin: AdminServer | None = None
        self._ending = threading.Lock()
        self._end: threading.Event | None = None

    async def start(self) -> None:
        """Open the store, load the seed, watch for changes. On the process's loop; once.

        A store that is down is waited for; raises ``StoreUnfit`` where somebody must change it before it can serve.
        """
        await self.store.open()
        if self._seed is not None:
            await self.manager.load(_STARTER, self._seed)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._watch_store(), name="gatekey-watch"),
            loop.create_task(self._look_after_store(), name="gatekey-store-health"),
            loop.create_task(self._measure_lag(), name="gatekey-loop-lag"),
            loop.create_task(self._background.run(), name="gatekey-background"),
        ]
        self._start_admin()
        error = await self._ping()
        if isinstance(error, StoreUnfit):
            raise error
        # Not before: a million keys take a while to count, and nobody waits for their number.
        self._tasks.append(loop.create_task(self._count_keys(), name="gatekey-key-count"))

    def _start_admin(self) -> None:
        if self.settings.admin_listen is None:
            return
        host, port = self.settings.admin_listen
        try:
            self._admin = AdminServer(host, port, self.metrics)
        except OSError as error:  # another process of the same service has it: decisions matter more than their count
            _log.error("admin_listen_failed", error=error.strerror)

    async def stop(self) -> None:
        """Stop what ``start`` began, within a bounded time, and flush the log; also after a failed start. Never raises."""
        tasks = [*self._tasks, self._look] if self._look is not None else self._tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_LIMIT)
        self._tasks, self._look = [], None
        if self._admin is not None:
            self._admin.close()  # here: an executor may be gone when the interpreter ends
            self._admin = None
        await self._closed("background", self._background.flush())
        await self._closed("cache", self.cache.close())
        await self._closed("store", self.store.close())
        if self.observer.tracing is not None:
            self.observer.tracing.close()
        self.writer.flush()

    async def _closed(self, what: str, closing: Coroutine[Any, Any, None]) -> None:
        """Wait until something is closed, but walk away from a driver that hangs, whatever it does with a cancellation."""
        task = asyncio.create_task(closing)
        done, _ = await asyncio.wait((task,), timeout=_STOP_LIMIT)
        error = task.exception() if done and not task.cancelled() else None
        if not done or error is not None:
            task.cancel()
            _log.warning("not_closed", what=what, error_type=type(error).__name__ if error else "TimeoutError")

    def stop_soon(self) -> None:
        """The process is about to be stopped: whatever hangs then (a client, a view) must not keep it alive.

        A thread ends the process at the end of ``shutdown_timeout``, after the log is written; no line is lost. Called
        again, it does so at once.
        """
        self.lifecycle.drain()
        with self._ending:
            if self._end is not None:
                self._end.set()
                return
            self._end = threading.Event()
        threading.Thread(target=self._end_process, args=(self._end,), name="gatekey-end", daemon=True).start()

    def _end_process(self, hurry: threading.Event) -> None:
        hurried = hurry.wait(self.settings.shutdown_timeout)
        _log.warning("shutdown_forced", hurried=hurried, seconds=self.settings.shutdown_timeout)
        self.writer.close(_LAST_LINES)
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

    async def _watch_store(self) -> None:
        """Hear of changes for as long as the process lives; without the heartbeats the cache trusts less by itself."""
        while True:
            try:
                await self.store.watch(self.cache)
            except Exception as error:  # noqa: BLE001 - a defect of the store must not end the watch
                _log.error("watch_failed", store=self.store.name, error_type=type(error).__name__)
            await asyncio.sleep(_PING_INTERVAL)

    async def _look_after_store(self) -> None:
        while True:
            await asyncio.sleep(_PING_INTERVAL)
            await self._ping()

    async def _count_keys(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the store's health is told elsewhere
                now = self.clock.now()
                self.metrics.keys_counted(await self.store.count_keys(now=now))
                moments = [now + time for time in SOON.values()]
                expiring = await self.store.count_expiring(now=now, until=moments)
                self.metrics.keys_expiring(dict(zip(SOON, expiring, strict=True)))
            await asyncio.sleep(_COUNT_INTERVAL)

    async def _ping(self) -> BaseException | None:
        """Whether the store answers, for ``/readyz`` and the metrics; logged when it changes. Why not, if not.

        A look that hangs is not repeated: a driver that ignores its cancellation would gather them.
        """
        if self._look is None:
            self._look = asyncio.create_task(self.store.ping())
        done, _ = await asyncio.wait((self._look,), timeout=_STOP_LIMIT)
        if not done:
            self._store_answers("TimeoutError")
            return TimeoutError()
        look, self._look = self._look, None
        error = asyncio.CancelledError() if look.cancelled() else look.exception()
        self._store_answers(type(error).__name__ if error is not None else "")
        return error

    def _store_answers(self, error_type: str) -> None:
        before, up = self.lifecycle.store_up, not error_type
        self.lifecycle.store_answers(up=up)
        self.metrics.store_up(up=up)
        if before is not False and not up:
            _log.warning("store_lost", store=self.store.name, error_type=error_type)
        elif before is False and up:
            _log.info("store_back", store=self.store.name)

    async def _measure_lag(self) -> None:
        """How late the loop wakes a task that asked for 100 ms: the first sign of something that blocks it."""
        loop = asyncio.get_running_loop()
        while True:
            wanted = loop.time() + 0.1
            await asyncio.sleep(0.1)
            self.metrics.loop_lag(max(0.0, loop.time() - wanted))
