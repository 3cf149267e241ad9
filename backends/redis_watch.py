"""The announcing connection: what changed, by whatever hand, and a sign of life through the same path.

Two kinds of announcement come through one RESP3 connection: our scripts' messages, which say when, and the server's own
client tracking (``CLIENT TRACKING ON BCAST PREFIX gk:{b``), which also tells what somebody wrote, deleted or let expire
with redis-cli, and of a FLUSHALL. Tracking and not keyspace events, because it needs no setting of the server, belongs
to the connection (when that is lost, so is the claim to know), and names a key once however often it changed.
The driver's own pub/sub is not used: it subscribes again in silence and loses what was said in between. Here a lost
connection is dropped, and everything forgotten once a new one listens.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from redis.exceptions import ReadOnlyError, ResponseError

from backends.elapsed import elapsed_clock
from backends.errors import StoreUnavailable
from backends.records import Origin
from backends.redis_announcements import Announcements
from backends.redis_connect import check_server
from backends.redis_errors import FAILURES, unavailable
from backends.redis_link import Link

if TYPE_CHECKING:
    from backends.contract import ChangeListener
    from backends.redis_connection import Wire
    from backends.redis_keys import Names

__all__ = ["Watchers"]

_JITTER: Final = random.SystemRandom()  # of its own state, so that a fork does not copy it
_HEARTBEAT: Final = 0.5  # seconds, as all of these
_MISSING: Final = 1.0  # after a heartbeat was sent: with the pause before it, three are missing
_SETUP: Final = 2.0
_LOG: Final = 3.0
_LONGEST_PAUSE: Final = 0.5
_BARRIER: Final = 2.0
_LOG_PAGE: Final = 1_000
_NOT_TRACKED: Final = (
    "redis: the server refuses CLIENT TRACKING, so changes made by hand are noticed only when cached keys expire"
)

_log = logging.getLogger(__name__)


class Watchers:
    """All that listen in this process; one, outside of tests."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._all: list[_Watcher] = []

    def everything_changed(self) -> None:
        """Tell all listeners: somebody saw another epoch."""
        for watcher in self._all:
            watcher.listener.everything_changed()

    async def watch(self, listener: ChangeListener, wire: Wire) -> None:
        """See the contract."""
        watcher = _Watcher(listener, wire, self._names)
        self._all.append(watcher)
        try:
            await watcher.run()
        finally:
            self._all.remove(watcher)
            watcher.end()

    async def barrier(self) -> None:
        """See the contract."""
        if not self._all:
            raise StoreUnavailable("redis: nobody watches the store in this process")
        try:
            async with asyncio.timeout(_BARRIER):
                came_back = [await waiter for waiter in [watcher.next_heartbeat() for watcher in self._all]]
        except TimeoutError:
            raise StoreUnavailable("redis: no announcement comes back from the server") from None
        if not all(came_back):
            raise StoreUnavailable("redis: nobody watches the store in this process any more")


class _Watcher:
    def __init__(self, listener: ChangeListener, wire: Wire, names: Names) -> None:
        self.listener = listener
        self._wire = wire
        self._names = names
        self._alive = names.alive(secrets.token_hex(8))
        self._waiting: list[asyncio.Future[bool]] = []
        self._wake = asyncio.Event()
        self._told_untracked = False

    def next_heartbeat(self) -> asyncio.Future[bool]:
        """``True`` when a heartbeat has come back that was sent after this call, ``False`` when none will."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._wake.set()
        return waiter

    def end(self) -> None:
        """Whoever waits hears that nothing comes any more."""
        self._answer(self._waiting, came_back=False)

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            since = time.monotonic()
            try:
                await self._session()
            except (*FAILURES, StoreUnavailable) as error:
                if isinstance(error, ReadOnlyError):
                    with suppress(*FAILURES):
                        await self._wire.leave()
                failures = 1 if time.monotonic() - since > _SETUP else failures + 1
                if failures == 1:
                    reason = error if isinstance(error, StoreUnavailable) else unavailable(error)
                    _log.warning("redis: the announcing connection is lost, connecting again: %s", reason)
            if failures > 1:  # the first time at once
                await asyncio.sleep(_LONGEST_PAUSE * min(1, 2**failures / 16) * _JITTER.uniform(0.5, 1))

    async def _session(self) -> None:
        """From one connection to its end, which is always an exception."""
        announcements = Announcements(self.listener, self._names, self._alive)
        link = Link(self._wire.link(), announcements.take, self._wake.set)
        try:
            async with asyncio.timeout(_SETUP):
                await link.open()
                announcements.tracking = await self._track(link)
                await link.send("SUBSCRIBE", self._names.changes, self._alive)
                await link.until(announcements.subscribed)
                position = await self._end_of_log(link)
            announcements.start()
            looked = time.monotonic()
            while True:
                began = time.monotonic()
                await self._beat(link, announcements)
                if time.monotonic() - looked >= _LOG:
                    position = await self._look_through_log(link, announcements, position)
                    looked = time.monotonic()
                await self._pause(began + _HEARTBEAT - time.monotonic())
        finally:
            await link.close()

    async def _track(self, link: Link) -> bool:
        try:
            await link.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._names.tracked)
        except ResponseError:
            if not self._told_untracked:
                _log.warning(_NOT_TRACKED)
            self._told_untracked = True
            return False
        return True

    async def _beat(self, link: Link, announcements: Announcements) -> None:
        """One sign of life, there and back; whoever has waited for one to be sent hears of it."""
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        sent = elapsed_clock()
        try:
            async with asyncio.timeout(_MISSING):
                back = announcements.expect(sent, elapsed_clock)
                check_server(await link.call("HELLO"))  # a primary may become a copy under its connections
                await link.call("PUBLISH", self._alive, b"%r" % sent)
                await link.until(back)
        except BaseException:
            self._waiting = waiting + self._waiting
            raise
        self._answer(waiting, came_back=True)

    def _answer(self, waiting: list[asyncio.Future[bool]], *, came_back: bool) -> None:
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(came_back)

    async def _pause(self, seconds: float) -> None:
        """Until the next heartbeat is due, somebody waits for one, or the link has ended."""
        if not self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, 0)):
                    await self._wake.wait()

    async def _end_of_log(self, link: Link) -> bytes | None:
        last = await link.call("XREVRANGE", self._names.own("log"), "+", "-", "COUNT", 1)
        return bytes(last[0][0]) if last else None

    async def _look_through_log(self, link: Link, announcements: Announcements, position: bytes | None) -> bytes | None:
        """Read the log from its last known entry on, that one included: if it is gone, so may be others.

        On this same connection, since then everything that was announced before has been heard before the answer.
        """
        while True:
            async with asyncio.timeout(_MISSING):
                entries = await link.call("XRANGE", self._names.own("log"), position or "-", "+", "COUNT", _LOG_PAGE)
            if position is not None and (not entries or entries[0][0] != position):
                position = await self._end_of_log(link)  # before it is told: what comes after that is news
                self.listener.everything_changed(origin=Origin.CHANGE_LOG)
                return position
            new = entries if position is None else entries[1:]
            for entry_id, fields in new:
                announcements.logged(entry_id, fields)
            position = bytes(new[-1][0]) if new else position
            if len(entries) < _LOG_PAGE:
                announcements.forget()
                return position
