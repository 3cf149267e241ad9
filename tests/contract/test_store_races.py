"""A load and a revocation at once: wherever the load is held up, the revocation wins.

The cache loads over a line that a test can hold; it hears of changes over another one, or over the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreUnavailable
from backends.records import KeyState
from service.auth.cache import KeyCache
from service.auth.clock import SystemClock
from service.observe.metrics import Metrics
from tests.support.clock import START
from tests.support.fault_proxy import Mode
from tests.support.faulty_lines import DEADLINE, line_to
from tests.support.keys import make_key
from tests.support.recorder import told_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backends.contract import KeyStore
    from backends.records import FoundKey
    from service.auth.entry import CacheEntry
    from tests.support.faulty_lines import Line
    from tests.support.stores import NetworkKind

PATIENCE = 20.0  # seconds for a load; no test waits for so long


class HeldFinds:
    """Hands look-ups on, and holds what they found while the gate is shut."""

    def __init__(self, inner: KeyStore) -> None:
        self._inner = inner
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    async def find(self, api_key: str) -> FoundKey | None:
        found = await self._inner.find(api_key)
        self.arrived.set()
        await self.gate.wait()
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


class Race:
    """One cache, whose loads can be held at each of their steps."""

    def __init__(self, line: Line, metrics: Metrics) -> None:
        self.line = line
        self.finds = HeldFinds(line.store)
        self.cache = KeyCache(self.finds, clock=SystemClock(), metrics=metrics)  # type: ignore[arg-type]  # hands everything on

    async def held_load(self, step: str) -> asyncio.Task[CacheEntry]:
        """A load that has come to the step and no further."""
        proxy = self.line.proxy
        if step == "after the reply":
            self.finds.gate.clear()
            self.finds.arrived.clear()
        else:
            await proxy.become(Mode.STALL if step == "before the request" else Mode.STALL_REPLIES)
        before = proxy.faults
        load = asyncio.create_task(self.cache.load("one", budget=PATIENCE))
        async with asyncio.timeout(DEADLINE):
            if step == "after the reply":
                await self.finds.arrived.wait()
            while step != "after the reply" and proxy.faults == before:  # noqa: ASYNC110 - a number has no event
                await asyncio.sleep(0.001)
        assert not load.done()
        return load

    async def let_go(self) -> None:
        self.finds.gate.set()
        await self.line.proxy.become(Mode.PASS)

    def is_active(self, entry: CacheEntry | None) -> bool:
        """Whether it would still let the key pass with the secret that it had at first."""
        if entry is None or entry.loaded is None:
            return False
        return entry.loaded.terms.is_active and entry.loaded.secret == make_key("one").secret

    async def loaded(self) -> CacheEntry:
        """What a load brings, if need be after the line's recovery."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    return await self.cache.load("one", budget=PATIENCE)
                except StoreUnavailable:
                    await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics(store="memory", version="test")


@pytest.fixture
async def race(network_kind: NetworkKind, metrics: Metrics) -> AsyncIterator[Race]:
    """With a line whose calls have all the time that a test may take, and on which a look-up has been made."""
    async with line_to(network_kind, seconds=PATIENCE) as line:
        await line.works_again()
        race = Race(line, metrics)
        yield race
        await race.let_go()
        await race.cache.close()


CHANGES: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "revoke": lambda store: store.set_state("key_one", KeyState.REVOKED, now=START),
    "delete": lambda store: store.delete("key_one"),
    "rotate": lambda store: store.replace(make_key("one", secret="secret-after-rotation-7c2f"), expected_version=1),
    "switch the organization off": lambda store: store.set_organization_active("acme", is_active=False, now=START),
}
STEPS = ["before the request", "between request and reply", "after the reply"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_during_a_load_wins(
    race: Race, change: Callable[[KeyStore], Awaitable[object]], step: str
) -> None:
    """What the load brings is not kept, and whoever asks after the announcement gets what is true now."""
    direct = race.line.direct
    async with told_by(direct, race.cache):
        await heard(race.cache)
        load = await race.held_load(step)
        await change(direct)
        await direct.barrier()  # the announcement has come
        joined = asyncio.create_task(race.loaded())
        await asyncio.sleep(0)
        await race.let_go()
        await asyncio.wait({load})
        assert not race.is_active(race.cache.peek("one"))
        assert not race.is_active(await joined)
        assert not race.is_active(race.cache.peek("one"))
        assert not race.is_active(await race.loaded())


@pytest.mark.parametrize("step", STEPS)
async def test_a_change_whose_announcement_is_held_up_too_wins_when_it_comes(race: Race, step: str) -> None:
    """Load and announcement come over the same line in any order; once a barrier is through, the key is dead."""
    async with told_by(race.line.store, race.cache):
        await heard(race.cache)
        load = await race.held_load(step)
        await race.line.direct.set_state("key_one", KeyState.REVOKED, now=START)
        await race.let_go()
        await asyncio.wait({load})
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    await race.line.store.barrier()
                except StoreUnavailable:
                    await asyncio.sleep(0.02)
                else:
                    break
        assert not race.is_active(race.cache.peek("one"))
        assert not race.is_active(await race.loaded())


async def test_a_load_that_nothing_disturbs_is_kept(race: Race) -> None:
    """Otherwise the tests above would prove nothing."""
    async with told_by(race.line.direct, race.cache):
        await heard(race.cache)
        load = await race.held_load("between request and reply")
        await race.let_go()
        assert race.is_active(await load)
        assert race.is_active(race.cache.peek("one"))


async def heard(cache: KeyCache) -> None:
    """Return once the cache's link is up."""
    async with asyncio.timeout(DEADLINE):
        while not cache.link_is_up():  # noqa: ASYNC110 - a clock has no event
            await asyncio.sleep(0.001)
