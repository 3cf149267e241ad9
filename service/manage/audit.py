"""Who did what: one chain of hashed entries for each organization, appended to and never changed.

An entry that the store does not take is kept and tried again; an uncertain attempt is looked up first, so that nothing is
written twice. What cannot be kept any more is told in the log as a whole.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from backends.errors import Conflict, StoreError
from backends.journal import AuditEntry
from service.manage.chain import entry_hash
from service.manage.views import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.journal import Journal
    from service.auth.clock import Clock
    from service.manage.actor import Actor

__all__ = ["AuditTrail"]

_JITTER: Final = random.SystemRandom()  # of its own state, so that a fork does not copy it
_MAX_KEPT: Final = 10_000
_PAUSE: Final = 0.5  # seconds between attempts to write what is kept
_ATTEMPTS: Final = 50  # against others that append to the same chain
_RACE_PAUSE: Final = 0.02  # seconds at most, so that they do not meet again

_log = structlog.get_logger(__name__)


class _Kept:
    """An entry that is to be written; ``attempt`` is how it was sent the last time."""

    __slots__ = ("attempt", "entry")

    def __init__(self, entry: AuditEntry) -> None:
        self.entry = entry
        self.attempt: AuditEntry | None = None


class AuditTrail:
    """Writes entries; what the store does not take at once is kept (bounded) and written by ``run``. One loop only."""

    def __init__(self, journal: Journal, *, clock: Clock, most_kept: int = _MAX_KEPT) -> None:
        self._journal = journal
        self._clock = clock
        self._most_kept = most_kept
        self._chains: dict[str, deque[_Kept]] = {}
        self._lock = asyncio.Lock()
        self._failing = False

    @property
    def kept(self) -> int:
        """Number of entries that are not written yet."""
        return sum(map(len, self._chains.values()))

    async def record(
        self,
        actor: Actor,
        *,
        organization_id: str,
        action: str,
        target: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an entry to the organization's chain; never raises because of the store, and never waits for a broken one."""
        entry = AuditEntry(
            organization_id=organization_id,
            seq=0,
            at=self._clock.now(),
            actor=actor.name,
            actor_organization_id=actor.organization_id,
            action=action,
            target=target,
            client_ip=actor.client_ip,
            request_id=actor.request_id,
            before=_json(before),
            after=_json(after),
            previous_hash="",
            hash="",
        )
        if self.kept >= self._most_kept:
            _tell_lost(entry)
            return
        self._chains.setdefault(organization_id, deque()).append(_Kept(entry))
        async with self._lock:
            if not self._failing:
                await self._write()

    async def run(self) -> None:
        """Write what is kept, within 1 s of the store's return; until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            await self.flush()

    async def flush(self) -> None:
        """Try once to write what is kept."""
        async with self._lock:
            await self._write()

    def abandon(self) -> None:
        """Say in the log, as a whole, what could not be written: the process ends, and the log is what is left of it."""
        for kept in [item for chain in self._chains.values() for item in chain]:
            _tell_lost(kept.entry)
        self._chains.clear()

    async def _write(self) -> None:
        try:
            for organization_id in list(self._chains):
                await self._write_chain(organization_id)
        except StoreError as error:
            if not self._failing:
                _log.warning("audit_delayed", error_type=type(error).__name__, kept=self.kept)
            self._failing = True
            return
        if self._failing:
            _log.info("audit_caught_up")
        self._failing = False

    async def _write_chain(self, organization_id: str) -> None:
        kept = self._chains[organization_id]
        while kept:
            await self._append(kept[0])
            kept.popleft()
        del self._chains[organization_id]

    async def _append(self, kept: _Kept) -> None:
        """Raises ``StoreError`` when the store did not take it, ``Conflict`` when others were faster each time."""
        for _ in range(_ATTEMPTS):
            if kept.attempt is not None and await self._is_stored(kept.attempt):
                return
            head = await self._journal.audit_head(kept.entry.organization_id)
            unhashed = replace(kept.entry, seq=head.seq + 1, previous_hash=head.hash)
            kept.attempt = replace(unhashed, hash=entry_hash(unhashed))
            try:
                await self._journal.append_audit(kept.attempt)
            except Conflict:
                await asyncio.sleep(_JITTER.uniform(0, _RACE_PAUSE))
                continue
            return
        raise Conflict("others append to this audit chain all the time")

    async def _is_stored(self, attempt: AuditEntry) -> bool:
        """Whether an attempt of which nobody knows the outcome did happen."""
        page = await self._journal.list_audit(attempt.organization_id, after=str(attempt.seq - 1), limit=1)
        return any(entry.hash == attempt.hash for entry in page.items)


def _tell_lost(entry: AuditEntry) -> None:
    _log.error("audit_entry_lost", entry={name: str(getattr(entry, name)) for name in entry.__slots__})


def _json(values: Mapping[str, Any] | None) -> str:
    return as_json(dict(values or {})).decode()
