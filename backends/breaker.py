"""A circuit breaker: a store that does not answer is left alone, and one background probe finds out when it does again.

No caller is ever the probe: while the breaker is not closed every call is refused at once, however many there are.
"""

from __future__ import annotations

import asyncio
import random
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Breaker", "BreakerState"]

_FAILURES: Final = 5  # in a row
_FIRST_PAUSE: Final = 0.25  # seconds
_LONGEST_PAUSE: Final = 1.0  # together with a probe that hangs, less than the 2 s within which a store must be seen


class BreakerState(IntEnum):
    """The values of the metric ``gatekey_store_breaker_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """``probe`` says whether the store answers; it must end by itself. Belongs to one event loop at a time."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[bool]],
        *,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        jitter: random.Random | None = None,
    ) -> None:
        self._probe = probe
        self._sleep = sleep
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads the probes of many processes, protects nothing
        self._failures = 0
        self._prober: asyncio.Task[None] | None = None
        self.state = BreakerState.CLOSED
        self.period = 0
        """Grows whenever the breaker closes: what a call says that began in an earlier period is about the past."""

    def answered(self, period: int) -> None:
        """A call that began in ``period`` had an answer, whatever it said."""
        if period == self.period:
            self._failures = 0

    def failed(self, period: int) -> None:
        """A call that began in ``period`` had none."""
        if period != self.period or self.state is not BreakerState.CLOSED:
            return
        self._failures += 1
        if self._failures >= _FAILURES:
            self.state = BreakerState.OPEN
            self._prober = asyncio.get_running_loop().create_task(self._recover(), name="gatekey-store-probe")

    async def stop(self) -> None:
        """End the probing and start anew; bounded, because a probe ends by itself."""
        prober, self._prober = self._prober, None
        if prober is not None:
            prober.cancel()
            await asyncio.wait({prober})
        self._close()

    async def _recover(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._sleep(pause * self._jitter.uniform(0.75, 1.0))
            self.state = BreakerState.HALF_OPEN
            if await self._answers():
                break
            self.state = BreakerState.OPEN
            pause = min(_LONGEST_PAUSE, 2 * pause)
        self._prober = None
        self._close()

    async def _answers(self) -> bool:
        try:
            return await self._probe()
        except Exception:  # noqa: BLE001 - a driver's mistake must not leave the breaker open for ever
            return False

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self._failures = 0
        self.period += 1
