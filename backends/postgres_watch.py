"""``watch``: links one after the other, and behind them the look through the list of changes, for one listener."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backends.elapsed import elapsed_clock
from backends.errors import StoreError, StoreUnavailable
from backends.postgres_changes import ChangeList
from backends.postgres_link import Link
from backends.records import Origin

if TYPE_CHECKING:
    from backends.contract import ChangeListener
    from backends.postgres_changes import Change
    from backends.postgres_connect import Connector
    from backends.postgres_pool import Pool

__all__ = ["Watch"]

_JITTER: Final = random.SystemRandom()  # of its own state, so that a fork does not copy it
_LOOKS: Final = 3.0  # seconds from one look through the list of changes to the next
_STILL_ON_ITS_WAY: Final = 1.0  # seconds that the announcement of a change that was found may yet take
_LONGEST_PAUSE: Final = 1.0  # seconds between two attempts to connect
_CLEARING: Final = 600.0  # seconds from one clearing of the list to the next, about


class Watch:
    """One running ``watch``."""

    def __init__(self, *, ear: Connector, mouth: Connector, pool: Pool, schema: str, listener: ChangeListener) -> None:
        self._ear = ear
        self._mouth = mouth
        self._channel = f"gatekey_{schema}"
        self._listener = listener
        self._changes = ChangeList(pool, schema)
        self._epoch: str | None = None
        self._link: Link | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_a_link())
            tasks.create_task(self._look_behind())

    async def barrier(self) -> None:
        """Return when a heartbeat sent from now on has come back; raises ``StoreUnavailable`` where there is no link."""
        if self._link is None:
            raise StoreUnavailable("postgres: the announcing link is down")
        await self._link.heard()

    def epoch_is(self, epoch: str) -> None:
        """Whoever reads the epoch says so here: another one than before means another store, whatever was announced."""
        if self._epoch not in (None, epoch):
            self._listener.everything_changed()
        self._epoch = epoch

    async def _keep_a_link(self) -> None:
        pause = 0.0
        while True:
            link = self._new_link()
            self._link = link
            try:
                await link.run()
            finally:
                self._link = None
            pause = 0.0 if link.was_alive else min(max(2 * pause, 0.1), _LONGEST_PAUSE)
            await asyncio.sleep(pause * _JITTER.uniform(0.5, 1.0))

    def _new_link(self) -> Link:
        first = True

        def alive(delay: float) -> None:
            nonlocal first
            if first:
                # Not before the link has proved itself: one that is deaf would empty the cache at every attempt.
                self._changes.doubt()
                self._listener.everything_changed(origin=Origin.RECONNECT)
                first = False
            self._listener.heartbeat(delay=delay)

        return Link(ear=self._ear, mouth=self._mouth, channel=self._channel, told=self._told, alive=alive)

    def _told(self, message: str) -> None:
        try:
            fields = json.loads(message)
            kind, seq, at = fields["kind"], int(fields["seq"]), float(fields["at"])
            api_key = fields["api_key"] if kind == "key" else None
            if kind not in ("key", "bulk") or not isinstance(api_key, str | None):
                raise ValueError(kind)  # noqa: TRY301 - every defect has the same consequence
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            self._listener.everything_changed()  # somebody else's message, or a later version's
            return
        self._changes.announce(seq)
        self._tell(api_key, at, Origin.BULK if api_key is None else Origin.KEY)

    def _tell(self, api_key: str | None, at: float, origin: Origin) -> None:
        if api_key is None:
            self._listener.everything_changed(at=at, origin=origin)
        else:
            self._listener.key_changed(api_key, at=at, origin=origin)

    async def _look_behind(self) -> None:
        clear_at = elapsed_clock() + _CLEARING * _JITTER.random()
        while True:
            # The pool says so where it matters; here the next look finds what this one did not.
            with suppress(StoreError):
                await self._look()
                if elapsed_clock() >= clear_at:
                    clear_at = elapsed_clock() + _CLEARING * _JITTER.uniform(0.75, 1.25)
                    await self._changes.clear()
            await asyncio.sleep(_LOOKS * _JITTER.uniform(0.9, 1.1))

    async def _look(self) -> None:
        look = await self._changes.look()
        if look is None:
            return
        self.epoch_is(look.epoch)
        if look.is_gap:
            self._listener.everything_changed(origin=Origin.CHANGE_LOG)
            return
        for change in await self._not_announced(look.changes):
            self._tell(change.api_key, change.at, Origin.CHANGE_LOG)

    async def _not_announced(self, changes: tuple[Change, ...]) -> list[Change]:
        """Those whose announcement does not come either, although the link lives."""
        if changes and self._link is not None and self._link.was_alive:
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_STILL_ON_ITS_WAY):
                    await self._link.heard()
        return [change for change in changes if not self._changes.was_announced(change)]
