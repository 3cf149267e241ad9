"""What goes on beside the decisions of one process, as one thing that is started and stopped.

Counts of uses, upkeep of secrets, audit entries that could not be written at once, forgetting what is too old.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from service.auth.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.auth.clock import Clock
    from service.auth.decision import AccessRequest, Decision
    from service.manage.audit import AuditTrail
    from service.manage.retention import Retention
    from service.manage.upkeep import SecretUpkeep
    from service.manage.usage import UsageRecorder

__all__ = ["Background"]

_RESTART: Final = 1.0  # seconds before a part that failed by a defect of ours goes on

_log = structlog.get_logger(__name__)


class Background:
    """Its parts live on the process's loop; ``used`` is for any thread."""

    def __init__(
        self, *, usage: UsageRecorder, upkeep: SecretUpkeep, audit: AuditTrail, retention: Retention, clock: Clock
    ) -> None:
        self._usage = usage
        self._upkeep = upkeep
        self._audit = audit
        self._retention = retention
        self._clock = clock

    def used(self, request: AccessRequest, decision: Decision) -> None:
        """Note an allowed use of a key; no I/O, nobody waits."""
        key, credentials = decision.key, request.credentials
        if key is None or isinstance(credentials, Reason):
            return
        self._usage.note(key.key_id, self._clock.wall(), decision.used_previous)
        self._upkeep.used(key, previous_secret=decision.used_previous, secret=credentials.secret)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part in (self._usage, self._upkeep, self._audit, self._retention):
                group.create_task(_kept_running(type(part).__name__, part.run))

    async def flush(self) -> None:
        """Write what is still in memory; after ``run`` has ended."""
        await self._usage.flush()
        await self._audit.flush()
        self._audit.abandon()


async def _kept_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - a defect in one part must end neither it nor the others
            _log.error("background_failed", part=name, error_type=type(error).__name__)
        await asyncio.sleep(_RESTART)
