"""Every event moves exactly the series that is meant for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backends.records import Connections, Origin
from service.auth.decision import Decision, Source
from service.auth.reasons import REASONS, Outcome, Reason
from service.observe.families import ROUTES, TIMED_ROUTES
from service.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(store="memory", version="1")


def values(metrics: Metrics) -> Values:
    """All samples but buckets, sums and what the process itself moves."""
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_sum")) and "_process_" not in sample.name
    }


def moved(metrics: Metrics, action: Callable[[], object]) -> Values:
    """What ``action`` changed, and by how much."""
    before = values(metrics)
    action()
    after = values(metrics)
    assert after.keys() == before.keys()
    return {key: value - before[key] for key, value in after.items() if value != before[key]}


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("reason", Reason)
def test_a_decision_moves_its_reason_and_one_duration(metrics: Metrics, reason: Reason, source: Source) -> None:
    """One decision is one in ``decisions_total`` and one in ``decision_duration_seconds``, whatever it was."""
    outcome = REASONS[reason].outcome.value
    changes = moved(metrics, lambda: metrics.decided(Decision(reason, source=source)))
    counted = ("gatekey_decisions_total", (("outcome", outcome), ("reason", reason.value)))
    timed = [key for key in changes if key != counted]
    assert changes.pop(counted) == 1
    assert len(timed) == 1
    name, labels = timed[0]
    assert name == "gatekey_decision_duration_seconds_count"
    assert dict(labels)["outcome"] == outcome
    assert dict(labels)["source"] in (source.value, "none")
    assert changes[timed[0]] == 1


@pytest.mark.parametrize(
    ("reason", "source"),
    [
        (Reason.OK, Source.CACHE),
        (Reason.OK, Source.STALE),
        (Reason.OK, Source.STORE),
        (Reason.SHADOW, Source.NEGATIVE),
        (Reason.PREFLIGHT, Source.NONE),
        (Reason.UNKNOWN_KEY, Source.NEGATIVE),
        (Reason.BAD_SECRET, Source.STORE),
        (Reason.MISSING_CREDENTIALS, Source.NONE),
        (Reason.STORE_UNAVAILABLE, Source.NONE),
        (Reason.STORE_CORRUPT, Source.CACHE),
    ],
)
def test_sources_that_occur_are_timed_under_their_own_name(metrics: Metrics, reason: Reason, source: Source) -> None:
    """The quantiles by source mix nothing that can really happen."""
    changes = moved(metrics, lambda: metrics.decided(Decision(reason, source=source)))
    labels = (("outcome", REASONS[reason].outcome.value), ("source", source.value))
    assert ("gatekey_decision_duration_seconds_count", labels) in changes


@pytest.mark.parametrize("reason", [reason for reason, row in REASONS.items() if row.outcome is not Outcome.ALLOW])
def test_a_decision_in_shadow_mode_is_an_allow_and_a_mark(metrics: Metrics, reason: Reason) -> None:
    """The mark says what would have been refused; the decision itself counts as what was answered."""
    decision = Decision(Reason.SHADOW)
    decision.shadowed = reason
    changes = moved(metrics, lambda: metrics.decided(decision))
    outcome = REASONS[reason].outcome.value
    assert changes == {
        ("gatekey_decisions_total", (("outcome", "allow"), ("reason", "shadow"))): 1,
        ("gatekey_shadow_decisions_total", (("outcome", outcome), ("reason", reason.value))): 1,
        ("gatekey_decision_duration_seconds_count", (("outcome", "allow"), ("source", "none"))): 1,
    }


@pytest.mark.parametrize(
    ("status", "group"),
    [(200, "2xx"), (302, "3xx"), (404, "4xx"), (499, "4xx"), (503, "5xx"), (599, "5xx")]
    + [(odd, "5xx") for odd in (-1, 0, 99, 100, 199, 600, 999, 10**9)],
)
def test_a_status_counts_in_its_class_and_an_impossible_one_as_an_error(
    metrics: Metrics, status: int, group: str
) -> None:
    """A status that does not exist is a defect of ours, and never a new series."""
    changes = moved(metrics, lambda: metrics.http_request("verify", status, 0.01))
    assert changes == {
        ("gatekey_http_requests_total", (("route", "verify"), ("status", group))): 1,
        ("gatekey_http_request_duration_seconds_count", (("route", "verify"),)): 1,
    }


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_group_is_counted_and_timed_where_somebody_waits(metrics: Metrics, route: str) -> None:
    """Health checks and scrapes are counted but do not blur the durations."""
    changes = moved(metrics, lambda: metrics.http_request(route, 200, 0.01))
    assert changes.pop(("gatekey_http_requests_total", (("route", route), ("status", "2xx")))) == 1
    timed = {("gatekey_http_request_duration_seconds_count", (("route", route),)): 1}
    assert changes == (timed if route in TIMED_ROUTES else {})


SINGLE: dict[str, tuple[Callable[[Metrics], object], str, tuple[tuple[str, str], ...], float]] = {
    "waiting": (lambda m: m.waiting(1), "gatekey_decisions_in_flight", (), 1),
    "hit": (lambda m: m.cache_lookup("hit"), "gatekey_cache_lookups_total", (("result", "hit"),), 1),
    "evicted": (lambda m: m.cache_evicted("lru"), "gatekey_cache_evictions_total", (("reason", "lru"),), 1),
    "coalesced": (lambda m: m.cache_coalesced(), "gatekey_cache_coalesced_total", (), 1),
    "invalidated": (lambda m: m.invalidated(Origin.KEY), "gatekey_invalidations_total", (("origin", "key"),), 1),
    "delay": (lambda m: m.invalidation_delay(0.1), "gatekey_invalidation_delay_seconds_count", (), 1),
    "event": (lambda m: m.key_event("imported", 7), "gatekey_key_events_total", (("event", "imported"),), 7),
    "keys": (lambda m: m.keys_counted({"active": 9}), "gatekey_keys", (("state", "active"),), 9),
    "expiring": (lambda m: m.keys_expiring({"7d": 3}), "gatekey_keys_expiring", (("within", "7d"),), 3),
    "summarized": (lambda m: m.log_summarized(6), "gatekey_decision_log_summarized_total", (), 6),
    "spans": (lambda m: m.spans_lost(4), "gatekey_trace_spans_lost_total", (), 4),
    "workers": (lambda m: m.supervised(configured=4, deaths=0), "gatekey_workers_configured", (), 3),
    "deaths": (lambda m: m.supervised(configured=1, deaths=2), "gatekey_worker_deaths_total", (), 2),
    "shed": (lambda m: m.shed("bridge"), "gatekey_shed_total", (("reason", "bridge"),), 1),
    "limit": (lambda m: m.rate_limit("limited"), "gatekey_rate_limit_total", (("result", "limited"),), 1),
    "login": (lambda m: m.login("failure"), "gatekey_logins_total", (("outcome", "failure"),), 1),
    "sessions": (lambda m: m.watch_sessions(lambda: 3), "gatekey_sessions", (), 3),
    "up": (lambda m: m.store_up(up=True), "gatekey_store_up", (("store", "memory"),), 1),
    "breaker": (lambda m: m.watch_breaker(lambda: 2), "gatekey_store_breaker_state", (("store", "memory"),), 2),
    "lines": (lambda m: m.log_lines(4), "gatekey_decision_log_lines_total", (), 4),
    "dropped": (
        lambda m: m.log_dropped("queue_full", 2),
        "gatekey_decision_log_dropped_total",
        (("reason", "queue_full"),),
        2,
    ),
    "queue": (lambda m: m.watch_log(lambda: 5), "gatekey_decision_log_queue_length", (), 5),
    "lag": (lambda m: m.loop_lag(0.1), "gatekey_loop_lag_seconds_count", (), 1),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_event_moves_a_single_series(metrics: Metrics, name: str) -> None:
    """Everything else stays where it was."""
    action, series, labels, amount = SINGLE[name]
    assert moved(metrics, lambda: action(metrics)) == {(series, labels): amount}


def test_waiting_goes_up_and_down_again(metrics: Metrics) -> None:
    """Decisions under way are counted in and out."""
    metrics.waiting(1)
    metrics.waiting(1)
    metrics.waiting(-1)
    assert values(metrics)["gatekey_decisions_in_flight", ()] == 1


def test_a_result_that_an_operation_cannot_have_counts_as_its_error(metrics: Metrics) -> None:
    """A store that breaks its contract is visible, and makes no new series."""
    changes = moved(metrics, lambda: metrics.store_operation("ping", "corrupt", 0.1))
    labels = (("store", "memory"), ("operation", "ping"), ("result", "error"))
    assert changes[("gatekey_store_operations_total", labels)] == 1


def test_what_the_store_was_not_asked_is_counted_without_a_duration(metrics: Metrics) -> None:
    """It took no time, and would make a store that is down look quick."""
    changes = moved(metrics, lambda: metrics.store_operation("find", "unavailable", None))
    labels = (("store", "memory"), ("operation", "find"), ("result", "unavailable"))
    assert changes == {("gatekey_store_operations_total", labels): 1}


def test_the_pool_and_the_cache_are_read_at_the_scrape(metrics: Metrics) -> None:
    """What is watched costs a request nothing."""
    size = [1]
    metrics.watch_pool(lambda: Connections(idle=3, used=size[0], maximum=10))
    metrics.watch_cache(lambda: size[0], 100, lambda: True)
    size[0] = 8
    found = values(metrics)
    assert found["gatekey_store_pool_connections", (("store", "memory"), ("state", "idle"))] == 3
    assert found["gatekey_store_pool_connections", (("store", "memory"), ("state", "used"))] == 8
    assert found["gatekey_store_pool_connections_max", (("store", "memory"),)] == 10
    assert found["gatekey_cache_entries", ()] == 8
    assert found["gatekey_cache_entries_max", ()] == 100
    assert found["gatekey_invalidation_link_up", ()] == 1


@pytest.mark.parametrize("method", ["cache_lookup", "cache_evicted", "invalidated", "shed", "rate_limit", "login"])
def test_a_label_outside_its_closed_set_is_refused(metrics: Metrics, method: str) -> None:
    """A typing error shows in the first test, and no caller can make a series."""
    with pytest.raises(KeyError):
        getattr(metrics, method)("no-such-value")
