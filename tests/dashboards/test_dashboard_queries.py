"""Dashboards ask only for what the service exports or the rules record, and in words that Prometheus understands."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from dashboards import queries
from service.auth.reasons import REASONS, Outcome
from tests.support.dashboards import NAMES, RECORDED, RULES, asked, exported, filled_in
from tests.support.prometheus import missing, promtool

if TYPE_CHECKING:
    from pathlib import Path

QUERIES = dict(chain.from_iterable(asked(name).items() for name in NAMES))
EXPORTED = exported()
SCRAPE_LABELS = {"job", "instance", "le"}
OPEN_LABELS = {"store", "version", "revision", "python"}  # values that depend on the installation
PLAIN = {"ALERTS", "up", "scrape_duration_seconds", "scrape_samples_post_metric_relabeling"}
"""What Prometheus makes itself."""
SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")

NOT_SHOWN = {
    "gatekey_decision_duration_seconds_sum": "an average of two kinds of answer says nothing; quantiles do",
    "gatekey_store_operation_duration_seconds_sum": "likewise",
    "gatekey_store_operation_duration_seconds_count": "gatekey_store_operations_total has the results too",
    "gatekey_invalidation_delay_seconds_sum": "quantiles say more",
    "gatekey_invalidation_delay_seconds_count": "gatekey_invalidations_total has the origins too",
    "gatekey_http_request_duration_seconds_sum": "quantiles say more",
    "gatekey_http_request_duration_seconds_count": "gatekey_http_requests_total has the statuses too",
    "gatekey_loop_lag_seconds_sum": "quantiles say more",
    "gatekey_loop_lag_seconds_count": "how often it was measured",
    "gatekey_trace_spans_lost_total": "traces are an extra, and the log says when a loss begins",
}
"""Series that are exported and stand in no dashboard, and why."""


@pytest.mark.parametrize("where", QUERIES)
def test_a_query_names_only_what_exists(where: str) -> None:
    """Every metric, every label and every value of a closed set."""
    query = QUERIES[where]
    selectors = SELECTOR.findall(query)
    assert selectors
    for name, matchers in selectors:
        if name in RECORDED or name in PLAIN:
            continue
        assert name in EXPORTED
        for label, operator, value in MATCHER.findall(matchers):
            if label not in SCRAPE_LABELS:
                assert label in EXPORTED[name], (name, label)
                wanted = set(value.split("|") if operator in ("=~", "!~") else [value])
                assert label in OPEN_LABELS or wanted <= EXPORTED[name][label], (name, label, value)
    names = {name for name, _ in selectors}
    grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
    for label in grouped - SCRAPE_LABELS:
        assert any(label in EXPORTED.get(name, {}) for name in names), label


@pytest.mark.parametrize("where", QUERIES)
def test_a_query_has_no_metric_without_job_and_instance(where: str) -> None:
    """Only alerts and objectives are the whole service's; the names of everything else stand in front of a selector."""
    query = QUERIES[where]
    bare = set(re.findall(r"\bgatekey_\w+", query)) - {name for name, _ in SELECTOR.findall(query)}
    assert not bare
    for name, matchers in SELECTOR.findall(query):
        labels = {label for label, _, _ in MATCHER.findall(matchers)}
        wanted = set() if name == "ALERTS" else {"job"} if name in RECORDED else {"job", "instance"}
        assert wanted <= labels, name


@pytest.mark.parametrize("where", QUERIES)
def test_a_query_uses_each_kind_of_metric_as_it_must_be(where: str) -> None:
    """Counters and buckets only through a rate, gauges never."""
    query = QUERIES[where]
    for name in {name for name, _ in SELECTOR.findall(query) if name.startswith("gatekey_")}:
        counted = name.endswith(("_total", "_bucket", "_count", "_sum"))
        rated = re.search(rf"(?:rate|increase|resets)\({name}\b", query) is not None
        assert rated is counted, name


def test_prometheus_understands_every_query(tmp_path: Path, require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """As recording rules, which is what promtool parses."""
    if lacks := missing():
        (pytest.fail if require_all else pytest.skip)(lacks)
    rules = [{"record": f"q:{index}", "expr": filled_in(query)} for index, query in enumerate(QUERIES.values())]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))  # JSON is YAML
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


def test_every_metric_stands_in_a_dashboard_or_has_a_reason_not_to() -> None:
    """What nobody looks at is either missing here or not worth exporting."""
    shown = {name for query in QUERIES.values() for name, _ in SELECTOR.findall(query)}
    assert set(EXPORTED) - shown == set(NOT_SHOWN)


def test_every_denial_is_of_exactly_one_kind() -> None:
    """A new reason must be somebody's: a customer's, a stranger's, a limit's or a proxy's."""
    kinds = (queries.CUSTOMERS, queries.STRANGERS, queries.LIMITS, queries.PROXIES)
    named = [reason for kind in kinds for reason in MATCHER.findall(kind)[0][2].split("|")]
    assert sorted(named) == sorted(reason.value for reason, row in REASONS.items() if row.outcome is Outcome.DENY)


def test_known_keys_are_the_same_here_and_in_the_alert() -> None:
    """Whoever is woken for refused customers finds the same number in the panel."""
    text = "".join(path.read_text(encoding="utf-8") for path in RULES)
    (value,) = re.findall(r'record: job:gatekey_known_key_denied:rate10m.*?reason=~"([^"]+)"', text, re.DOTALL)
    assert set(value.split("|")) == set(MATCHER.findall(queries.CUSTOMERS)[0][2].split("|"))


def test_the_latency_objective_is_a_bound_of_the_buckets() -> None:
    """Else the share within it could not be counted."""
    assert queries.LATENCY_GOAL in EXPORTED["gatekey_decision_duration_seconds_bucket"]["le"]


def test_an_answer_hangs_from_the_last_bound_below_the_time_out_on() -> None:
    """Between those two a quantile is a guess, so the panels draw none."""
    *_, last, _time_out, infinite = sorted(EXPORTED["gatekey_http_request_duration_seconds_bucket"]["le"], key=float)
    assert (last, infinite) == (queries.HANGING, "+Inf")
