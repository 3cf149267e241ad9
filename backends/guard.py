"""A store that answers in time or not at all: a deadline for every call, and a breaker in front of a store that is down.

A driver may hang for longer than its own time-outs, and even while it is being cancelled. So no caller awaits one: a call
is a task, waited for until its deadline and then left behind. What was left behind is counted and bounded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from backends.breaker import Breaker, BreakerState
from backends.contract import EVERY_KEY
from backends.errors import StoreError, StoreNotAsked, StoreNotReady, StoreUnavailable
from backends.guarded_journal import GuardedJournal

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime

    from backends.contract import ChangeListener, KeyStore
    from backends.journal import Journal
    from backends.records import (
        Connections,
        FoundKey,
        KeyFilter,
        KeyRecord,
        KeyState,
        Organization,
        Page,
        SecretHash,
    )

__all__ = ["GuardedStore"]

_PROBE_TIMEOUT: Final = 0.5  # seconds
_MAX_ABANDONED: Final = 100
_CLOSE_TIMEOUT: Final = 5.0  # seconds

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class GuardedStore:
    """See ``backends.contract.KeyStore``; ``inner``'s answers, or ``StoreUnavailable`` after the time-outs (seconds).

    ``find_timeout`` should be longer than a caller's patience: an answer that comes too late for its caller still shows
    that the store lives. ``bulk_timeout`` is for what touches everything: imports, a list of all audit chains, clearing
    away. A write that was given up happened whole or not at all; its caller cannot know which.
    """

    def __init__(
        self,
        inner: KeyStore,
        *,
        find_timeout: float = 1.0,
        read_timeout: float = 5.0,
        write_timeout: float = 5.0,
        bulk_timeout: float = 300.0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        jitter: random.Random | None = None,
    ) -> None:
        self._inner = inner
        self._find_timeout = find_timeout
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._bulk_timeout = bulk_timeout
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._probes: set[asyncio.Task[None]] = set()
        self._heard_in = -1  # the breaker's period in which a probe had an answer
        self._breaker = Breaker(self._answers, sleep=sleep, jitter=jitter)
        self._journal = GuardedJournal(
            inner.journal, self._call, read_timeout=read_timeout, write_timeout=write_timeout, bulk_timeout=bulk_timeout
        )
        self.name = inner.name

    @property
    def breaker_state(self) -> BreakerState:
        """For the metric: 0 closed, 1 half open, 2 open."""
        return self._breaker.state

    @property
    def abandoned_calls(self) -> int:
        """Calls that were given up and have not ended yet; at 100 no more are made."""
        return len(self._abandoned)

    @property
    def journal(self) -> Journal:
        """See the contract."""
        return self._journal

    @property
    def connections(self) -> Connections:
        """See the contract."""
        return self._inner.connections

    # -- deadline and breaker -----------------------------------------------------------------------------------------

    async def _call(
        self,
        seconds: float,
        method: Callable[_Arguments, Coroutine[Any, Any, _Result]],
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        if self._breaker.state is not BreakerState.CLOSED:
            raise StoreNotAsked(f"the {self.name} store did not answer lately and is not asked")
        return await self._bounded(seconds, method, *args, **kwargs)

    async def _bounded(
        self,
        seconds: float,
        method: Callable[_Arguments, Coroutine[Any, Any, _Result]],
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        if len(self._abandoned) >= _MAX_ABANDONED:
            raise StoreNotAsked(f"too many calls to the {self.name} store hang")
        loop = asyncio.get_running_loop()
        awake: asyncio.Future[None] = loop.create_future()
        late = loop.call_later(seconds, _wake, awake)
        task = loop.create_task(_told(awake, method, *args, **kwargs), name="gatekey-store-call")
        try:
            await awake
        finally:
            late.cancel()
            if task.done():
                _retrieve(task)  # also where the caller leaves in this moment
            else:  # it took too long, or the caller leaves
                self._abandon(task)
        if not task.done():
            raise StoreUnavailable(f"the {self.name} store did not answer within {seconds:g} s")
        if task.cancelled():
            raise StoreUnavailable(f"the call to the {self.name} store was given up inside")
        return task.result()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
        task.add_done_callback(_retrieve)
        task.cancel()

    async def _answers(self) -> bool:
        """Whether the store says anything by now, to this question or to an earlier one: a slow store lives too."""
        probe = asyncio.get_running_loop().create_task(self._ask(self._breaker.period), name="gatekey-store-ping")
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)
        probe.add_done_callback(_retrieve)
        await asyncio.wait(set(self._probes), timeout=_PROBE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        return self._heard_in == self._breaker.period

    async def _ask(self, period: int) -> None:
        """Note when there was an answer; that it is not ready is for the store's callers to hear from itself."""
        try:
            await self._bounded(max(_PROBE_TIMEOUT, self._find_timeout), self._inner.ping)
        except StoreUnavailable as error:
            if not isinstance(error, StoreNotReady):
                return
        except StoreError:
            pass
        self._heard_in = period

    # -- the contract -------------------------------------------------------------------------------------------------

    async def migrate(self) -> tuple[str, ...]:
        """See the contract; takes as long as it takes."""
        return await self._inner.migrate()

    async def open(self) -> None:
        """See the contract."""
        await self._inner.open()

    async def close(self) -> None:
        """See the contract; bounded, whatever the driver does."""
        await self._breaker.stop()
        for probe in self._probes:
            probe.cancel()
        closing = asyncio.get_running_loop().create_task(self._inner.close(), name="gatekey-store-close")
        closing.add_done_callback(_retrieve)
        _, late = await asyncio.wait({closing, *self._abandoned, *self._probes}, timeout=_CLOSE_TIMEOUT)
        if closing in late:
            self._abandon(closing)
        else:
            closing.result()

    async def ping(self) -> None:
        """See the contract."""
        await self._call(self._read_timeout, self._inner.ping)

    async def find(self, api_key: str) -> FoundKey | None:
        """See the contract; the only call whose failures open the breaker."""
        period = self._breaker.period
        try:
            found = await self._call(self._find_timeout, self._inner.find, api_key)
        except StoreNotReady:
            self._breaker.answered(period)
            raise
        except StoreUnavailable:
            self._breaker.failed(period)
            raise
        except StoreError:
            self._breaker.answered(period)
            raise
        self._breaker.answered(period)
        return found

    async def get(self, key_id: str) -> KeyRecord:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.get, key_id)

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.list_keys, where=where, after=after, limit=limit)

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.count_keys, now=now)

    async def count_expiring(self, *, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.count_expiring, now=now, until=until)

    async def add(self, record: KeyRecord) -> None:
        """See the contract."""
        await self._call(self._write_timeout, self._inner.add, record)

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """See the contract."""
        return await self._call(self._bulk_timeout, self._inner.add_many, organizations, records)

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """See the contract."""
        return await self._call(self._write_timeout, self._inner.replace, record, expected_version=expected_version)

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """See the contract."""
        return await self._call(self._write_timeout, self._inner.set_state, key_id, state, now=now)

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """See the contract."""
        return await self._call(self._write_timeout, self._inner.rehash, key_id, old=old, new=new)

    async def delete(self, key_id: str) -> bool:
        """See the contract."""
        return await self._call(self._write_timeout, self._inner.delete, key_id)

    async def add_organization(self, organization: Organization) -> None:
        """See the contract."""
        await self._call(self._write_timeout, self._inner.add_organization, organization)

    async def get_organization(self, organization_id: str) -> Organization:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.get_organization, organization_id)

    async def list_organizations(self, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.list_organizations, after=after, limit=limit)

    async def set_organization_active(self, organization_id: str, is_active: bool, *, now: datetime) -> bool:  # noqa: FBT001 - the contract's signature
        """See the contract."""
        return await self._call(
            self._write_timeout, self._inner.set_organization_active, organization_id, is_active, now=now
        )

    async def watch(self, listener: ChangeListener) -> None:
        """See the contract; it sees for itself how its own connection is."""
        await self._inner.watch(listener)

    async def barrier(self) -> None:
        """See the contract."""
        await self._call(self._read_timeout, self._inner.barrier)

    async def replicate(self) -> bool:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.replicate)


async def _told(
    awake: asyncio.Future[None],
    method: Callable[_Arguments, Coroutine[Any, Any, _Result]],
    /,
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Result:
    """The call, whose end is told from within: a turn of the loop earlier than by a callback of its task."""
    try:
        return await method(*args, **kwargs)
    finally:
        _wake(awake)


def _wake(awake: asyncio.Future[None]) -> None:
    if not awake.done():
        awake.set_result(None)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take the exception of a call that nobody may wait for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


if TYPE_CHECKING:

    def _conforms(inner: KeyStore) -> KeyStore:
        return GuardedStore(inner)
