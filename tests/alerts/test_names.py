"""Rules and dashboards ask only for what the service exports; what it exports is asked for, or it is said why not."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from tests.support.alerts import DASHBOARDS, rules
from tests.support.dashboards import exported

SELECTOR: Final = re.compile(r"(?<![\w:])([a-zA-Z_][\w:]*)\{([^}]*)\}|(?<![\w:\"])((?:gatekey|slo|job)[_:][\w:]+)")
MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING: Final = re.compile(r"\b(?:by|on|ignoring) \(([^)]*)\)")
SCRAPED: Final = {"up": set[str](), "scrape_samples_post_metric_relabeling": set[str]()}
"""What Prometheus itself adds to a target."""
TARGET: Final = {"job", "instance", "le"}
OPEN: Final = {"store", "version", "revision", "python"}
"""Labels whose values depend on the installation."""
UNUSED: Final = {
    "gatekey_decision_duration_seconds_sum": "a mean hides what the buckets show",
    "gatekey_store_operation_duration_seconds_sum": "likewise",
    "gatekey_http_request_duration_seconds_sum": "likewise",
    "gatekey_invalidation_delay_seconds_sum": "likewise",
    "gatekey_loop_lag_seconds_sum": "likewise",
    "gatekey_store_operation_duration_seconds_count": "gatekey_store_operations_total says it by result",
    "gatekey_http_request_duration_seconds_count": "gatekey_http_requests_total says it by status",
    "gatekey_invalidation_delay_seconds_count": "gatekey_invalidations_total says it by origin",
    "gatekey_loop_lag_seconds_count": "how often the loop was looked at says nothing",
    "gatekey_trace_spans_lost_total": "traces are an extra, and the log says when a loss begins",
}
"""Series that nothing asks for, and why. Most are part of a histogram, so they come along."""


EXPORTED: Final = exported()
RECORDED: Final = {rule.name for rule in rules() if not rule.is_alert}
EXPRESSIONS: Final = [rule.expr for rule in rules()]


def texts(value: Any) -> list[str]:
    """All strings of a dashboard: queries of panels, variables, annotations and whatever may be added."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def dashboards() -> str:
    """The text of all of them, as they are in the repository now."""
    files = sorted(DASHBOARDS.glob("*.json"))
    assert files
    return "\n".join(text for file in files for text in texts(json.loads(file.read_text(encoding="utf-8"))))


def selectors(expression: str) -> list[tuple[str, str]]:
    """Each name with its matchers, the values of matchers left aside."""
    return [(name or bare, matchers) for name, matchers, bare in SELECTOR.findall(expression)]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_a_rule_names_only_what_exists(expression: str) -> None:
    """Every metric or recording, every label, and every value of a closed set."""
    named = selectors(expression)
    assert named or expression == "vector(1)"
    for name, matchers in named:
        assert name in {*EXPORTED, *RECORDED, *SCRAPED}, name
        for label, operator, value in MATCHER.findall(matchers):
            if label in TARGET:
                continue
            if name in RECORDED:
                assert label in {rule_label for rule in rules() for rule_label in rule.labels}
                continue
            assert label in EXPORTED[name], (name, label)
            wanted = set(value.split("|") if operator in ("=~", "!~") else [value])
            assert label in OPEN or wanted <= EXPORTED[name][label], (name, label, value)
    grouped = {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",")}
    known = {label for name, _ in named for label in EXPORTED.get(name, ())}
    assert grouped <= known | TARGET


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_a_rule_takes_counters_by_their_rate_and_gauges_as_they_are(expression: str) -> None:
    """The other way round a restart looks like a fault, or a fault like nothing."""
    for name in {name for name, _ in selectors(expression) if name in EXPORTED}:
        counted = name.endswith(("_total", "_bucket", "_count", "_sum"))
        assert (re.search(rf"(?:rate|increase)\({name}\b", expression) is not None) is counted, name


def test_what_the_service_exports_is_asked_for() -> None:
    """By a rule or a dashboard; else it stands in the list above with its reason, and nothing stands there without need."""
    asked = set(re.findall(r"\bgatekey_\w+", "\n".join([dashboards(), *EXPRESSIONS])))
    assert {name for name in EXPORTED if name not in asked} == set(UNUSED)


def test_what_is_recorded_is_asked_for() -> None:
    """By an alert, a dashboard, another recording or a runbook; a recording costs a series for ever."""
    pages = [path.read_text(encoding="utf-8") for path in (DASHBOARDS.parent / "docs").rglob("*.md")]
    for name in RECORDED:
        used = [rule.expr for rule in rules() if re.search(rf"(?<![\w:]){re.escape(name)}(?![\w:])", rule.expr)]
        assert used or any(name in text for text in [dashboards(), *pages]), name
