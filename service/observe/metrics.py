"""Every series of contract 7, made once at the start at 0, in a registry of its own.

Callers see small methods, never the client library; labels come only from closed sets, so that the number of series is
a property of this file and not of the traffic.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from service.auth.decision import Source
from service.auth.reasons import REASONS, Outcome
from service.observe.process import ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from service.auth.decision import Decision

__all__ = ["ROUTES", "Metrics"]

ROUTES: Final = (
    "door_forward",
    "door_nginx",
    "door_envoy",
    "verify",
    "whoami",
    "management",
    "login",
    "console",
    "health",
    "metrics",
    "docs",
    "app",
    "other",
)
"""Route groups, the label ``route``."""

_STATUSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
_FAST: Final = (0.00005, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.05)
_HTTP: Final = (0.001, 0.01, 0.1, 1.05, 30.5)
_TIMED_ROUTES: Final = tuple(route for route in ROUTES if route not in ("health", "metrics", "docs", "console"))
_MARGIN: Final = 1.2  # a wait that ends with its time-out is measured a little longer than the time-out
_SOURCES: Final = {
    Outcome.ALLOW: (Source.CACHE, Source.STALE, Source.STORE, Source.NONE, Source.NEGATIVE),
    Outcome.DENY: (Source.CACHE, Source.NEGATIVE, Source.STORE, Source.NONE),
    Outcome.ERROR: (Source.NONE,),
}
_OPERATIONS: Final = {
    "find": ("ok", "not_found", "unavailable", "corrupt", "error"),
    "ping": ("ok", "unavailable", "error"),
    "read": ("ok", "not_found", "unavailable", "corrupt", "error"),
    "write": ("ok", "not_found", "conflict", "unavailable", "corrupt", "error"),
    "organizations": ("ok", "not_found", "conflict", "unavailable", "error"),
}


class _Registry(CollectorRegistry):
    """Without ``_created`` series, which would double the number of counters and tell nobody anything."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class Metrics:
    """The metrics of one process. ``store`` is the store's kind, ``store_timeout`` the seconds a look-up may take."""

    def __init__(self, *, store: str, version: str, revision: str = "", store_timeout: float = 0.25) -> None:
        self.registry = registry = _Registry(auto_describe=True)
        slow = sorted({bound for bound in (0.1, store_timeout * _MARGIN, 1.05) if bound > _FAST[-1]})
        buckets = (*_FAST, *slow)
        self._store = store

        decisions = _counter(registry, "decisions", "Decisions. A denial is a good answer; only outcome error is bad.", "outcome", "reason")
        self._decisions = {reason: decisions.labels(row.outcome.value, reason.value) for reason, row in REASONS.items()}
        shadow = _counter(registry, "shadow_decisions", "What shadow mode would have refused, by its real reason; 0 where the mode is off.", "outcome", "reason")
        self._shadow = {
            reason: shadow.labels(row.outcome.value, reason.value)
            for reason, row in REASONS.items()
            if row.outcome is not Outcome.ALLOW
        }
        duration = Histogram(
            "gatekey_decision_duration_seconds",
            "Time from a request's arrival to its decision. Good: from cache below 1 ms, with the store below its time-out.",
            ("outcome", "source"),
            buckets=buckets,
            registry=registry,
        )
        self._durations = {
            (outcome, source): duration.labels(outcome.value, source.value)
            for outcome, sources in _SOURCES.items()
            for source in sources
        }
        self._in_flight = _gauge(registry, "decisions_in_flight", "Decisions that wait for the store now. Good: near 0; growing means that the store is slow.")

        lookups = _counter(registry, "cache_lookups", "Look-ups in the cache. Good: mostly hit.", "result")
        self._lookups = _children(lookups, ("hit", "negative_hit", "stale", "miss"))
        self._entries = _gauge(registry, "cache_entries", "Entries in the cache, unknown keys included. Good: below the maximum.")
        self._entries_max = _gauge(registry, "cache_entries_max", "Entries the cache may hold for known keys.")
        evictions = _counter(registry, "cache_evictions", "Entries that left the cache. Good: no lru (then the cache is too small).", "reason")
        self._evictions = _children(evictions, ("ttl", "lru", "invalidated"))
        self._coalesced = _counter(registry, "cache_coalesced", "Look-ups that joined one already under way instead of asking the store again.")

        operations = _counter(registry, "store_operations", "Store operations. Good: ok and not_found only.", "store", "operation", "result")
        self._operations = {
            (operation, result): operations.labels(store, operation, result)
            for operation, results in _OPERATIONS.items()
            for result in results
        }
        operation_duration = Histogram(
            "gatekey_store_operation_duration_seconds",
            "Time of a store operation. Good: well below the store time-out.",
            ("store", "operation"),
            buckets=(0.0005, 0.005, 0.05, max(0.06, min(5.0, store_timeout * _MARGIN)), 5.5),
            registry=registry,
        )
        self._operation_durations = {name: operation_duration.labels(store, name) for name in _OPERATIONS}
        pool = _gauge(registry, "store_pool_connections", "Connections to the store by state. Good: used stays below the maximum.", "store", "state")
        self._pool = {state: pool.labels(store, state) for state in ("idle", "used")}
        self._pool_max = _gauge(registry, "store_pool_connections_max", "Connections that the pool may open; 0 for a store without connections.", "store").labels(store)
        self._breaker = _gauge(registry, "store_breaker_state", "0 closed (good), 1 half open, 2 open.", "store").labels(store)
        self._up = _gauge(registry, "store_up", "1 while the store answers (good).", "store").labels(store)

        invalidations = _counter(registry, "invalidations", "Announcements of changes that reached this process, by what they name.", "origin")
        self._invalidations = _children(invalidations, ("key", "epoch"))
        self._invalidation_delay = Histogram(
            "gatekey_invalidation_delay_seconds",
            "Time from a write to its effect here. Good: below 0.1 s.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
            registry=registry,
        )
        self._link_up = _gauge(registry, "invalidation_link_up", "1 while announcements arrive (good): the last sign of life is at most 1.5 s old.")
        keys = _gauge(registry, "keys", "Keys in the store by state, counted once a minute.", "state")
        self._keys = {state: keys.labels(state) for state in ("active", "disabled", "revoked", "expired")}
        events = _counter(registry, "key_events", "Changes of keys made through this service.", "event")
        self._key_events = _children(events, ("created", "updated", "rotated", "disabled", "enabled", "revoked", "deleted", "imported"))

        self._log_lines = _counter(registry, "decision_log_lines", "Decision lines written. Good: as many as decisions, less those summarized.")
        dropped = _counter(registry, "decision_log_dropped", "Decision lines lost. Good: 0.", "reason")
        self._log_dropped = _children(dropped, ("queue_full", "write_error", "encode_error"))
        self._log_queue = _gauge(registry, "decision_log_queue_length", "Lines that wait to be written. Good: near 0.")
        shed = _counter(registry, "shed", "Requests refused at once because too many were waiting. Good: 0.", "reason")
        self._shed = _children(shed, ("misses", "loads", "bridge"))
        _children(_counter(registry, "rate_limit", "Answers of the rate limits; 0 where none is set.", "result"), ("allowed", "limited", "error"))
        _children(_counter(registry, "logins", "Sign-ins of people; 0 in a version without sign-in.", "outcome"), ("success", "failure"))
        _gauge(registry, "sessions", "Sessions of signed-in people; 0 in a version without sign-in.")

        requests = _counter(registry, "http_requests", "HTTP requests by route group and status class.", "route", "status")
        self._requests = {(route, status): requests.labels(route, status) for route in ROUTES for status in _STATUSES}
        request_duration = Histogram(
            "gatekey_http_request_duration_seconds",
            "Time to answer an HTTP request by route group.",
            ("route",),
            buckets=_HTTP,
            registry=registry,
        )
        self._request_durations = {route: request_duration.labels(route) for route in _TIMED_ROUTES}
        self._lag = Histogram(
            "gatekey_loop_lag_seconds",
            "How late the event loop wakes a task. Good: below 10 ms; more means that something blocks the loop.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
            registry=registry,
        )
        _gauge(registry, "workers", "Worker processes that answered this scrape.").set(1)
        _gauge(registry, "build_info", "1; what is running.", "version", "revision", "python", "store").labels(
            version, revision, platform.python_version(), store
        ).set(1)
        registry.register(ProcessCollector())

    # -- decisions ----------------------------------------------------------------------------------------------------

    def decided(self, decision: Decision) -> None:
        """Count one decision and its duration."""
        self._decisions[decision.reason].inc()
        if decision.shadowed is not None:
            self._shadow[decision.shadowed].inc()
        self._durations[decision.outcome, decision.source].observe(decision.duration)

    def waiting(self, change: int) -> None:
        """A decision began (1) or ended (-1) waiting for the store."""
        self._in_flight.inc(change)

    # -- cache --------------------------------------------------------------------------------------------------------

    def cache_lookup(self, result: str) -> None:
        """``hit``, ``negative_hit``, ``stale`` or ``miss``."""
        self._lookups[result].inc()

    def cache_evicted(self, reason: str) -> None:
        """``ttl``, ``lru`` or ``invalidated``."""
        self._evictions[reason].inc()

    def cache_coalesced(self) -> None:
        """A look-up joined another one."""
        self._coalesced.inc()

    def invalidated(self, origin: str) -> None:
        """``key`` or ``epoch``."""
        self._invalidations[origin].inc()

    def watch_cache(self, size: Callable[[], float], maximum: int, link_up: Callable[[], bool]) -> None:
        """Read the cache's size and link at each scrape; nothing is done for them on the way of a request."""
        self._entries.set_function(size)
        self._entries_max.set(maximum)
        self._link_up.set_function(lambda: float(link_up()))

    # -- store --------------------------------------------------------------------------------------------------------

    def store_operation(self, operation: str, result: str, seconds: float) -> None:
        """One finished operation of a group (find, ping, read, write, organizations) with one of its results."""
        self._operations[operation, result].inc()
        self._operation_durations[operation].observe(seconds)

    def store_up(self, *, up: bool) -> None:
        """Whether the store answered when it was last asked."""
        self._up.set(float(up))

    def keys_counted(self, counts: Mapping[str, int]) -> None:
        """The number of keys by state."""
        for state, count in counts.items():
            self._keys[state].set(count)

    # -- log ----------------------------------------------------------------------------------------------------------

    def log_lines(self, count: int) -> None:
        """Decision lines were written."""
        self._log_lines.inc(count)

    def log_dropped(self, reason: str, count: int = 1) -> None:
        """``queue_full``, ``write_error`` or ``encode_error``."""
        self._log_dropped[reason].inc(count)

    def watch_log(self, length: Callable[[], float]) -> None:
        """Read the queue's length at each scrape."""
        self._log_queue.set_function(length)

    # -- HTTP and the process -----------------------------------------------------------------------------------------

    def shed(self, reason: str) -> None:
        """``misses``, ``loads`` or ``bridge``: a request was refused because too many were waiting."""
        self._shed[reason].inc()

    def http_request(self, route: str, status: int, seconds: float) -> None:
        """One answered request."""
        self._requests[route, f"{status // 100}xx"].inc()
        if route in self._request_durations:
            self._request_durations[route].observe(seconds)

    def loop_lag(self, seconds: float) -> None:
        """How late the loop woke a task."""
        self._lag.observe(seconds)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The scrape and its content type: OpenMetrics or text, as ``Accept`` asks."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(f"gatekey_{name}", text, labels, registry=registry)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"gatekey_{name}", text, labels, registry=registry)


def _children(family: Counter, values: Iterable[str]) -> dict[str, Counter]:
    return {value: family.labels(value) for value in values}


