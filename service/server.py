"""Granian with our own supervision: draining before stopping, a bounded end, dead workers replaced, one scrape for all.

SIGTERM: the workers say "not ready" for ``GATEKEY_DRAIN`` seconds while they still serve, then stop accepting, finish
what is under way within ``GATEKEY_SHUTDOWN_TIMEOUT``, and the service exits with 0, whatever a client does meanwhile.
Ctrl-C skips the draining, each further signal skips what is waited for. SIGHUP: the policies are read again.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import socket
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketSpec  # type: ignore[attr-defined]  # exported without saying so
from granian.server.mp import MPServer

from service.listen import AddressInUse, CannotServe, call_when_accepting, check, raise_file_limit
from service.observe.admin import AdminServer
from service.observe.logs import configure_logging
from service.observe.peers_hub import Hub
from service.observe.writer import LineWriter
from service.settings import SettingsError, read_policy_file
from service.worker import Loader
from service.worker_process import Birth, Death, Patience, SupervisedWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.auth.keyfile import Seed
    from service.settings import Settings
    from service.worker import Interface

__all__ = ["AddressInUse", "CannotServe", "serve"]

_MAX_FAILED_STARTS: Final = 3  # in a row
_LOOK_UP: Final = 0.5  # seconds between two looks for signals: one that the kernel hands to another thread wakes nobody
_IDLE_LIMIT: Final = 20_000  # ms that a connection may be idle or take for a request's headers
_READ_BUFFER: Final = 768 * 1024  # bytes; the parser's limit is soft: 1 MiB of headers is surely refused by it, bare
_BACKLOG: Final = 2048
_WSGI_THREADS: Final = 4
_KILL_MARGIN: Final = 2.0  # seconds after its own end was due until a worker is killed

_log = structlog.get_logger(__name__)


def serve(
    settings: Settings,
    *,
    seed: Seed | None = None,
    interface: Interface = "rsgi",
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve until a signal ends it; raises ``CannotServe`` where an address is taken or no worker can start.

    ``on_ready`` is called once, on a thread of its own, when the first worker accepts connections.
    """
    connections = raise_file_limit()
    address = check(settings)
    server = _Server(settings, Loader(settings, seed, interface), interface, address=address, connections=connections)
    server.on_ready = on_ready
    configure_logging(LineWriter(1), console=settings.log_format == "console", level=settings.log_level)
    try:
        server.serve(target_loader=server.loader, wrap_loader=False)
    except (OSError, RuntimeError) as error:  # no process, no socket: none of the workers must stay behind
        server.shutdown()
        raise CannotServe(
            f"the service cannot run ({getattr(error, 'strerror', None) or type(error).__name__})"
        ) from error
    finally:
        server.stop_scrapes()
    if server.failure:
        raise CannotServe(server.failure)


class _Server(MPServer):
    """Granian's server, supervised as the module says.

    What happens comes over ``news``: a ``SimpleQueue`` may be fed from a signal handler, whatever the main thread does.
    """

    def __init__(
        self, settings: Settings, loader: Loader, interface: Interface, *, address: str, connections: int
    ) -> None:
        rsgi = interface == "rsgi"
        super().__init__(
            "gatekey",
            address=address,
            port=settings.port,
            uds=settings.uds,
            uds_permissions=0o660,
            interface=Interfaces.RSGI if rsgi else Interfaces.WSGI,
            workers=settings.worker_count,
            blocking_threads=None if rsgi else _WSGI_THREADS,
            runtime_mode=RuntimeModes.auto,
            loop=Loops.auto,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=connections,
            http1_settings=HTTP1Settings(header_read_timeout=_IDLE_LIMIT, max_buffer_size=_READ_BUFFER),
            log_level=LogLevels.warning,
            ssl_cert=settings.tls_cert,
            ssl_key=settings.tls_key,
            ssl_ca=settings.tls_client_ca,
            ssl_client_verify=settings.tls_client_ca is not None,
            ssl_protocol_min=SSLProtocols.tls12,
            workers_kill_timeout=settings.shutdown_timeout + _KILL_MARGIN,  # type: ignore[arg-type]  # only ever given to join()
            respawn_failed_workers=True,
        )
        self.loader = loader
        self.news: SimpleQueue[Birth | Death | int] = SimpleQueue()
        self.on_ready: Callable[[], None] | None = None
        self.failure = ""
        self._hub = Hub(workers=settings.worker_count) if settings.worker_count > 1 else None
        self._deaths = 0
        self._admin: AdminServer | None = None
        self._drain = settings.drain
        self._failed_starts = 0
        self._patience = Patience()
        self._stopping = False

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> SupervisedWorker:  # type: ignore[override]  # as MPServer
        ear, voice = multiprocessing.Pipe(duplex=False)
        link = None if self._hub is None else self._hub.link()
        deaths = self._deaths if self._hub is None else 0  # one worker alone tells of its predecessors too
        worker = super()._spawn_worker(idx, target, callback_loader.for_worker(voice, link, deaths=deaths))
        return SupervisedWorker.adopt(worker, ear=ear, voice=voice, link=link, news=self.news)

    def _init_shared_socket(self) -> None:
        """With one worker the parent listens: connections wait while the worker is replaced, instead of being refused.

        Several workers listen for themselves (Linux spreads connections evenly over them), or share a Unix socket.
        """
        if self.workers > 1 or self.bind_uds:
            super()._init_shared_socket()  # type: ignore[no-untyped-call]  # as above
            return
        listener: Any = SocketSpec(self.bind_addr, self.bind_port, self.backlog).build()
        self._ssp, self._shd, self._sfd = None, listener, listener.get_fd()
        self._sso = socket.socket(fileno=self._sfd)
        self._sso.set_inheritable(True)

    def startup(self, spawn_target: Any, target_loader: Any) -> None:
        """Of several workers none can have the port for the metrics, so the parent has it; one worker has its own."""
        super().startup(spawn_target, target_loader)  # type: ignore[no-untyped-call]  # as above
        listen = self.loader.settings.admin_listen
        if self._hub is not None and listen is not None:
            self._admin = AdminServer(*listen, self._hub)

    def stop_scrapes(self) -> None:
        """The last thing to stop, so that the draining can be watched."""
        if self._admin is not None:
            self._admin.close()
        if self._hub is not None:
            self._hub.close()

    # Signal handlers: they run between any two steps of the main thread, so they take no lock and wait for nothing.

    def signal_handler_interrupt(self, signum: int = 0, *_: Any) -> None:
        """SIGTERM, SIGINT: begin to stop, or hurry."""
        self.interrupt_signal = True
        if self._stopping:
            self._tell_workers(signal.SIGUSR2)
        else:
            self.news.put(signum)

    def signal_handler_reload(self, signum: int = 0, *_: Any) -> None:
        """SIGHUP."""
        self.news.put(signum)

    def _tell_workers(self, signum: signal.Signals) -> None:
        for worker in self.wrks:
            if worker.inner.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.inner.pid, signum)

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        """Replace workers and read policies again, until a signal or a failure ends the service."""
        due: dict[int, float] = {}  # worker -> when it is to be replaced
        while not self.failure:
            news = self._next(min(due.values(), default=math.inf))
            if isinstance(news, Birth):
                _log.debug("worker_started", worker=news.worker.idx + 1)
                self._announce()
            elif isinstance(news, Death):
                due[news.worker.idx] = time.monotonic() + self._delay(news.worker)
            elif news == signal.SIGHUP:
                self._reload_policies()
            elif news is not None:
                self._drain = 0 if news == signal.SIGINT else self._drain
                return
            for idx in [idx for idx, when in due.items() if when <= time.monotonic()]:
                del due[idx]
                self._respawn_workers([idx], spawn_target, target_loader)
        self._drain = 0

    def _next(self, until: float) -> Birth | Death | int | None:
        """The next thing that happens; ``None`` when nothing does until then."""
        while (left := until - time.monotonic()) >= 0:
            with contextlib.suppress(Empty):
                return self.news.get(timeout=min(left, _LOOK_UP))
        return None

    def _announce(self) -> None:
        if self.on_ready is not None:
            arguments = (self.loader.settings, self.on_ready)
            threading.Thread(target=call_when_accepting, args=arguments, daemon=True).start()
            self.on_ready = None

    def _delay(self, worker: SupervisedWorker) -> float:
        """Seconds until a dead worker is replaced.

        Where no other worker serves, one that says why it cannot start, or a few that say nothing, end the service.
        """
        exit_code, number = worker.inner.exitcode, worker.idx + 1
        self._deaths += 1
        if self._hub is not None:
            self._hub.deaths = self._deaths
        delay = self._patience.after(worker.idx, served=worker.served)
        if worker.served is not None:
            self._failed_starts = 0
            _log.error("worker_died", worker=number, exit_code=exit_code, replaced_in=delay)
            return delay
        self._failed_starts += 1
        _log.error("worker_not_started", worker=number, exit_code=exit_code, reason=worker.word, tried_in=delay)
        given_up = worker.word is not None or self._failed_starts >= _MAX_FAILED_STARTS
        if given_up and not any(cast("SupervisedWorker", other).serves for other in self.wrks):
            self.failure = worker.word or f"the workers end before they can serve (exit status {exit_code})"
        return delay

    def _reload_policies(self) -> None:
        """Tell the workers, if what they will read is right; one that starts later must have the same."""
        settings = self.loader.settings
        if settings.config_path is not None:
            try:
                policies = read_policy_file(settings.config_path)
            except SettingsError as error:
                _log.error("policies_not_reloaded", problems=list(error.problems))
                return
            self.loader.settings = settings.model_copy(update={"policies": policies})
        self._tell_workers(signal.SIGHUP)

    def shutdown(self, exit_code: int = 0) -> None:
        """Drain, stop within a bounded time, and say so."""
        self.interrupt_signal = True
        self._tell_workers(signal.SIGUSR1)
        if self._drain:
            _log.info("draining", seconds=self._drain)
            self._wait_for_hurry(time.monotonic() + self._drain)
        self._stopping = True
        self._tell_workers(signal.SIGUSR2)
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]  # as above
        _log.info("stopped")

    def _wait_for_hurry(self, until: float) -> None:
        while (news := self._next(until)) is not None:
            if news in (signal.SIGTERM, signal.SIGINT):
                return
