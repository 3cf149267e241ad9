"""What a line of the log is, for those who make lines and those who pass them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from service.auth.reasons import Reason

__all__ = ["MAX_LINE", "DecisionLine"]

MAX_LINE: Final = 4096  # bytes, newline included


class DecisionLine(NamedTuple):
    """A decision; ``network`` is set for refusals that a flood can cause, ``at`` is ``Clock.age``.

    ``line`` is empty where a flood's summary will tell of it.
    """

    line: bytes
    network: str | None
    reason: Reason
    seq: int
    at: float
