"""Contract 7's list of metrics, written out once more: what dashboards and alerts of operators rely on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.auth.decision import Decision, Source
from service.auth.reasons import REASONS
from service.observe.families import CERTIFICATES, ROUTES, SOON, families
from service.observe.metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTRACT: dict[str, tuple[str, tuple[str, ...]]] = {
    "gatekey_decisions_total": ("counter", ("outcome", "reason")),
    "gatekey_decision_duration_seconds": ("histogram", ("outcome", "source")),
    "gatekey_decisions_in_flight": ("gauge", ()),
    "gatekey_cache_lookups_total": ("counter", ("result",)),
    "gatekey_cache_entries": ("gauge", ()),
    "gatekey_cache_entries_max": ("gauge", ()),
    "gatekey_cache_evictions_total": ("counter", ("reason",)),
    "gatekey_cache_coalesced_total": ("counter", ()),
    "gatekey_store_operations_total": ("counter", ("store", "operation", "result")),
    "gatekey_store_operation_duration_seconds": ("histogram", ("store", "operation")),
    "gatekey_store_pool_connections": ("gauge", ("store", "state")),
    "gatekey_store_pool_connections_max": ("gauge", ("store",)),
    "gatekey_store_breaker_state": ("gauge", ("store",)),
    "gatekey_store_up": ("gauge", ("store",)),
    "gatekey_invalidations_total": ("counter", ("origin",)),
    "gatekey_invalidation_delay_seconds": ("histogram", ()),
    "gatekey_invalidation_link_up": ("gauge", ()),
    "gatekey_keys": ("gauge", ("state",)),
    "gatekey_key_events_total": ("counter", ("event",)),
    "gatekey_decision_log_lines_total": ("counter", ()),
    "gatekey_decision_log_dropped_total": ("counter", ("reason",)),
    "gatekey_decision_log_queue_length": ("gauge", ()),
    "gatekey_shed_total": ("counter", ("reason",)),
    "gatekey_rate_limit_total": ("counter", ("result",)),
    "gatekey_logins_total": ("counter", ("outcome",)),
    "gatekey_sessions": ("gauge", ()),
    "gatekey_http_requests_total": ("counter", ("route", "status")),
    "gatekey_http_request_duration_seconds": ("histogram", ("route",)),
    "gatekey_loop_lag_seconds": ("histogram", ()),
    "gatekey_workers": ("gauge", ()),
    "gatekey_build_info": ("gauge", ("version", "revision", "python", "store")),
    "gatekey_process_resident_memory_bytes": ("gauge", ()),
    "gatekey_process_cpu_seconds_total": ("counter", ()),
    "gatekey_process_open_fds": ("gauge", ()),
}
BEYOND_CONTRACT = {
    "gatekey_shadow_decisions_total",  # the mark of shadow mode
    "gatekey_keys_expiring",  # somebody can be told before a customer is refused
    "gatekey_workers_configured",  # what gatekey_workers should be
    "gatekey_worker_deaths_total",  # a worker that is replaced at once is never seen missing
    "gatekey_decision_log_summarized_total",  # decisions = lines + summarized + dropped
    "gatekey_trace_spans_lost_total",  # a collector that is away
    "gatekey_process_start_time_seconds",
}
CERTIFICATE_ENDS = "gatekey_tls_certificate_expiry_timestamp_seconds"  # likewise, where there are any

STATUSES = range(95, 605)


def collected(metrics: Metrics) -> dict[str, Metric]:
    """Every family by the name under which a query finds it."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in metrics.registry.collect()
    }


FAMILIES = collected(Metrics(store="memory", version="1"))


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def move_everything(metrics: Metrics) -> None:
    """Move whatever can be moved, with every value that a caller can have."""
    for reason, source in itertools.product(REASONS, Source):
        decision = Decision(reason, source=source)
        decision.shadowed = None
        metrics.decided(decision)
    for route, status in itertools.product(ROUTES, STATUSES):
        metrics.http_request(route, status, 0.1)
    for operation, result in itertools.product(
        ("find", "ping", "read", "write", "organizations", "barrier"),
        ("ok", "not_found", "conflict", "unavailable", "corrupt", "error"),
    ):
        metrics.store_operation(operation, result, 0.1)
    metrics.keys_counted({"active": 1, "disabled": 2, "revoked": 3, "expired": 4})
    metrics.keys_expiring(dict.fromkeys(SOON, 5))
    metrics.supervised(configured=4, deaths=2)
    metrics.log_summarized(3)
    metrics.store_up(up=True)
    metrics.invalidation_delay(0.1)
    metrics.loop_lag(0.1)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_metric_of_the_contract_exists_with_its_type_and_labels(name: str) -> None:
    """A dashboard that names the metric and groups by its labels finds it, from the first scrape on."""
    kind, labels = CONTRACT[name]
    family = FAMILIES[name]
    assert family.type == kind
    assert family.samples
    for sample in family.samples:
        assert set(sample.labels) - {"le"} == set(labels)


def test_there_is_no_metric_beside_the_contract() -> None:
    """Whatever else is added must be added to the contract's list first."""
    assert set(FAMILIES) == set(CONTRACT) | BEYOND_CONTRACT


def test_a_target_has_at_most_500_series_and_traffic_adds_none() -> None:
    """The number of series is fixed when the process starts."""
    metrics = Metrics(
        store="postgresql",
        version="1.2.3",
        revision="abc",
        store_timeout=0.7,
        request_timeout=12,
        certificates=dict.fromkeys(CERTIFICATES, 1.0),
    )
    before = series(metrics)
    move_everything(metrics)
    assert series(metrics) == before
    assert len(before) <= 500


def test_certificates_are_told_where_any_is_known() -> None:
    """Each by its name with its end; without any there is not even the name of the metric."""
    family = collected(Metrics(store="memory", version="1", certificates={"server": 2e9, "store_ca": 3e9}))[
        CERTIFICATE_ENDS
    ]
    told = {sample.labels["certificate"]: sample.value for sample in family.samples}
    assert told == {"server": 2e9, "store_ca": 3e9}
    assert CERTIFICATE_ENDS not in FAMILIES


def test_there_is_no_created_series() -> None:
    """They would double the counters."""
    names = {
        sample.name for family in Metrics(store="memory", version="1").registry.collect() for sample in family.samples
    }
    assert not [name for name in names if name.endswith("_created")]


def test_every_series_of_decisions_and_of_the_store_is_there_at_zero() -> None:
    """A rate over a series that appears with its first error is blind to that error."""
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in Metrics(store="redis", version="1").registry.collect()
        for sample in family.samples
        if sample.name in ("gatekey_decisions_total", "gatekey_store_operations_total", "gatekey_store_up")
        or (sample.name.startswith("gatekey_decision_duration") and sample.name.endswith("_count"))
    }
    assert set(found.values()) == {0.0}
    for reason, row in REASONS.items():
        assert ("gatekey_decisions_total", row.outcome.value, reason.value) in found
    assert ("gatekey_store_operations_total", "redis", "find", "unavailable") in found
    assert ("gatekey_decision_duration_seconds_count", "deny", "negative") in found


@given(store_timeout=st.floats(0.001, 120), find_timeout=st.floats(2, 240), request_timeout=st.floats(0.5, 600))
@settings(max_examples=50)
def test_buckets_are_few_and_reach_just_above_every_time_out(
    store_timeout: float, find_timeout: float, request_timeout: float
) -> None:
    """A wait that ends with its time-out falls into a bucket of its own, so that no quantile is a fiction."""
    by_name = {
        family.name: family
        for family in families(
            store="memory",
            store_timeout=store_timeout,
            find_timeout=find_timeout,
            request_timeout=request_timeout,
        )
    }
    for family in by_name.values():
        assert len(family.buckets) + 1 <= 14  # and +Inf
        assert list(family.buckets) == sorted(set(family.buckets))
    for name, time_out in (
        ("decision_duration_seconds", store_timeout),
        ("store_operation_duration_seconds", store_timeout),
        ("store_operation_duration_seconds", find_timeout),
        ("store_operation_duration_seconds", 5.0),
        ("http_request_duration_seconds", store_timeout),
        ("http_request_duration_seconds", request_timeout),
    ):
        assert any(time_out < bound <= time_out * 1.25 for bound in by_name[name].buckets), (name, time_out)
    assert by_name["decision_duration_seconds"].buckets[0] == 0.00005


@pytest.mark.parametrize("name", ["store_operation_duration_seconds", "http_request_duration_seconds"])
def test_what_takes_a_second_is_told_from_what_hangs(name: str) -> None:
    """A store that answers after 1 s must not read like one that answers after 5 s, nor a page like its time-out."""
    (family,) = (
        family for family in families(store="memory", store_timeout=0.25, request_timeout=30) if family.name == name
    )
    above = min(bound for bound in family.buckets if bound >= 1)
    below = max(bound for bound in family.buckets if bound < 1)
    assert (below, above) == (0.3, 1.2)
