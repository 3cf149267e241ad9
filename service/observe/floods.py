"""Summarizing floods: beyond a rate, the refusals of one client network become one line every 10 s (contract 7).

Runs on the log's writing thread alone, so it needs no lock; the metrics have counted every decision before.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.auth.clock import Clock
    from service.observe.writer import DecisionLine

__all__ = ["Floods", "network_of"]

WINDOW: Final = 10.0  # seconds
THRESHOLD: Final = 100  # lines that one network gets in a window
_MAX_NETWORKS: Final = 10_000


@lru_cache(maxsize=8192)
def network_of(ip: str) -> str:
    """What counts as one client network: an IPv4 address, or the /64 of an IPv6 address; ``unknown`` without an address."""
    if ":" not in ip:
        return ip or "unknown"
    groups = ip.split("::")[0].split(":") if "::" in ip else ip.split(":")
    return ":".join([*groups, *["0"] * 4][:4]) + "::/64"


class _Window:
    __slots__ = ("began", "first_seq", "last_seq", "lines", "swallowed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0
        self.swallowed: Counter[str] = Counter()
        self.first_seq = self.last_seq = 0


class Floods:
    """One window of 10 s for each network that is refused, at most 10,000 of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._ended: list[bytes] = []

    def swallows(self, item: DecisionLine) -> bool:
        """Whether the line goes into the network's summary instead of the log."""
        if item.network is None:
            return False
        window = self._windows.get(item.network)
        if window is None or item.at - window.began >= WINDOW:
            self._end(item.network)
            if len(self._windows) >= _MAX_NETWORKS:
                self._end(next(iter(self._windows)))
            window = self._windows[item.network] = _Window(item.at)
        if window.lines < THRESHOLD:
            window.lines += 1
            return False
        if not window.swallowed:
            window.first_seq = item.seq
        window.last_seq = item.seq
        window.swallowed[item.reason.value] += 1
        return True

    def due(self, *, everything: bool = False) -> Iterator[bytes]:
        """The summaries of windows that have ended (or of all of them)."""
        now = self._clock.age()
        while self._windows:
            network, window = next(iter(self._windows.items()))
            if not everything and now - window.began < WINDOW:
                break
            self._end(network)
        ended, self._ended = self._ended, []
        yield from ended

    def _end(self, network: str) -> None:
        window = self._windows.pop(network, None)
        if window is None or not window.swallowed:
            return
        summary = {
            "timestamp": self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": "warning",
            "event": "auth.decisions_summarized",
            "client_network": network,
            "seconds": WINDOW,
            "count": window.swallowed.total(),
            "reasons": dict(window.swallowed),
            "first_seq": window.first_seq,
            "last_seq": window.last_seq,
        }
        self._ended.append(orjson.dumps(summary, option=orjson.OPT_APPEND_NEWLINE))
