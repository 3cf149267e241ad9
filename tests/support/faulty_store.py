"""A real store on bad days: it raises, hangs, or hangs and ignores its cancellation, when a test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from backends.memory import MemoryKeyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from backends.records import FoundKey, KeyRecord, KeyState, Organization


class FaultyStore(MemoryKeyStore):
    """Look-ups, pings, reads, and writes go through the fault, each before it does anything."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.calls: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._stubborn = False
        self._gate = asyncio.Event()
        self._gate.set()
        self._changed = asyncio.Event()

    def hang(self, *, stubborn: bool = False) -> None:
        """Calls wait from now on; a stubborn one also when it is cancelled."""
        self._stubborn = stubborn
        self._gate = asyncio.Event()

    def release(self) -> None:
        self._gate.set()

    def let_others_pass(self) -> Callable[[], None]:
        """Calls that come from now on do not wait; those that do, go on when the answer is called."""
        release = self._gate.set
        self._gate = asyncio.Event()
        self._gate.set()
        return release

    async def arrived(self, name: str, *, times: int = 1) -> None:
        """Return once the method has been called so often."""
        async with asyncio.timeout(10):
            while self.calls[name] < times:
                self._changed.clear()
                await self._changed.wait()

    async def _trouble(self, name: str) -> None:
        self.calls[name] += 1
        self._changed.set()
        gate = self._gate
        try:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    if not self._stubborn:
                        raise
            if self.error is not None:
                raise self.error
        finally:
            self.ended[name] += 1

    async def ping(self) -> None:
        await self._trouble("ping")
        await super().ping()

    async def find(self, api_key: str) -> FoundKey | None:
        await self._trouble("find")
        return await super().find(api_key)

    async def get(self, key_id: str) -> KeyRecord:
        await self._trouble("get")
        return await super().get(key_id)

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        await self._trouble("set_state")
        return await super().set_state(key_id, state, now=now)

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        await self._trouble("add_many")
        return await super().add_many(organizations, records)

    async def close(self) -> None:
        await self._trouble("close")
        await super().close()


class HeldSleep:
    """In the place of ``asyncio.sleep``: writes down each pause, which ends when the test says so."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._asleep: asyncio.Future[None] | None = None
        self._more = asyncio.Event()

    async def __call__(self, seconds: float) -> Any:
        self.pauses.append(seconds)
        self._asleep = asyncio.get_running_loop().create_future()
        self._more.set()
        await self._asleep

    async def fell_asleep(self, times: int) -> None:
        """Return once the sleeper sleeps for the ``times``-th time."""
        async with asyncio.timeout(10):
            while len(self.pauses) < times:
                self._more.clear()
                await self._more.wait()

    def wake(self) -> None:
        assert self._asleep is not None, "nobody sleeps"
        self._asleep.set_result(None)
