"""Use counts and times of last use, gathered in this process and written in batches; never a write on the hot path.

A count is lost only with the process, and then at most the last few seconds. A batch whose outcome the store left open is
written again: after a fault a count may be too high, never too low.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from backends.errors import StoreError
from backends.journal import UsageCount

if TYPE_CHECKING:
    from backends.journal import Journal
    from service.auth.clock import Clock

__all__ = ["UsageRecorder"]

_JITTER: Final = random.SystemRandom()  # of its own state, so that a fork does not copy it
_INTERVAL: Final = 3.0  # seconds between two flushes
_FOLD_AT: Final = 1_024  # uses that wait before one of the noting threads counts some of them
_FOLD: Final = 64  # uses that it counts then: some 30 us
_BATCH: Final = 500  # keys and hours in one write
_MAX_CELLS: Final = 100_000  # keys and hours in memory, while the store takes nothing
_HOUR: Final = 3_600

_log = structlog.get_logger(__name__)


class _Cell:
    """The uses of one key in one hour; times are seconds since the epoch, 0 for never."""

    __slots__ = ("count", "last", "previous")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.previous = 0.0

    def add(self, count: int, last: float, previous: float) -> None:
        self.count += count
        self.last = max(self.last, last)
        self.previous = max(self.previous, previous)


class UsageRecorder:
    """``note`` is for any thread, the rest belongs to one event loop."""

    def __init__(self, journal: Journal, *, clock: Clock, most_cells: int = _MAX_CELLS) -> None:
        self._journal = journal
        self._clock = clock
        self._most_cells = most_cells
        self._uses: deque[tuple[str, float, bool]] = deque()
        self._lock = threading.Lock()  # guards what follows; a noting thread only tries to take it
        self._cells: dict[tuple[str, int], _Cell] = {}
        self._lost = 0
        self._failing_since: float | None = None
        self._flushing: asyncio.Task[None] | None = None

    def note(self, key_id: str, wall: float, previous_secret: bool) -> None:  # noqa: FBT001 - called once, on the hot path
        """Count one allowed use at ``wall`` (seconds since the epoch); nobody waits."""
        uses = self._uses
        uses.append((key_id, wall, previous_secret))  # atomic, and so exact whichever threads do it
        if len(uses) >= _FOLD_AT and self._lock.acquire(blocking=False):
            try:
                self._fold(_FOLD)
            finally:
                self._lock.release()

    async def run(self) -> None:
        """Write every few seconds what was gathered; until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL * _JITTER.uniform(0.8, 1.2))
            await self.flush()

    async def flush(self) -> None:
        """Write what was gathered now; what the store does not take is kept."""
        while self._flushing is not None:  # one that is under way, maybe of a ``run`` that was cancelled
            await asyncio.wait({self._flushing})
        self._flushing = asyncio.create_task(self._flush(), name="gatekey-usage-flush")
        await asyncio.shield(self._flushing)

    async def _flush(self) -> None:
        try:
            with self._lock:
                self._fold(len(self._uses))
                cells, self._cells = self._cells, {}
                lost, self._lost = self._lost, 0
            if lost:
                _log.warning("uses_not_counted", count=lost)
            while cells:
                batch = dict(islice(cells.items(), _BATCH))
                await self._journal.add_usage([_count(*item, cell) for item, cell in batch.items()])
                for item in batch:
                    del cells[item]
            self._succeeded()
        except StoreError as error:
            self._failed(error)
        finally:
            self._keep(cells)
            self._flushing = None

    def _fold(self, most: int) -> None:
        """Count up to ``most`` of the uses that were noted; the lock is held."""
        take, cells = self._uses.popleft, self._cells
        with suppress(IndexError):  # none is left
            for _ in range(most):
                key_id, wall, previous_secret = take()
                item = (key_id, int(wall) // _HOUR)
                cell = cells.get(item) or self._cell(item)
                if cell is None:
                    self._lost += 1
                    continue
                cell.count += 1  # not by ``add``: this runs for every use
                if wall > cell.last:  # noqa: PLR1730 - max() takes longer than all the rest
                    cell.last = wall
                if previous_secret and wall > cell.previous:
                    cell.previous = wall

    def _cell(self, item: tuple[str, int]) -> _Cell | None:
        cell = self._cells.get(item)
        if cell is None and len(self._cells) < self._most_cells:
            cell = self._cells[item] = _Cell()
        return cell

    def _keep(self, cells: dict[tuple[str, int], _Cell]) -> None:
        """Put back what was not written, beside what came meanwhile."""
        with self._lock:
            for item, kept in cells.items():
                cell = self._cell(item)
                if cell is None:
                    self._lost += kept.count
                else:
                    cell.add(kept.count, kept.last, kept.previous)

    def _failed(self, error: StoreError) -> None:
        if self._failing_since is None:
            self._failing_since = self._clock.age()
            _log.warning("usage_delayed", error_type=type(error).__name__)

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            _log.info("usage_caught_up", seconds=round(self._clock.age() - self._failing_since, 1))
            self._failing_since = None


def _count(key_id: str, hour: int, cell: _Cell) -> UsageCount:
    return UsageCount(
        key_id=key_id,
        hour=datetime.fromtimestamp(hour * _HOUR, UTC),
        count=cell.count,
        last_used_at=datetime.fromtimestamp(cell.last, UTC),
        previous_secret_used_at=datetime.fromtimestamp(cell.previous, UTC) if cell.previous else None,
    )
