"""What a process knows about its own readiness; written by the runtime and the signals, read by ``/readyz``."""

from __future__ import annotations

__all__ = ["Lifecycle"]


class Lifecycle:
    """Plain flags; each is written by one party and read by any thread."""

    def __init__(self) -> None:
        self.draining = False
        self.store_up: bool | None = None
        """Whether the store answered when it was last asked; ``None`` before the first answer or failure."""
        self._store_answered = False

    def drain(self) -> None:
        """The process is to be stopped: say so to whoever balances the load, and go on serving."""
        self.draining = True

    def store_answers(self, *, up: bool) -> None:
        """The result of the latest look at the store."""
        self.store_up = up
        self._store_answered = self._store_answered or up

    def problems(self, *, loop_alive: bool) -> list[str]:
        """Why no requests should be sent here; empty when ready."""
        found = []
        if self.draining:
            found.append("draining")
        if not loop_alive:
            found.append("event_loop")
        if not self._store_answered:
            found.append("store")
        return found

    def degraded(self) -> list[str]:
        """What is missing although requests are served: known keys still pass while the store is lost."""
        return [] if self.store_up else ["store"]
