"""A real in-memory store behind a gate: look-ups can be held, failed and counted, writes go straight through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from backends.memory import MemoryKeyStore

if TYPE_CHECKING:
    from backends.records import FoundKey


class GatedStore(MemoryKeyStore):
    """``hold`` stops look-ups after they read the record (the worst moment) until ``release``; ``error`` fails them."""

    def __init__(self) -> None:
        super().__init__()
        self.finds: list[str] = []
        self.error: Exception | None = None
        self.answers: dict[str, FoundKey] = {}
        self.missing: set[str] = set()
        self._gate = asyncio.Event()
        self._gate.set()
        self._arrived = asyncio.Event()

    async def find(self, api_key: str) -> FoundKey | None:
        self.finds.append(api_key)
        if self.error is not None:
            raise self.error
        found = None if api_key in self.missing else self.answers.get(api_key) or await super().find(api_key)
        self._arrived.set()
        await self._gate.wait()
        return found

    def hold(self) -> None:
        self._gate.clear()
        self._arrived.clear()

    def release(self) -> None:
        self._gate.set()

    async def arrived(self) -> None:
        """Return once a look-up waits at the gate."""
        async with asyncio.timeout(5):
            await self._arrived.wait()
