"""A ``ChangeListener`` that writes down what it is told, and a ``watch`` that ends with its test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.records import Origin
from tests.support.keys import make_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backends.contract import ChangeListener, KeyStore

EVERYTHING, HEARTBEAT = "<everything>", "<heartbeat>"
MARK = "the-mark"
_DEADLINE = 20.0  # seconds; far beyond what any store may take


@dataclass(frozen=True, slots=True)
class Told:
    """One call of a listener's method: ``what`` is an ``api_key``, ``EVERYTHING`` or ``HEARTBEAT``."""

    what: str
    at: float | None = None
    origin: Origin | None = None
    delay: float | None = None


class Recorder:
    """Writes down what it is told; ``events`` holds what was not asked for yet, ``told`` all of it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.told: list[Told] = []
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()

    def key_changed(self, api_key: str, *, at: float | None = None, origin: Origin = Origin.KEY) -> None:
        self._note(Told(api_key, at, origin))

    def everything_changed(self, *, at: float | None = None, origin: Origin = Origin.BULK) -> None:
        self._note(Told(EVERYTHING, at, origin))

    def heartbeat(self, *, delay: float = 0.0) -> None:
        self._note(Told(HEARTBEAT, delay=delay))

    def _note(self, told: Told) -> None:
        assert asyncio.get_running_loop() is self._loop, "told on another thread"
        self.told.append(told)
        self.events.append(told.what)
        self._more.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; it is looked at after everything that is told."""
        async with asyncio.timeout(_DEADLINE):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def until(self, event: str, *, times: int = 1) -> list[str]:
        """What was told up to the ``times``-th such event, once it has come; told events are then forgotten."""
        await self.wait_for(lambda: self.events.count(event) >= times)
        events, self.events = self.events, []
        return events

    async def changes(self, store: KeyStore) -> set[str]:
        """The changes announced so far; a last write of our own marks the end of them."""
        await store.add(make_key(MARK))
        events = await self.until(MARK)
        await store.delete(f"key_{MARK}")
        await self.until(MARK)
        return {event for event in events if event not in (MARK, HEARTBEAT)}


@asynccontextmanager
async def told_by(store: KeyStore, listener: ChangeListener) -> AsyncIterator[None]:
    """While inside, the store's ``watch`` runs with this listener."""
    watcher = asyncio.create_task(store.watch(listener))
    try:
        yield
    finally:
        ended = watcher.done()
        watcher.cancel()
        await asyncio.wait({watcher})
        assert not ended, f"watch returns by cancellation only: {watcher}"
        assert watcher.cancelled()


@asynccontextmanager
async def watching(store: KeyStore) -> AsyncIterator[Recorder]:
    """A listener that is connected: the first sign of life has come."""
    recorder = Recorder()
    async with told_by(store, recorder):
        await recorder.until(HEARTBEAT)
        yield recorder
