"""A store behind a line that a test can break, and a second one that sees what really happened."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.errors import StoreUnavailable
from backends.factory import create_store
from backends.guard import GuardedStore
from tests.support import store_calls
from tests.support.fault_proxy import FaultProxy, Mode
from tests.support.keys import make_organization

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backends.contract import KeyStore
    from tests.support.stores import NetworkKind

DEADLINE = 30.0  # seconds; nothing is measured by it


@dataclass(frozen=True, slots=True)
class Line:
    """``store`` is guarded and reaches its data through ``proxy``; ``direct`` reaches the same data without it."""

    store: GuardedStore
    direct: KeyStore
    proxy: FaultProxy
    url: str

    async def works_again(self) -> None:
        """Return once a look-up has an answer; the breaker may take its time."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    assert await self.store.find("one") == store_calls.ONE
                except StoreUnavailable:
                    await asyncio.sleep(0.02)
                else:
                    return

    async def connections_fall_to(self, number: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.proxy.connections > number:  # noqa: ASYNC110 - a number has no event to wait for
                await asyncio.sleep(0.01)


@asynccontextmanager
async def line_to(kind: NetworkKind, *, seconds: float = 1.0) -> AsyncIterator[Line]:
    """With the keys of ``store_calls``; calls are given up after ``seconds``. Nothing may be left when it ends."""
    name = f"gk{uuid.uuid4().hex}"
    async with kind.make(name) as under_test:
        direct = under_test.store
        await direct.open()
        await direct.add_organization(make_organization())
        await store_calls.prepare(direct)
        before = asyncio.all_tasks()
        async with FaultProxy(*kind.address()) as proxy:
            url = kind.url(name, "127.0.0.1", proxy.port)
            store = GuardedStore(
                create_store(url),
                find_timeout=seconds,
                read_timeout=seconds,
                write_timeout=seconds,
                bulk_timeout=seconds,
            )
            line = Line(store, direct, proxy, url)
            await store.open()
            try:
                yield line
            finally:
                await store.close()
                await proxy.become(Mode.PASS)  # a line that stalls does not see that its client has gone
            await line.connections_fall_to(0)
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"
        await direct.close()
