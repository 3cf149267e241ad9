"""What a successful use causes in the background: a hash under the current pepper, the end of a grace and of an old secret.

All are compare-and-set in the store, so any number of processes may try them. A hash never goes back to a pepper of a
lower version: in a rolling update some processes have the new pepper as current already and others not yet, and they
must not undo each other's work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from backends.errors import NotFound, StoreError, StoreUnavailable, VersionConflict
from service.manage.changes import first_used, has_previous, without_ended

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from backends.contract import KeyStore
    from backends.records import KeyRecord, SecretHash
    from service.auth.clock import Clock
    from service.auth.loaded import LoadedKey
    from service.auth.peppers import Peppers
    from service.auth.secret import Secret

__all__ = ["SecretUpkeep"]

_MAX_NOTED: Final = 10_000
_FORGET: Final = 60.0  # seconds after which the same may be noted again
_PAUSE: Final = 1.0  # seconds until the store is tried again
_ATTEMPTS: Final = 5  # against others that change the same key

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Rehash:
    """The secret that was presented is stored as ``stored``, which is out of date."""

    key_id: str
    stored: SecretHash
    secret: Secret


@dataclass(frozen=True, slots=True)
class _FirstUse:
    """The new secret of the rotation at ``rotated_at`` was used at ``at``."""

    key_id: str
    rotated_at: datetime | None
    at: datetime


@dataclass(frozen=True, slots=True)
class _Over:
    """The time of the key's old secret is over: it goes, so that nothing needs its pepper any more."""

    key_id: str


class SecretUpkeep:
    """``used`` is for any thread, ``run`` belongs to one event loop."""

    def __init__(self, store: KeyStore, *, peppers: Peppers, clock: Clock, most_noted: int = _MAX_NOTED) -> None:
        self._store = store
        self._peppers = peppers
        self._current = peppers.current
        self._clock = clock
        self._most_noted = most_noted
        self._queue: deque[_Rehash | _FirstUse | _Over] = deque()
        self._noted: dict[tuple[type, str, SecretHash], float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None

    def used(self, key: LoadedKey, *, previous_secret: bool, secret: Secret | None) -> None:
        """Note that a secret of the key was accepted. Almost always there is nothing to do; never raises, never waits."""
        record = key.rotation
        if record is None and key.pepper_version == self._current and not key.prehashed:
            return
        previous = None if record is None else record.previous_secret
        stored = previous if previous_secret else key.secret
        if stored is None:
            return
        if record is not None and previous is not None:
            if not has_previous(record, self._clock.now()):
                self._note(_Over(key.key_id), previous)
            elif record.previous_grace is not None and not previous_secret:
                self._note(_FirstUse(key.key_id, record.rotated_at, self._clock.now()), stored)
        if stored.pepper_version == self._current and not stored.prehashed:
            return
        if stored.pepper_version <= self._current and secret is not None:
            self._note(_Rehash(key.key_id, stored, secret), stored)

    def _note(self, work: _Rehash | _FirstUse | _Over, stored: SecretHash) -> None:
        """Once for each; more than fit come again with a later use."""
        name = (type(work), work.key_id, stored)
        if name in self._noted or len(self._noted) >= self._most_noted:
            return
        self._noted[name] = self._clock.age()
        self._queue.append(work)
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the process with it
                loop.call_soon_threadsafe(wake.set)

    async def run(self) -> None:
        """Do what was noted; until cancelled."""
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                if await self._work():
                    self._forget()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), _PAUSE)
                else:
                    await asyncio.sleep(_PAUSE)
        finally:
            self._loop = self._wake = None

    async def _work(self) -> bool:
        """Work off the queue; ``False`` where the store does not answer, and the rest is for later."""
        while self._queue:
            work = self._queue[0]
            try:
                await self._do(work)
            except StoreUnavailable:
                return False
            except (StoreError, UnicodeError) as error:
                _log.warning("secret_upkeep_failed", key_id=work.key_id, error_type=type(error).__name__)
            self._queue.popleft()
        return True

    async def _do(self, work: _Rehash | _FirstUse | _Over) -> None:
        if isinstance(work, _Rehash):
            await self._rehash(work)
        elif isinstance(work, _FirstUse):
            rotated_at, at = work.rotated_at, work.at
            await self._change(
                work.key_id, lambda record: first_used(record, rotated_at=rotated_at, at=at, now=self._clock.now())
            )
        else:
            await self._change(work.key_id, lambda record: without_ended(record, self._clock.now()))

    def _forget(self) -> None:
        """What is long done may be noted again: it may have to be done again."""
        limit = self._clock.age() - _FORGET
        for name, at in self._noted.copy().items():  # other threads go on noting
            if at <= limit:
                del self._noted[name]

    async def _rehash(self, work: _Rehash) -> None:
        new = self._peppers.hash(work.secret.reveal())
        if await self._store.rehash(work.key_id, old=work.stored, new=new):
            _log.debug("secret_rehashed", key_id=work.key_id, pepper_version=new.pepper_version)

    async def _change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> None:
        """Also against others that change the same key; nothing where there is no such key, or nothing to do."""
        for _ in range(_ATTEMPTS):
            try:
                record = await self._store.get(key_id)
                changed = change(record)
                if changed is not record:
                    await self._store.replace(changed, expected_version=record.version)
            except VersionConflict:
                continue
            except NotFound:
                return
            return
        raise VersionConflict("the key is changed all the time")
