"""Real stores as tests need them: one whose look-ups can be held, and how the contract suite makes each kind of store."""

from __future__ import annotations

import asyncio
import pickle
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from backends.factory import SCHEMES, create_store
from backends.guard import GuardedStore
from backends.memory import MemoryKeyStore
from service.observe.metrics import Metrics
from service.observe.store import ObservedStore
from tests.support import leaks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from backends.contract import KeyStore
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


@dataclass(frozen=True, slots=True)
class StoreUnderTest:
    """A store of one test's own, not yet open, and the way behind it."""

    store: KeyStore
    stored: Callable[[], Awaitable[bytes]]
    """The back door: everything that is stored at the moment, read without the store's own methods."""
    another: Callable[[], KeyStore]
    """A second store object on the same data, not yet open, as another process would have it; the caller closes it.

    A store that lives in one process has no second object and gives the same one.
    """


class StoreKind(Protocol):
    """How the contract suite makes one kind of store. A new store is entered in ``KINDS``, and nowhere else."""

    network: bool
    """It has a server that can be down, hang or be cut off: ``tests/contract/test_store_faults.py`` does that to it."""

    def missing(self) -> str:
        """What this machine lacks to run it, ``""`` for nothing."""

    def make(self, name: str) -> AbstractAsyncContextManager[StoreUnderTest]:
        """A store whose data is apart from every other test's by ``name`` (a schema, a key prefix, a file), not by cleaning.

        It is migrated already.
        """


class NetworkKind(StoreKind, Protocol):
    """A kind whose server is reached by an address, so that the fault tests can stand in between."""

    def address(self) -> tuple[str, int]:
        """Host and port of the running server."""

    def url(self, name: str, host: str, port: int) -> str:
        """The URL of the data that ``make(name)`` made, with this host and port in the place of the server's own."""

    def pause(self) -> None:
        """Stop all of the server's processes (SIGSTOP)."""

    def resume(self) -> None:
        """And let them go on."""


class _Memory:
    network = False

    def missing(self) -> str:
        return ""

    @asynccontextmanager
    async def make(self, name: str) -> AsyncIterator[StoreUnderTest]:  # noqa: ARG002 - every memory store is apart
        store = create_store("memory://")
        assert isinstance(store, MemoryKeyStore)

        async def stored() -> bytes:
            return pickle.dumps(
                [
                    value
                    for part in (store, store.journal)
                    for name, value in vars(part).items()
                    if name not in ("_listeners", "_journal", "_is_open")
                ]
            )

        yield StoreUnderTest(store, stored, lambda: store)
        leaks.check_bytes(await stored(), "what the memory store holds")


class _Kind:
    """A kind of store whose servers a module of its own starts, imported when it is needed."""

    def __init__(self, place: str, *, network: bool) -> None:
        self._place = place
        self.network = network

    def _load(self) -> StoreKind:
        module, _, name = self._place.partition(":")
        kind: StoreKind = getattr(import_module(module), name)()
        return kind

    def missing(self) -> str:
        return self._load().missing()

    @asynccontextmanager
    async def make(self, name: str) -> AsyncIterator[StoreUnderTest]:
        async with self._load().make(name) as under_test:
            await under_test.store.migrate()
            yield under_test

    def address(self) -> tuple[str, int]:
        return self._network().address()

    def url(self, name: str, host: str, port: int) -> str:
        return self._network().url(name, host, port)

    def pause(self) -> None:
        self._network().pause()

    def resume(self) -> None:
        self._network().resume()

    def _network(self) -> NetworkKind:
        assert self.network, "has no server"
        kind: Any = self._load()
        return kind  # type: ignore[no-any-return]  # checked when it is used


class _Wrapped:
    """A wrapper of the product around another kind."""

    network = False  # the inner kind's faults are tested with the inner kind

    def __init__(self, inner: StoreKind, wrap: Callable[[KeyStore], KeyStore]) -> None:
        self._inner = inner
        self._wrap = wrap

    def missing(self) -> str:
        return self._inner.missing()

    @asynccontextmanager
    async def make(self, name: str) -> AsyncIterator[StoreUnderTest]:
        async with self._inner.make(name) as inner:
            yield StoreUnderTest(self._wrap(inner.store), inner.stored, lambda: self._wrap(inner.another()))


@cache
def _metrics() -> Metrics:
    return Metrics(store="memory", version="test")  # one for all tests: it is slow to make


KINDS: Mapping[str, StoreKind] = {
    "memory": _Memory(),
    "postgresql": _Kind("tests.support.postgres_kind:PostgresKind", network=True),
    "redis": _Kind("tests.support.redis_kind:RedisKind", network=True),
    "rediss": _Kind("tests.support.redis_kind:RedisTlsKind", network=True),
    "sqlite": _Kind("tests.support.sqlite_kind:SqliteKind", network=False),
}
"""By URL scheme."""

WRAPPERS: Mapping[str, StoreKind] = {
    "guarded(memory)": _Wrapped(KINDS["memory"], GuardedStore),
    "observed(memory)": _Wrapped(KINDS["memory"], lambda store: ObservedStore(store, _metrics())),
}
"""Stores that the product puts around others; they keep the same contract."""


def contract_params() -> list[str]:
    """What the contract suite runs with: every scheme that the product knows, whether it is in ``KINDS`` or not."""
    return [*sorted(SCHEMES), *sorted(WRAPPERS)]


def network_params() -> list[str]:
    """What the fault tests run with: every scheme that is not known to be without a network."""
    return [scheme for scheme in sorted(SCHEMES) if scheme not in KINDS or KINDS[scheme].network]
