"""A load and a change at once, in SQLite: whichever step the load is held at, what it brings is not kept.

The same as ``tests/contract/test_store_races.py`` for the stores with a server, whose lines a proxy holds.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from backends.records import KeyState
from service.auth.cache import KeyCache
from service.auth.clock import SystemClock
from service.observe.metrics import Metrics
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.recorder import told_by
from tests.support.stores import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backends.contract import KeyStore
    from backends.records import FoundKey
    from service.auth.entry import CacheEntry

PATIENCE = 20.0  # seconds for a load; no test waits for so long
STEPS = ["before the file is read", "after the file was read"]
NEW_SECRET = "the-secret-that-came-while-it-was-loaded"
CHANGES: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "revoke": lambda store: store.set_state("key_one", KeyState.REVOKED, now=START),
    "delete": lambda store: store.delete("key_one"),
    "rotate": lambda store: store.replace(make_key("one", secret=NEW_SECRET), expected_version=1),
    "switch the organization off": lambda store: store.set_organization_active("acme", is_active=False, now=START),
}


class HeldFinds:
    """Hands everything on, and holds a look-up at one of its steps while the gate is shut."""

    def __init__(self, inner: KeyStore) -> None:
        self._inner = inner
        self._step = ""
        self._gate = asyncio.Event()
        self._gate.set()
        self.arrived = asyncio.Event()

    def shut(self, step: str) -> None:
        self._step = step
        self._gate.clear()

    def open_up(self) -> None:
        self._gate.set()

    async def find(self, api_key: str) -> FoundKey | None:
        await self._pass(STEPS[0])
        found = await self._inner.find(api_key)
        await self._pass(STEPS[1])
        return found

    async def _pass(self, step: str) -> None:
        if step == self._step:
            self.arrived.set()
            await self._gate.wait()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@dataclass(frozen=True, slots=True)
class Race:
    """A cache over one store object that hears of changes, and another object on the same file, by which they are made."""

    finds: HeldFinds
    cache: KeyCache
    other: KeyStore
    store: KeyStore

    async def load(self) -> CacheEntry:
        return await self.cache.load("one", budget=PATIENCE)

    async def held_load(self, step: str) -> asyncio.Task[CacheEntry]:
        """A load that has come to the step and no further."""
        self.finds.shut(step)
        load = asyncio.create_task(self.load())
        async with asyncio.timeout(PATIENCE):
            await self.finds.arrived.wait()
        assert not load.done()
        return load


def passes(entry: CacheEntry | None) -> bool:
    """Whether it would still let the key pass with the secret that it had at first."""
    if entry is None or entry.loaded is None:
        return False
    return entry.loaded.terms.is_active and entry.loaded.secret == make_key("one").secret


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics(store="sqlite", version="test")


@pytest.fixture
async def race(metrics: Metrics) -> AsyncIterator[Race]:
    async with KINDS["sqlite"].make(f"gk{uuid.uuid4().hex}") as place:
        store, other = place.store, place.another()
        for one in (store, other):
            await one.open()
        await other.add_many([make_organization()], [make_key("one")])
        finds = HeldFinds(store)
        cache = KeyCache(finds, clock=SystemClock(), metrics=metrics)  # type: ignore[arg-type]  # hands everything on
        async with told_by(store, cache):
            async with asyncio.timeout(PATIENCE):
                while not cache.link_is_up():  # noqa: ASYNC110 - a clock has no event
                    await asyncio.sleep(0.001)
            yield Race(finds, cache, other, store)
            finds.open_up()
        await cache.close()
        for one in (store, other):
            await one.close()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_during_a_load_wins(
    race: Race, change: Callable[[KeyStore], Awaitable[object]], step: str
) -> None:
    """What the load brings is not kept, and whoever asks after the announcement gets what is true now."""
    load = await race.held_load(step)
    await change(race.other)
    await race.store.barrier()  # the announcement has come
    joined = asyncio.create_task(race.load())
    await asyncio.sleep(0)  # it joins the load that is held, if it may
    race.finds.open_up()
    await asyncio.wait({load})
    assert not passes(race.cache.peek("one"))
    assert not passes(await joined)
    assert not passes(race.cache.peek("one"))
    assert not passes(await race.load())


@pytest.mark.parametrize("step", STEPS)
async def test_a_load_that_nothing_disturbs_is_kept(race: Race, step: str) -> None:
    """Otherwise the test above would prove nothing."""
    load = await race.held_load(step)
    race.finds.open_up()
    assert passes(await load)
    assert passes(race.cache.peek("one"))
