"""Gatekey in the test's process with its store, locks, event loop, series and lines counted: behind Granian, or behind Flask."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

import flask

from service.auth.clock import SystemClock
from service.front import Front
from tests.support import leaks, raw_http
from tests.support.app import built_gatekey
from tests.support.cases import OWN_SECRET, five, import_lines
from tests.support.counted import WatchedApplication, count_on, locks_counted
from tests.support.faulty_store import FaultyStore
from tests.support.rsgi_server import rsgi_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from service.runtime import Gatekey
    from tests.support.cases import Lines
    from tests.support.counted import Counts


class _StandingClock(SystemClock):
    """No entry ages while a busy machine takes its time; asking it costs what asking the real one does."""

    def __init__(self) -> None:
        super().__init__()
        self.age = cast("Any", repeat(self.age()).__next__)


class CountedGatekey:
    """One process's Gatekey, with the keys of ``tests.support.cases``."""

    def __init__(self, gatekey: Gatekey, store: FaultyStore, log: str) -> None:
        self.gatekey = gatekey
        self.store = store
        self._log = log

    def series(self, name: str) -> dict[str, float]:
        """All series of one name by their labels' values; reading them adds up what was noted before."""
        samples = (sample for family in self.gatekey.metrics.registry.collect() for sample in family.samples)
        return {"/".join(found.labels.values()): found.value for found in samples if found.name == f"gatekey_{name}"}

    def lines(self) -> list[bytes]:
        """Every decision's line so far."""
        assert self.gatekey.writer.flush(10)
        with open(self._log, "rb") as log:  # noqa: PTH123 - another descriptor writes it
            data = log.read()
        leaks.check(data.decode(), "the log")
        return [line for line in data.splitlines(keepends=True) if b'"event":"auth.decision"' in line]


@contextmanager
def counted_gatekey() -> Iterator[CountedGatekey]:
    """Built, for whoever starts it on a loop."""
    leaks.register(OWN_SECRET)
    store = FaultyStore()
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.NamedTemporaryFile())
        building = built_gatekey(
            import_lines(),
            environ={"GATEKEY_LOG_SUMMARIZE": "off"},
            store=store,
            clock=_StandingClock(),
            log_fd=log.fileno(),
        )
        with locks_counted():
            gatekey = stack.enter_context(building)
        yield CountedGatekey(gatekey, store, log.name)


class CountedFront:
    """The front behind a Granian in this process."""

    def __init__(self, counted: CountedGatekey, application: WatchedApplication, port: int) -> None:
        self.counted = counted
        self._application = application
        self._port = port
        self.flask_contexts = 0
        """Those that Flask has made, in any thread."""

    def ask(self, target: str, lines: Lines = ()) -> tuple[int, Counts]:
        """The status of the answer to a proxy's question, and what it cost on the event loop."""
        usual = (("Host", "gatekey"), ("User-Agent", "curl/8.5.0"))
        answer = raw_http.request(self._port, "GET", target, (*usual, *five(), *lines))
        return answer.status, self._application.seen[-1]

    def note_context(self, _sender: Any, **_: Any) -> None:
        self.flask_contexts += 1


@contextmanager
def counted_front() -> Iterator[CountedFront]:
    """Gatekey on the loop of that Granian, as in a worker process."""
    with counted_gatekey() as counted:
        front = Front(counted.gatekey)
        application = WatchedApplication(front)

        @asynccontextmanager
        async def life() -> AsyncIterator[
            None
        ]:  # what ``__rsgi_init__`` and ``__rsgi_del__`` do on a loop not yet running
            loop = asyncio.get_running_loop()
            counted.gatekey.portal.attach(loop)
            await counted.gatekey.start()
            count_on(loop)
            yield
            counted.gatekey.portal.detach()
            front._bridge.close()
            await counted.gatekey.stop()

        with rsgi_server(application, life=life) as port:
            found = CountedFront(counted, application, port)
            with flask.appcontext_pushed.connected_to(found.note_context):
                yield found
