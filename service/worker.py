"""A worker process, from its birth until it serves.

Signals wait until they can be heeded: they are blocked from before the fork, so none kills a half-made worker and none
is lost. SIGTERM is Granian's, and the only one that reaches it (two at the same time can hang its WSGI workers); SIGINT
is left to the parent; the others are the parent's words and go to a thread of their own, because a main thread that
waits for a lock may miss the second of two signals. A worker that cannot start says why to its parent.
"""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.util
import os
import signal
import threading
import traceback
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from backends.errors import StoreError
from service.app import build, create_app
from service.front import Front
from service.observe.peers import Peer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from service.auth.keyfile import Seed
    from service.observe.peers_wire import Link
    from service.runtime import Gatekey
    from service.settings import Settings

__all__ = ["SIGNALS", "STARTED", "Interface", "Loader", "collect_briefly"]

Interface = Literal["rsgi", "wsgi"]

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a worker is started with blocked."""

STARTED: Final = ""
"""What a worker says when it serves; anything else is the reason why it cannot."""

_CANNOT_START: Final = 78  # EX_CONFIG
_OLDEST: Final = 2  # of the garbage collector's generations


class Loader:
    """Makes a worker's application, in the worker.

    ``voice`` is its way to tell the parent how that went, ``link`` its part in the scrapes of several workers.
    ``deaths`` is for one that tells of itself alone: how many ended before it.
    """

    def __init__(
        self,
        settings: Settings,
        seed: Seed | None,
        interface: Interface,
        *,
        voice: Connection | None = None,
        link: Link | None = None,
        deaths: int = 0,
    ) -> None:
        self.settings = settings
        self._seed = seed
        self._interface = interface
        self._voice = voice
        self._link = link
        self._deaths = deaths

    def for_worker(self, voice: Connection, link: Link | None, *, deaths: int) -> Loader:
        """The same for one worker, with the settings of now; of several workers none has the port that all share."""
        settings = self.settings if link is None else self.settings.model_copy(update={"admin_listen": None})
        return Loader(settings, self._seed, self._interface, voice=voice, link=link, deaths=deaths)

    def __call__(self) -> Any:
        """The application, in the form that Granian's interface takes."""
        with self.explained():
            gatekey = build(self.settings, seed=self._seed)
        gatekey.metrics.supervised(configured=self.settings.worker_count, deaths=self._deaths)
        with self.explained(gatekey):
            return _Front(gatekey, self) if self._interface == "rsgi" else self._wsgi(gatekey)

    def _wsgi(self, gatekey: Gatekey) -> Any:
        application = create_app(gatekey=gatekey)
        gatekey.portal.start()  # now, not with the first request
        signal.signal(signal.SIGTERM, _leave)  # until Granian sets its own, in a moment
        # A process of multiprocessing ends without running atexit's handlers; this one it does run.
        multiprocessing.util.Finalize(None, gatekey.portal.stop, exitpriority=10)
        self.started(gatekey)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        return application

    def started(self, gatekey: Gatekey) -> None:
        """Tell the parent, and from now on do what it says, and end when it ends."""
        if self._link is not None:
            peer = Peer(self._link, gatekey.metrics.reader())
            gatekey.metrics.answer_for_all(peer.page)
            peer.start()
            multiprocessing.util.Finalize(None, peer.close, exitpriority=5)  # when all is counted
        collect_briefly()
        self._say(STARTED)
        for target in (_obey, _end_with_parent):
            threading.Thread(target=target, args=(gatekey,), name="gatekey-worker", daemon=True).start()

    @contextmanager
    def explained(self, gatekey: Gatekey | None = None) -> Iterator[None]:
        """Whatever keeps the worker from starting becomes one line for the parent, and ends the worker."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a third-party store may raise anything
            self._say(_explanation(error))
            if gatekey is not None:
                gatekey.writer.close()
            os._exit(_CANNOT_START)

    def _say(self, word: str) -> None:
        if self._voice is not None:
            self._voice.send(word)
            self._voice.close()


class _Front(Front):
    """The front, whose start is told to the parent."""

    def __init__(self, gatekey: Gatekey, loader: Loader) -> None:
        super().__init__(gatekey)
        self._loader = loader

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._loader.explained(self._gatekey):
            super().__rsgi_init__(loop)
        self._loader.started(self._gatekey)
        # uvloop loses signals while it does not run, so they stay blocked until Granian runs it for good.
        loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, (signal.SIGTERM,))


def collect_briefly() -> None:
    """From now on a full collection walks through what is new since the last one, not through all that the process holds.

    With a million keys in the cache each of them stopped every thread for 1.3 s. Whatever survives one is left alone
    from then on; entries hold no cycles, so they go when nobody refers to them, as before. The price is a cycle that
    was alive in that moment and is garbage later: a few objects for each full collection.
    """
    gc.collect()
    gc.freeze()
    if _freeze not in gc.callbacks:
        gc.callbacks.append(_freeze)


def _freeze(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == _OLDEST:
        gc.freeze()


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def _obey(gatekey: Gatekey) -> None:
    actions = {
        signal.SIGUSR1: gatekey.lifecycle.drain,
        signal.SIGUSR2: gatekey.stop_soon,
        signal.SIGHUP: gatekey.reload_policies,
    }
    while True:
        actions[signal.Signals(signal.sigwait(actions))]()


def _end_with_parent(gatekey: Gatekey) -> None:
    """Nobody else would stop a worker whose parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        gatekey.stop_soon()
        os.kill(os.getpid(), signal.SIGTERM)


def _explanation(error: Exception) -> str:
    """Stores say what is wrong in words for the operator; of any other error only type and place, it may hold a secret."""
    if isinstance(error, StoreError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"the service cannot start: {type(error).__name__} in {PurePath(place.filename).name}, line {place.lineno}"
