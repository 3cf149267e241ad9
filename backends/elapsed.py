"""A clock for how long ago something was: it also runs while the machine sleeps, or the process is paused."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["elapsed_clock"]

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_clock() -> float:
    """Seconds since some moment in the past."""
    return time.clock_gettime(_CLOCK)
