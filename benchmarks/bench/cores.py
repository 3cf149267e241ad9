"""Which cores serve and which make the load, so that the two never take time from each other."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cores", "pinned", "split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """``serving`` has as many cores as workers will be compared; ``loading`` is everybody else's place."""

    serving: frozenset[int]
    loading: frozenset[int]

    @property
    def one(self) -> frozenset[int]:
        """The core of a server with one worker."""
        return self.of(1)

    def of(self, workers: int) -> frozenset[int]:
        """The cores of a server: one for each worker, as far as there are so many."""
        return frozenset(sorted(self.serving)[:workers])

    @property
    def for_two_workers(self) -> bool:
        """Whether two workers can have a core each."""
        return len(self.serving) > 1


def split(available: set[int]) -> Cores:
    """Two to serve where there are three or more, else one. Raises ``ValueError`` for a single core."""
    cores = sorted(available)
    if len(cores) < 2:  # noqa: PLR2004 - one for each side
        raise ValueError("needs two CPU cores: one for the server and one for the load")
    serving = cores[:2] if len(cores) > 2 else cores[:1]  # noqa: PLR2004 - as above
    return Cores(serving=frozenset(serving), loading=frozenset(cores) - frozenset(serving))


@contextmanager
def pinned(cores: frozenset[int], *, batch: bool = True) -> Iterator[None]:
    """Processes that this thread starts meanwhile stay on these cores.

    Nobody else is there, so none of their threads has to interrupt another one (``SCHED_BATCH``), whoever is measured;
    unless not ``batch``.
    """
    before, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    try:
        os.sched_setaffinity(0, cores)
        os.sched_setscheduler(0, os.SCHED_BATCH if batch else os.SCHED_OTHER, os.sched_param(0))
        yield
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, before)
