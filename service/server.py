"""Granian with our own supervision: draining before stopping, a bounded end, workers replaced at once.

SIGTERM: the workers say "not ready" for ``GATEKEY_DRAIN`` seconds while they still serve, then stop accepting, finish
what is under way within ``GATEKEY_SHUTDOWN_TIMEOUT``, and the service exits with 0, whatever a client does meanwhile.
Ctrl-C skips the draining, a second signal hurries it. SIGHUP: the policies are read again.
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import structlog
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer, WorkerProcess

from backends.errors import StoreError
from service.app import build, create_app
from service.front import Front
from service.observe.logs import configure_logging
from service.observe.writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.auth.keyfile import Seed
    from service.settings import Settings

__all__ = ["AddressInUse", "serve"]

Interface = Literal["rsgi", "wsgi"]

_CANNOT_START: Final = 78  # EX_CONFIG: a worker whose settings or store cannot work; another try would not either
_MAX_EARLY_DEATHS: Final = 5  # in a row, each within _EARLY seconds of its birth
_EARLY: Final = 5.0
_MAX_BACKOFF: Final = 5.0
_CONNECTIONS: Final = 16384  # per worker; half-open ones count too, so this is far above what is useful
_WSGI_THREADS: Final = 4

_log = structlog.get_logger(__name__)


class AddressInUse(Exception):
    """Somebody else listens there already."""


def serve(
    settings: Settings,
    *,
    seed: Seed | None = None,
    interface: Interface = "rsgi",
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve until a signal ends it; raises ``AddressInUse``, and ``SystemExit`` 1 when no worker can start.

    ``on_ready`` is called once, on a thread of its own, when the first worker accepts connections.
    """
    _raise_file_limit()
    _check_address(settings)
    server = _Server(settings, interface)
    configure_logging(LineWriter(1), console=settings.log_format == "console", level=settings.log_level)
    if on_ready is not None:
        threading.Thread(target=_call_when_ready, args=(settings, on_ready), daemon=True).start()
    server.serve(target_loader=_Loader(settings, seed, interface), wrap_loader=False)


class _Loader:
    """Makes a worker's application, in the worker."""

    def __init__(self, settings: Settings, seed: Seed | None, interface: Interface) -> None:
        self._settings = settings
        self._seed = seed
        self._interface = interface

    def __call__(self) -> Any:
        try:
            gatekey = build(self._settings, seed=self._seed)
            if self._interface == "rsgi":
                return Front(gatekey)
            application = create_app(gatekey=gatekey)
            gatekey.portal.is_alive()  # start the loop and open the store now, not with the first request
        except (StoreError, ValueError) as error:
            sys.stderr.write(f"gatekey: {error}\n")
            sys.stderr.flush()
            os._exit(_CANNOT_START)
        signal.signal(signal.SIGUSR1, lambda *_: gatekey.lifecycle.drain())
        signal.signal(signal.SIGUSR2, lambda *_: gatekey.stop_soon())
        signal.signal(signal.SIGHUP, lambda *_: gatekey.reload_policies())
        # A worker of multiprocessing ends without running atexit's handlers; this one it does run.
        multiprocessing.util.Finalize(None, gatekey.portal.stop, exitpriority=10)
        return application


class _Worker(WorkerProcess):
    """Granian's worker process, with our own word about its end."""

    def _watcher(self) -> None:
        self.inner.join()
        if not self.interrupt_by_parent and not self.parent.interrupt_signal:
            parent = cast("_Server", self.parent)
            parent.worker_died(self.idx, self.inner.exitcode, time.monotonic() - self.birth)


class _Server(MPServer):
    """Granian's server, supervised as the module says."""

    def __init__(self, settings: Settings, interface: Interface) -> None:
        rsgi = interface == "rsgi"
        super().__init__(
            "gatekey",
            address=settings.host,
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
            backlog=2048,
            backpressure=_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=5_000, max_buffer_size=512 * 1024),
            log_level=LogLevels.warning,
            ssl_cert=settings.tls_cert,
            ssl_key=settings.tls_key,
            ssl_ca=settings.tls_client_ca,
            ssl_client_verify=settings.tls_client_ca is not None,
            ssl_protocol_min=SSLProtocols.tls12,
            workers_kill_timeout=settings.shutdown_timeout + 2.0,  # type: ignore[arg-type]  # only ever given to join()
            respawn_failed_workers=True,
        )
        self._drain = settings.drain
        self._deaths: list[tuple[int, int | None, float]] = []
        self._early_deaths = 0
        self._skip_drain = False
        self._hurry = threading.Event()

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> WorkerProcess:  # type: ignore[override]  # as MPServer
        worker = super()._spawn_worker(idx, target, callback_loader)
        worker.__class__ = _Worker  # Granian names the class in one place; its constructor has nothing of ours to do
        return worker

    # -- signals ------------------------------------------------------------------------------------------------------

    def signal_handler_interrupt(self, signum: int = 0, *_: Any) -> None:
        """SIGTERM, SIGINT: begin to stop, or hurry."""
        if self.interrupt_signal:
            self._hurry.set()
        self._skip_drain = self._skip_drain or signum == signal.SIGINT
        self.interrupt_signal = True
        self.main_loop_interrupt.set()

    def _tell_workers(self, signum: signal.Signals) -> None:
        for worker in self.wrks:
            if worker.inner.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.inner.pid, signum)

    # -- supervision --------------------------------------------------------------------------------------------------

    def worker_died(self, idx: int, exit_code: int | None, age: float) -> None:
        """A worker ended on its own (on the thread that waits for it)."""
        self._deaths.append((idx, exit_code, age))
        self.main_loop_interrupt.set()

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        while True:
            self.main_loop_interrupt.wait()
            self.main_loop_interrupt.clear()
            if self.interrupt_signal:
                return
            if self.reload_signal:
                self.reload_signal = False
                self._tell_workers(signal.SIGHUP)
            while self._deaths:
                idx, exit_code, age = self._deaths.pop(0)
                self._early_deaths = self._early_deaths + 1 if age < _EARLY else 0
                if exit_code == _CANNOT_START or self._early_deaths >= _MAX_EARLY_DEATHS:
                    _log.critical("workers_cannot_start", exit_code=exit_code)
                    self._drain = 0
                    self._failed = True
                    return
                _log.error("worker_died", worker=idx + 1, exit_code=exit_code)
                if self._early_deaths > 1:  # the first replacement comes at once
                    self._hurry.wait(min(0.25 * 2**self._early_deaths, _MAX_BACKOFF))
                self._respawn_workers([idx], spawn_target, target_loader)

    _failed = False

    def shutdown(self, exit_code: int = 0) -> None:
        """Drain, stop, and leave with 0; with 1 when the workers could not start."""
        if self._drain and not self._skip_drain:
            _log.info("draining", seconds=self._drain)
            self._tell_workers(signal.SIGUSR1)
            self._hurry.wait(self._drain)
        else:
            self._tell_workers(signal.SIGUSR1)
        self._tell_workers(signal.SIGUSR2)
        super().shutdown(1 if self._failed else exit_code)  # type: ignore[no-untyped-call]  # Granian is untyped
        _log.info("stopped")


def _raise_file_limit() -> None:
    """As many open connections as the system lets this process have; the usual soft limit of 1,024 is soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_address(settings: Settings) -> None:
    """Refuse an address in use: Granian's sockets share their port, so two services would silently share the traffic."""
    if settings.uds is not None:
        _remove_stale_socket(settings.uds)
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise AddressInUse(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another GATEKEY_HOST or GATEKEY_PORT"
        ) from None


def _remove_stale_socket(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressInUse("GATEKEY_UDS names a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise AddressInUse("GATEKEY_UDS names a socket on which somebody else listens")


def _call_when_ready(settings: Settings, on_ready: Callable[[], None]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if settings.uds is not None:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(settings.uds))
            else:
                host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared
                socket.create_connection((host, settings.port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            on_ready()
            return
