"""Summarizing floods: beyond a rate, the refusals of one client network become one line every 10 s (contract 7).

Runs on the log's writing thread alone, so it needs no lock; only ``full`` may be read by any. Nothing is lost by it:
the metrics have counted every decision before, and each one keeps its ``seq``.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from service.auth.clock import Clock
    from service.observe.lines import DecisionLine

__all__ = ["THRESHOLD", "WINDOW", "Floods", "network_of"]

WINDOW: Final = 10.0  # seconds, from a network's first refusal on
THRESHOLD: Final = 100  # lines that one network gets in a window
_MAX_NETWORKS: Final = 10_000
_UNKNOWN: Final = "unknown"


@lru_cache(maxsize=8192)
def network_of(ip: str) -> str:
    """Return what counts as one client network: an IPv4 address, or the /64 of an IPv6 address (one subscriber's).

    An IPv4 address mapped into IPv6 counts as the IPv4 address; text that is no address counts as ``unknown``.
    """
    try:
        address = ip_address(ip)
    except ValueError:
        return _UNKNOWN
    if not isinstance(address, IPv6Address):
        return ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


class _Window:
    """Ten seconds of one network."""

    __slots__ = ("began", "first_seq", "last_seq", "lines", "swallowed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0
        self.swallowed: Counter[str] = Counter()
        self.first_seq = self.last_seq = 0


class Floods:
    """A window for each network that is refused, at most ``max_networks``; the oldest makes room for a new one."""

    def __init__(self, clock: Clock, *, max_networks: int = _MAX_NETWORKS) -> None:
        self._clock = clock
        self._max_networks = max_networks
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._ended: list[dict[str, Any]] = []
        self.full: dict[str, float] = {}
        """Networks that have had all their lines, and until when (``Clock.age``): their refusals need no line to be made."""

    def __len__(self) -> int:
        """Return the number of networks that are watched."""
        return len(self._windows)

    def swallows(self, item: DecisionLine) -> bool:
        """Return whether the line goes into its network's summary instead of the log; what has no line always does."""
        if item.network is None:
            return False
        window = self._windows.get(item.network)
        if window is None or item.at - window.began >= WINDOW:
            self._end(item.network)
            if len(self._windows) >= self._max_networks:
                self._end(next(iter(self._windows)))
            window = self._windows[item.network] = _Window(item.at)
        if window.lines < THRESHOLD and item.line:
            window.lines += 1
            if window.lines == THRESHOLD:
                self.full[item.network] = window.began + WINDOW
            return False
        if not window.swallowed:
            window.first_seq = item.seq
        window.first_seq = min(window.first_seq, item.seq)  # threads may hand their lines over in another order
        window.last_seq = max(window.last_seq, item.seq)
        window.swallowed[item.reason.value] += 1
        return True

    def due(self, *, everything: bool = False) -> list[dict[str, Any]]:
        """Return the summaries of windows that have ended (or of all of them), each once."""
        now = self._clock.age()
        while self._windows:
            network, window = next(iter(self._windows.items()))
            if not everything and now - window.began < WINDOW:
                break
            self._end(network)
        ended, self._ended = self._ended, []
        return ended

    def _end(self, network: str) -> None:
        self.full.pop(network, None)
        window = self._windows.pop(network, None)
        if window is None or not window.swallowed:
            return
        self._ended.append(
            {
                "event": "auth.decisions_summarized",
                "client_network": network,
                "window_seconds": WINDOW,
                "count": window.swallowed.total(),
                "reasons": dict(window.swallowed),
                "first_seq": window.first_seq,
                "last_seq": window.last_seq,
            }
        )
