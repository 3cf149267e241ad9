"""The threads of an open store, by the kind of their work, so that a look-up never waits behind a listing or an import."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from backends.records import Connections
from backends.sqlite_link import Link
from backends.sqlite_schema import HISTORY, KEYS
from backends.sqlite_threads import Threads

if TYPE_CHECKING:
    from backends.sqlite_file import DatabaseFile

__all__ = ["Pools"]

_LOOKUPS: Final = 2  # more would only wait for Python's interpreter lock


class Pools:
    """Running from the start until ``close``."""

    def __init__(self, keys: DatabaseFile, history: DatabaseFile) -> None:
        self.lookups = Threads("lookup", [Link(keys, KEYS, read_only=True) for _ in range(_LOOKUPS)])
        self.listings = Threads("listing", [Link(keys, KEYS, read_only=True)])
        self.writer = Threads("writer", [Link(keys, KEYS)])
        self.history = Threads("history", [Link(history, HISTORY)])
        self._all = (self.lookups, self.listings, self.writer, self.history)
        for threads in self._all:
            threads.start()

    @property
    def state(self) -> Connections:
        """Of all of them together."""
        return Connections(
            idle=sum(threads.idle for threads in self._all),
            used=sum(threads.used for threads in self._all),
            maximum=sum(threads.maximum for threads in self._all),
        )

    async def close(self) -> None:
        """End all threads; bounded."""
        await asyncio.gather(*(threads.close() for threads in self._all))
