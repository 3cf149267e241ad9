"""Every metric of contract 7 as one table: name, meaning, labels and the closed set of label values.

The number of series is a property of this table and not of the traffic; it stays at or below 500 for a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Final, Literal

from backends.records import Origin
from service.auth.decision import Source
from service.auth.reasons import REASONS, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CERTIFICATES", "ROUTES", "SOON", "SOURCES", "TIMED_ROUTES", "Across", "Family", "families"]

Kind = Literal["counter", "gauge", "histogram"]
Across = Literal["sum", "max", "min", "first"]
"""What the workers' values of a gauge make together; ``first`` is that of the worker that has served longest."""

Children = tuple[tuple[str, ...], ...]

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

TIMED_ROUTES: Final = tuple(route for route in ROUTES if route not in ("health", "metrics", "docs", "other"))
"""Route groups whose duration somebody waits for."""

SOURCES: Final = {
    Outcome.ALLOW: (Source.CACHE, Source.NEGATIVE, Source.STALE, Source.STORE, Source.NONE),  # negative: shadow mode
    Outcome.DENY: (Source.CACHE, Source.NEGATIVE, Source.STORE, Source.NONE),  # a stale record never refuses
    Outcome.ERROR: (Source.CACHE, Source.STORE, Source.NONE),  # a record found that cannot be checked, or none
}
"""Where the record behind a decision can have come from, by outcome."""

SOON: Final = {"7d": timedelta(days=7), "30d": timedelta(days=30)}
"""In what time keys end that ``gatekey_keys_expiring`` counts, the label ``within``."""

CERTIFICATES: Final = ("server", "client_ca", "store_client", "store_ca")
"""Files of certificates that settings may name, the label ``certificate``."""

_STATUSES: Final = ("2xx", "3xx", "4xx", "5xx")  # no answer of ours is a 1xx
_MARGIN: Final = 1.2  # a wait that ends with its time-out is measured a little longer than the time-out
_WRITE_TIMEOUT: Final = 5.0  # seconds that a store's write may take (contract 5)
_LONG: Final = 1.2  # seconds; parts what is slow from what hangs
_FAST: Final = (0.00005, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.05)
_RESULTS: Final = {
    "find": ("ok", "not_found", "unavailable", "corrupt", "error"),
    "ping": ("ok", "unavailable", "error"),
    "read": ("ok", "not_found", "unavailable", "corrupt", "error"),
    "write": ("ok", "not_found", "conflict", "unavailable", "corrupt", "error"),
    "organizations": ("ok", "not_found", "conflict", "unavailable", "error"),
    "barrier": ("ok", "unavailable", "error"),
}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. ``name`` lacks the prefix and a counter's ``_total``; ``children`` are all label values there are."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...] = ()
    children: Children = ((),)
    buckets: tuple[float, ...] = ()
    across: Across = "sum"
    """For a gauge; counters and histograms always add up."""


def families(
    *,
    store: str,
    store_timeout: float,
    request_timeout: float,
    find_timeout: float = 2.0,
    certificates: Iterable[str] = (),
) -> tuple[Family, ...]:
    """The table for a store's kind and the certificates whose end is known, some of ``CERTIFICATES``.

    Time-outs (seconds) set the last bounds of the histograms; ``find_timeout`` is when a look-up is given up, later than
    a request's patience, which is ``store_timeout``.
    """
    return (
        *_decisions(store_timeout),
        *_cache(),
        *_store(store, store_timeout, find_timeout),
        *_changes(),
        *_log(),
        *_requests(store_timeout, request_timeout),
        *_processes(tuple(certificates)),
    )


def _each(*values: str) -> Children:
    return tuple((value,) for value in values)


def _bounds(*bounds: float) -> tuple[float, ...]:
    return tuple(sorted({round(bound, 6) for bound in bounds}))


def _decisions(store_timeout: float) -> Iterable[Family]:
    reasons = tuple((row.outcome.value, reason.value) for reason, row in REASONS.items())
    return (
        Family(
            "counter",
            "decisions",
            "Decisions. Good: allow and deny; a denial is a good answer, only outcome error is bad.",
            ("outcome", "reason"),
            reasons,
        ),
        Family(
            "counter",
            "shadow_decisions",
            "What shadow mode would have refused, by the real reason. Good: 0 before shadow mode is left.",
            ("outcome", "reason"),
            tuple(pair for pair in reasons if pair[0] != Outcome.ALLOW),
        ),
        Family(
            "histogram",
            "decision_duration_seconds",
            "Time from a request's arrival to its decision. Good: below 1 ms from the cache, else below the "
            "store's time-out.",
            ("outcome", "source"),
            tuple((outcome.value, source.value) for outcome, sources in SOURCES.items() for source in sources),
            _bounds(*_FAST, store_timeout * _MARGIN, 1.05),
        ),
        Family(
            "gauge",
            "decisions_in_flight",
            "Decisions that wait for the store now. Good: near 0; growing means that the store is slow.",
        ),
    )


def _cache() -> Iterable[Family]:
    return (
        Family(
            "counter",
            "cache_lookups",
            "Look-ups in the cache. Good: mostly hit.",
            ("result",),
            _each("hit", "negative_hit", "stale", "miss"),
        ),
        Family("gauge", "cache_entries", "Entries in the cache, unknown keys included. Good: below the maximum."),
        Family("gauge", "cache_entries_max", "Entries of known keys that the cache may hold."),
        Family(
            "counter",
            "cache_evictions",
            "Entries that left the cache. Good: no lru (the cache is then too small).",
            ("reason",),
            _each("ttl", "lru", "invalidated"),
        ),
        Family(
            "counter",
            "cache_coalesced",
            "Look-ups that joined one under way instead of asking the store. Good: any; each is a query saved.",
        ),
    )


def _store(store: str, store_timeout: float, find_timeout: float) -> Iterable[Family]:
    return (
        Family(
            "counter",
            "store_operations",
            "Operations on the store. Good: ok and not_found only.",
            ("store", "operation", "result"),
            tuple((store, operation, result) for operation, results in _RESULTS.items() for result in results),
        ),
        Family(
            "histogram",
            "store_operation_duration_seconds",
            "Time of an operation that the store was asked for (an open breaker asks for none). Good: well below the "
            "store's time-out.",
            ("store", "operation"),
            tuple((store, operation) for operation in _RESULTS),
            _bounds(
                0.001,
                0.005,
                0.05,
                store_timeout * _MARGIN,
                _LONG,
                find_timeout * _MARGIN,
                _WRITE_TIMEOUT * 1.1,
            ),
        ),
        Family(
            "gauge",
            "store_pool_connections",
            "Connections to the store. Good: used stays below the maximum.",
            ("store", "state"),
            ((store, "idle"), (store, "used")),
        ),
        Family(
            "gauge",
            "store_pool_connections_max",
            "Connections that the pool may open; 0 for a store without connections.",
            ("store",),
            ((store,),),
        ),
        Family(
            "gauge",
            "store_breaker_state",
            "0 closed (good), 1 half open, 2 open.",
            ("store",),
            ((store,),),
            across="max",
        ),
        Family("gauge", "store_up", "1 while the store answers (good), else 0.", ("store",), ((store,),), across="min"),
    )


def _changes() -> Iterable[Family]:
    return (
        Family(
            "counter",
            "invalidations",
            "Changes that arrived: key and bulk were announced; change_log were missed and found later, reconnect forgot "
            "everything after a gap. Good: no change_log, few reconnect.",
            ("origin",),
            _each(*Origin),
        ),
        Family(
            "histogram",
            "invalidation_delay_seconds",
            "Time from a change to its effect here. Good: below 0.1 s.",
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 2.5, 7.8, 60),  # 6.5 s is the bound where announcements are lost
        ),
        Family(
            "gauge",
            "invalidation_link_up",
            "1 while announcements of changes can arrive (good), else 0.",
            across="min",
        ),
        Family(
            "gauge",
            "keys",
            "Keys in the store, counted once a minute. Good: no sudden change.",
            ("state",),
            _each("active", "disabled", "revoked", "expired"),
            across="first",
        ),
        Family(
            "gauge",
            "keys_expiring",
            "Active keys that end within this time, counted once a minute. Good: 0 within 7d; whoever needs such a key "
            "should have a new one by then.",
            ("within",),
            _each(*SOON),
            across="first",
        ),
        Family(
            "counter",
            "key_events",
            "Changes of keys made through this service.",
            ("event",),
            _each("created", "updated", "rotated", "disabled", "enabled", "revoked", "deleted", "imported"),
        ),
    )


def _log() -> Iterable[Family]:
    return (
        Family(
            "counter",
            "decision_log_lines",
            "Decision lines written. Good: as many as decisions, less those that were summarized.",
        ),
        Family(
            "counter",
            "decision_log_summarized",
            "Decisions that one line sums up, because one client network was refused too often. Good: near 0; growing "
            "means a flood.",
        ),
        Family(
            "counter",
            "decision_log_dropped",
            "Decision lines lost. Good: 0; queue_full means that whoever reads the log is too slow.",
            ("reason",),
            _each("queue_full", "write_error", "encode_error"),
        ),
        Family("gauge", "decision_log_queue_length", "Decision lines that wait to be written. Good: near 0."),
        Family(
            "counter",
            "trace_spans_lost",
            "Spans of traces that were lost; 0 where traces are off. Good: 0; growing means that the collector is away or "
            "too slow.",
        ),
    )


def _requests(store_timeout: float, request_timeout: float) -> Iterable[Family]:
    return (
        Family(
            "counter",
            "shed",
            "Requests refused because too many waited or asked for made-up keys: at once, or (loads) because no turn "
            "came in time. Good: 0.",
            ("reason",),
            _each("misses", "loads", "bridge"),
        ),
        Family(
            "counter",
            "rate_limit",
            "Answers of the rate limits; 0 where none is set. Good: no error.",
            ("result",),
            _each("allowed", "limited", "error"),
        ),
        Family(
            "counter",
            "logins",
            "Sign-ins of people, by outcome. Good: few failures.",
            ("outcome",),
            _each("success", "failure"),
        ),
        Family("gauge", "sessions", "Sessions of people who are signed in."),
        Family(
            "counter",
            "http_requests",
            "HTTP requests answered. Good: no 5xx.",
            ("route", "status"),
            tuple(product(ROUTES, _STATUSES)),
        ),
        Family(
            "histogram",
            "http_request_duration_seconds",
            "Time to answer an HTTP request. Good: doors below 1 ms, pages below 0.1 s.",
            ("route",),
            _each(*TIMED_ROUTES),
            _bounds(0.001, 0.01, 0.1, store_timeout * _MARGIN, _LONG, request_timeout * _MARGIN),
        ),
        Family(
            "histogram",
            "loop_lag_seconds",
            "How late the event loop wakes a task. Good: below 10 ms; more means that something blocks the loop.",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1),
        ),
    )


def _processes(certificates: tuple[str, ...]) -> Iterable[Family]:
    yield Family("gauge", "workers", "Worker processes behind this scrape. Good: as many as are configured.")
    yield Family("gauge", "workers_configured", "Worker processes that there should be.", across="max")
    yield Family(
        "counter",
        "worker_deaths",
        "Worker processes that ended by themselves or could not start; each is replaced. Good: 0.",
    )
    if certificates:
        yield Family(
            "gauge",
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificates in use end (Unix time): the first of a chain, the last of a file of authorities. "
            "Good: weeks away; a renewed file is in use after a restart.",
            ("certificate",),
            _each(*certificates),
            across="min",
        )
