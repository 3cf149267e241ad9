"""How a process hears of changes made by others: ``PRAGMA data_version``, asked 50 times a second on a thread of its own.

It costs microseconds and changes with every commit of another connection, whoever made it. Then the rows of ``changes``
that came since are told. Their numbers have no gap and are in the order of the commits, since there is one writer at a
time; where rows are missing (pruned while this process was paused, or an older file was restored), everything may have changed.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from backends.elapsed import elapsed_clock
from backends.errors import StoreError, StoreNotReady, StoreUnavailable
from backends.records import Origin
from backends.sqlite_errors import StoreBusy, translated
from backends.sqlite_file import StoreGone

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from backends.contract import ChangeListener
    from backends.sqlite_link import Link

__all__ = ["Watcher"]

_POLL: Final = 0.02
_RETRY: Final = 0.1  # where the file cannot be read
_HEARTBEAT: Final = 0.25  # twice as often as promised: a busy loop delays some
_LOOK_THROUGH: Final = 2.0
"""Every so many seconds the changes are read even if the version says that there are none."""
_MANY: Final = 100
"""More changes at once than this are told as one."""
_END: Final = 2.0

# One row for all of it: between two rows Python's interpreter lock may be lost for milliseconds.
_NEWS: Final = f"""
    SELECT (SELECT value FROM meta WHERE name = 'epoch'),
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0),
        (SELECT json_group_array(json_array(at, api_key)) FROM (
            SELECT at, api_key FROM changes WHERE id > ? ORDER BY id LIMIT {_MANY}
        ))
"""  # noqa: S608 - a number of our own


class _Change(NamedTuple):
    at: float | None
    api_key: str | None  # None: any
    origin: Origin


class _Seen(NamedTuple):
    """How far a connection has read."""

    version: int
    head: int
    marker: str


class Watcher:
    """One ``watch``: its thread from ``start`` to ``stop``, and what it tells on the loop."""

    def __init__(self, link: Link, listener: ChangeListener) -> None:
        self._link = link
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="gatekey-sqlite-watch", daemon=True)
        self._poked = threading.Event()
        self._stopping = False
        self._leaving: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._connection: sqlite3.Connection | None = None  # what was seen was seen through this one
        self._seen: _Seen | None = None
        self._told_at = 0.0
        self._looked_at = 0.0

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def poke(self) -> None:
        """Poll now: there is something new."""
        self._poked.set()

    async def stop(self) -> None:
        """Tell nothing any more, and end the thread."""
        self._stopping = True
        self._settle([self._leaving])
        self._poked.set()
        self._link.interrupt()
        await asyncio.wait({self._ended}, timeout=_END)
        if self._ended.done():
            self._thread.join(_END)

    async def barrier(self, *, limit: float) -> None:
        """Return when a poll that began after this call has been told; raises ``StoreUnavailable`` after ``limit`` seconds."""
        told: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(told)
        self._poked.set()
        await asyncio.wait({told, self._leaving}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            told.cancel()
            raise StoreUnavailable("the announcements of the SQLite store did not come in time")

    def _run(self) -> None:
        while not self._stopping:
            self._poked.clear()
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            pause = self._poll([future for future in waiting if not future.done()])
            self._poked.wait(pause)
        self._link.close()
        self._on_loop(self._settle, [self._ended])

    def _poll(self, waiting: list[asyncio.Future[None]]) -> float:
        """Read, and have told what there is to tell; returns the seconds until the next time."""
        read_at = elapsed_clock()
        try:
            with translated():
                changes = self._read(self._link.ready(), read_at)
        except StoreBusy:  # for moments only; if it lasts, the missing signs of life say so
            self._waiting.extend(waiting)
            return _POLL
        except StoreError as error:
            self._waiting.extend(waiting)
            self._seen = None
            if not isinstance(error, StoreGone):
                self._link.close()
            return _RETRY
        if changes or waiting or read_at - self._told_at >= _HEARTBEAT:
            self._told_at = read_at
            self._on_loop(self._tell, changes, read_at, waiting)
        return _POLL

    def _read(self, connection: sqlite3.Connection, read_at: float) -> list[_Change]:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        seen = self._seen if connection is self._connection else None
        self._connection = connection
        moved = seen is None or version != seen.version
        if not moved and read_at - self._looked_at < _LOOK_THROUGH:
            return []
        self._looked_at = read_at
        marker, head, text = connection.execute(_NEWS, (seen.head if seen else 0,)).fetchone()
        if not marker:
            raise StoreNotReady("the SQLite file has no epoch marker")
        self._seen = _Seen(version, head, marker)
        if seen is None:
            return [_Change(None, None, Origin.RECONNECT)]
        rows = json.loads(text)
        if marker != seen.marker or len(rows) != head - seen.head:
            return [_Change(rows[0][0] if rows else None, None, Origin.BULK)]
        if rows and not moved:  # written between the two reads, unless the version still tells of nothing
            moved = connection.execute("PRAGMA data_version").fetchone() != (version,)
        return [_Change(at, api_key, _origin(api_key, moved=moved)) for at, api_key in rows]

    def _tell(self, changes: list[_Change], read_at: float, waiting: list[asyncio.Future[None]]) -> None:
        if self._stopping:
            return
        for at, api_key, origin in changes:
            if api_key is None:
                self._listener.everything_changed(at=at, origin=origin)
            else:
                self._listener.key_changed(api_key, at=at, origin=origin)
        self._listener.heartbeat(delay=elapsed_clock() - read_at)
        self._settle(waiting)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(call, *arguments)

    @staticmethod
    def _settle(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)


def _origin(api_key: str | None, *, moved: bool) -> Origin:
    if not moved:
        return Origin.CHANGE_LOG
    return Origin.BULK if api_key is None else Origin.KEY
