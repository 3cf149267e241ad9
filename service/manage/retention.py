"""Forgetting use counts and audit entries that are older than the settings say, and claims that are over."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from backends.errors import StoreError

if TYPE_CHECKING:
    from datetime import datetime

    from backends.journal import Journal
    from service.auth.clock import Clock

__all__ = ["Retention"]

_JITTER: Final = random.SystemRandom()  # of its own state, so that a fork does not copy it
_INTERVAL: Final = 3_600.0  # seconds; several processes that do it do no harm

_log = structlog.get_logger(__name__)


class Retention:
    """``usage_days`` and ``audit_days`` say how long each is kept; 0 is for ever."""

    def __init__(self, journal: Journal, *, clock: Clock, usage_days: int, audit_days: int) -> None:
        self._journal = journal
        self._clock = clock
        self._usage_days = usage_days
        self._audit_days = audit_days

    async def run(self) -> None:
        """Forget every hour, at another minute in each process; until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL * _JITTER.uniform(0.5, 1.0))
            try:
                await self.prune()
            except StoreError as error:
                _log.warning("retention_delayed", error_type=type(error).__name__)

    async def prune(self) -> int:
        """Forget once; how many things."""
        now = self._clock.now()
        pruned = await self._journal.prune(
            now=now, usage_before=_before(now, self._usage_days), audit_before=_before(now, self._audit_days)
        )
        if pruned:
            _log.info("retention_pruned", count=pruned)
        return pruned


def _before(now: datetime, days: int) -> datetime | None:
    return now - timedelta(days=days) if days else None
