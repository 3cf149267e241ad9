"""The cache against a model that only knows what was true when: loads held at the store, changes, late announcements.

Whatever happens in whatever order, the cache never serves a record older than the last announcement, nor one that was
already replaced longer ago than its time to live.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from backends.errors import StoreUnavailable
from backends.memory import MemoryKeyStore
from backends.records import KeyState
from service.auth.cache import KeyCache
from service.auth.loads import Overloaded
from service.observe.metrics import Metrics
from tests.support.clock import START, FakeClock
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from backends.records import FoundKey
    from service.auth.entry import CacheEntry
    from service.auth.loaded import LoadedKey

TTL, NEGATIVE_TTL, STALE, SILENCE, UNTRUSTED = 20.0, 5.0, 30.0, 1.5, 5.0
MAX_ENTRIES, MAX_NEGATIVE, MAX_LOADS, MAX_WAITING = 1, 1, 2, 3
NAMES = ["a", "b", "unknown"]
KEYS = st.sampled_from(NAMES)
EVERY_KEY = ""

_metrics = Metrics(store="memory", version="test")


@dataclass
class Held:
    """A look-up that has read its record and waits to be let through."""

    api_key: str
    announcements: int
    started: float
    gate: asyncio.Future[None]


class HeldStore(MemoryKeyStore):
    """Reads at once and answers when it is told to: the worst that a network can do."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[tuple[str, asyncio.Future[None]]] = []

    async def find(self, api_key: str) -> FoundKey | None:
        found = await super().find(api_key)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.arrivals.append((api_key, gate))
        await gate
        return found


@dataclass
class Truth:
    """What one key was, one after the other: the name of the record or ``None``, each with the time when it began."""

    states: list[tuple[float, str | None]] = field(default_factory=list)
    announced: int = 0
    """Index of the newest state whose announcement has arrived."""
    announcements: int = 0

    def served(self, name: str | None, *, not_before: int, after: float) -> bool:
        """Whether ``name`` was true at some moment later than ``after``, and is no older than a state's index."""
        for index in range(not_before, len(self.states)):
            ended = self.states[index + 1][0] if index + 1 < len(self.states) else float("inf")
            if self.states[index][1] == name and ended > after:
                return True
        return False


@dataclass
class Waiter:
    api_key: str
    announced: int
    task: asyncio.Task[CacheEntry]


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.store = HeldStore()
        self.serial = 0
        self.held: list[Held] = []
        self.waiters: list[Waiter] = []
        self.pending: list[tuple[str, dict[str, int]]] = []
        self.heartbeat_at = float("-inf")
        self.run(self.store.open())
        self.run(self.store.add_organization(make_organization()))
        self.truth = {name: Truth() for name in NAMES}
        for name in NAMES[:2]:
            self.run(self.store.add(make_key(name, name="first")))
        for name, truth in self.truth.items():
            truth.states.append((self.clock.age(), "first" if name in NAMES[:2] else None))
        self.cache = KeyCache(
            self.store,
            clock=self.clock,
            metrics=_metrics,
            ttl=TTL,
            negative_ttl=NEGATIVE_TTL,
            stale_if_error=STALE,
            max_entries=MAX_ENTRIES,
            max_negative_entries=MAX_NEGATIVE,
            max_loads=MAX_LOADS,
            max_waiting=MAX_WAITING,
            jitter=random.Random(1),  # noqa: S311 - spreads refreshes
        )

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Let the coroutine and all that can run, run."""

        async def and_settle() -> None:
            await coroutine
            for _ in range(5):
                await asyncio.sleep(0)

        self.runner.run(and_settle())
        for api_key, gate in self.store.arrivals:
            self.held.append(Held(api_key, self.truth[api_key].announcements, self.clock.age(), gate))
        self.store.arrivals.clear()

    def teardown(self) -> None:
        for waiter in self.waiters:
            waiter.task.cancel()
        self.run(self.cache.close())
        self.runner.close()

    # -- what happens -----------------------------------------------------------------------------------------------------

    @rule(api_key=KEYS, answered=st.booleans())
    def somebody_waits(self, api_key: str, *, answered: bool) -> None:
        """The store keeps the look-up, or answers it (and all others) at once."""

        async def join() -> None:
            task = asyncio.create_task(self.cache.load(api_key, budget=60.0))
            self.waiters.append(Waiter(api_key, self.truth[api_key].announced, task))

        self.run(join())
        while answered and self.held:
            self.answer(self.held.pop())

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def a_waiter_leaves(self, data: st.DataObject) -> None:
        waiter = self.waiters.pop(data.draw(st.integers(0, len(self.waiters) - 1)))
        waiter.task.cancel()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fails=st.sampled_from([False, False, False, True]))
    def the_store_answers(self, data: st.DataObject, *, fails: bool) -> None:
        self.answer(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))), fails=fails)

    def answer(self, load: Held, *, fails: bool = False) -> None:
        if fails:
            load.gate.set_exception(StoreUnavailable("down"))
        else:
            load.gate.set_result(None)
        self.run(asyncio.sleep(0))
        undisturbed = load.announcements == self.truth[load.api_key].announcements
        if not fails and undisturbed and self.clock.age() - load.started < NEGATIVE_TTL:
            assert self.cache.peek(load.api_key) is not None, "a load that nothing disturbed fills the cache"

    @rule(
        api_key=KEYS,
        state=st.sampled_from([KeyState.ACTIVE, KeyState.REVOKED]),
        deleted=st.booleans(),
        bulk=st.booleans(),
        late=st.booleans(),
    )
    def a_key_changes(self, api_key: str, state: KeyState, *, deleted: bool, bulk: bool, late: bool) -> None:
        """Announced at once or ``late``, by itself or (``bulk``) as part of a change of everything."""
        self.serial += 1
        name = None if deleted else f"change-{self.serial}"
        self.run(self.store.delete(f"key_{api_key}"))  # a refresh may begin meanwhile, before the announcement
        if name is not None:
            self.run(self.store.add(replace(make_key(api_key, name=name), state=state, updated_at=START)))
        self.truth[api_key].states.append((self.clock.age(), name))
        newest = {name: len(truth.states) - 1 for name, truth in self.truth.items()}
        self.pending.append((EVERY_KEY if bulk else api_key, newest))
        if not late:
            self.announcements_arrive()

    @precondition(lambda self: self.pending)
    @rule()
    def announcements_arrive(self) -> None:
        for api_key, newest in self.pending:
            if api_key == EVERY_KEY:
                self.cache.everything_changed()
            else:
                self.cache.key_changed(api_key)
            for name in NAMES if api_key == EVERY_KEY else [api_key]:
                self.truth[name].announced = max(self.truth[name].announced, newest[name])
                self.truth[name].announcements += 1
        self.pending.clear()

    @rule()
    def a_sign_of_life(self) -> None:
        """It comes on the same path, so after all that was announced before it."""
        self.announcements_arrive()
        self.cache.heartbeat()
        self.heartbeat_at = self.clock.age()

    @rule(seconds=st.sampled_from([0.4, 1.1, 1.6, 4.9, 9.5, 20.0]), alive=st.booleans())
    def time_passes(self, seconds: float, *, alive: bool) -> None:
        self.clock.advance(seconds)
        if alive:
            self.a_sign_of_life()

    # -- what must hold, always -------------------------------------------------------------------------------------------

    @invariant()
    def nothing_wrong_is_served(self) -> None:
        self.run(asyncio.sleep(0))
        now = self.clock.age()
        link_is_up = now - self.heartbeat_at <= SILENCE
        for api_key, truth in self.truth.items():
            entry = self.cache.peek(api_key)
            if entry is not None:
                name = name_of(entry.loaded)
                limit = NEGATIVE_TTL if name is None else TTL if link_is_up else UNTRUSTED
                assert truth.served(name, not_before=truth.announced, after=now - limit)
            loaded = self.cache.stale(api_key)
            if loaded is not None:
                assert now - self.heartbeat_at <= STALE
                assert truth.served(name_of(loaded), not_before=truth.announced, after=float("-inf"))
        for waiter in [waiter for waiter in self.waiters if waiter.task.done()]:
            self.waiters.remove(waiter)
            error = waiter.task.exception()
            if error is None:
                name, truth = name_of(waiter.task.result().loaded), self.truth[waiter.api_key]
                assert truth.served(name, not_before=waiter.announced, after=float("-inf"))
            else:
                assert isinstance(error, StoreUnavailable | Overloaded)

    @invariant()
    def everything_is_bounded_and_nobody_is_forgotten(self) -> None:
        assert len(self.cache) <= MAX_ENTRIES + MAX_NEGATIVE
        assert len(self.held) <= MAX_LOADS
        waiting = [waiter.api_key for waiter in self.waiters if not waiter.task.done()]
        assert len(waiting) <= 2 * MAX_WAITING
        if len(self.held) < MAX_LOADS:
            assert set(waiting) <= {load.api_key for load in self.held}, "a turn was lost"
        loads = [(load.api_key, load.announcements) for load in self.held]
        assert len(loads) == len(set(loads)), "one load per key at a time"


def name_of(loaded: LoadedKey | None) -> str | None:
    return None if loaded is None else loaded.name


def test_no_race_brings_back_what_was_announced_as_changed() -> None:
    """Loads, changes, announcements, failures, silence and waiters that leave, in any order."""
    run_state_machine_as_test(CacheMachine, settings=settings(max_examples=120, stateful_step_count=40, deadline=None))
