"""The dashboard asks only for what the service exports, and the JSON is what its script makes (rules: tests/alerts)."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.observe.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "dashboards"
SCRAPE_LABELS = {"job", "instance", "le"}
SELECTOR = re.compile(r"\b(gatekey_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def exported() -> dict[str, dict[str, set[str]]]:
    """Every series' name with its labels and their values."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in Metrics(store="memory", version="1").registry.collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


EXPORTED = exported()
OPEN_LABELS = {"store", "version", "revision", "python"}  # values that depend on the installation


def dashboard_file() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "gatekey-overview.json").read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard_file()["panels"] if panel["type"] != "row"]


def dashboard_queries() -> list[str]:
    dashboard = dashboard_file()
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    queries += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    return queries + [item["definition"] for item in dashboard["templating"]["list"] if "definition" in item]


QUERIES = dashboard_queries()


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_a_query_names_only_what_exists(query: str) -> None:
    """Every metric, every label and every value of a closed set."""
    selectors = SELECTOR.findall(query)
    assert selectors
    names = {name for name, _ in selectors}
    assert names <= set(EXPORTED)
    for name, matchers in selectors:
        for label, operator, value in MATCHER.findall(matchers):
            if label in SCRAPE_LABELS:
                continue
            assert label in EXPORTED[name], (name, label)
            wanted = set(value.split("|") if operator in ("=~", "!~") else [value])
            assert label in OPEN_LABELS or wanted <= EXPORTED[name][label], (name, label, value)
    grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
    for label in grouped - SCRAPE_LABELS:
        assert any(label in EXPORTED[name] for name in names), label


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_a_query_uses_each_kind_of_metric_as_it_must_be(query: str) -> None:
    """Counters and buckets only through a rate, gauges never."""
    for name in {name for name, _ in SELECTOR.findall(query)}:
        counted = name.endswith(("_total", "_bucket", "_count", "_sum"))
        rated = re.search(rf"(?:rate|increase)\({name}\b", query) is not None
        assert rated is counted, name
    assert query.count("(") == query.count(")")


def test_the_dashboard_is_what_its_script_makes() -> None:
    """Whoever changes one without the other finds out here."""
    spec = importlib.util.spec_from_file_location("make_overview", FOLDER / "make_overview.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert dashboard_file() == module.overview()


def test_panels_explain_themselves_and_do_not_overlap() -> None:
    """Each has a description and a unit, an identifier of its own, and a place of its own in the grid."""
    taken: set[tuple[int, int]] = set()
    every = dashboard_file()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for panel in every:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_dashboard_shows_what_an_operator_asks_first() -> None:
    """Each of these metrics stands in some panel."""
    text = "\n".join(dashboard_queries())
    for name in (
        "gatekey_decisions_total",
        "gatekey_decision_duration_seconds_bucket",
        "gatekey_cache_lookups_total",
        "gatekey_store_up",
        "gatekey_store_operation_duration_seconds_bucket",
        "gatekey_decision_log_dropped_total",
        "gatekey_loop_lag_seconds_bucket",
        "gatekey_process_cpu_seconds_total",
        "gatekey_process_resident_memory_bytes",
    ):
        assert name in text
