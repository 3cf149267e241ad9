# ruff: noqa: INP001 - a script, no part of a package
"""Writes gatekey-overview.json: is the service all right, and if not, where to look next.

Read from top to bottom: symptoms first, causes below. Run it after a change and commit both; a test compares them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["overview"]

TARGET: Final = Path(__file__).with_name("gatekey-overview.json")
_WIDTH: Final = 24  # columns of Grafana's grid
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_ONLY: Final = 'job=~"$job",instance=~"$instance"'
_COLORS: Final = {"allow": "green", "deny": "orange", "error": "red"}

Panel = dict[str, Any]


def overview() -> dict[str, Any]:
    """The dashboard's JSON model."""
    rows = [
        ("Is it all right?", 4, _right_now()),
        ("Decisions", 8, _decisions()),
        ("Latency", 8, _latency()),
        ("Cache", 8, _cache()),
        ("Store", 8, _store()),
        ("Log and process", 8, _process()),
    ]
    return {
        "uid": "gatekey-overview",
        "title": "Gatekey / Overview",
        "description": "Decisions, latency, cache, store, log and process of Gatekey.",
        "tags": ["gatekey"],
        "schemaVersion": 42,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": [_new_version()]},
        "links": [],
        "templating": {"list": [_datasource(), _variable("job"), _variable("instance")]},
        "panels": _placed(rows),
    }


def _right_now() -> tuple[Panel, ...]:
    return (
        _stat(
            "Errors",
            "Share of requests that could not be decided. A denial is a good answer and does not count.",
            _ratio("decisions_total", 'outcome="error"'),
            unit="percentunit",
            steps=[("green", None), ("orange", 0.0005), ("red", 0.005)],
        ),
        _stat("Decisions", "All decisions of all workers.", _rate("decisions_total"), unit="reqps"),
        _stat(
            "p99 of a decision",
            "99 of 100 decisions are faster. Good: below 1 ms with a warm cache.",
            _quantile(0.99, "decision_duration_seconds"),
            unit="s",
            steps=[("green", None), ("orange", 0.01), ("red", 0.05)],
        ),
        _stat(
            "Cache hits",
            "Share of look-ups that needed no store. Good: above 95 % in steady traffic.",
            _ratio("cache_lookups_total", 'result=~"hit|negative_hit"'),
            unit="percentunit",
        ),
        _stat(
            "Store",
            "1 while every instance reaches its store.",
            f"min(gatekey_store_up{{{_ONLY}}})",
            steps=[("red", None), ("green", 1)],
        ),
        _stat(
            "Log lines lost in 1 h",
            "Decision lines that are in no log. Good: 0; the metrics have counted them nevertheless.",
            f"sum(increase(gatekey_decision_log_dropped_total{{{_ONLY}}}[1h]))",
            steps=[("green", None), ("red", 1)],
        ),
    )


def _decisions() -> tuple[Panel, ...]:
    return (
        _graph(
            "Decisions by outcome",
            "Only errors are bad. Denials grow with scanners as well as with customers in trouble: see the reasons.",
            [(_rate("decisions_total", by="outcome"), "{{outcome}}")],
            unit="reqps",
            stacked=True,
            colors=_COLORS,
        ),
        _graph(
            "Denials by reason",
            "Missing, malformed and unknown keys are mostly noise of the internet; expired, inactive, domain and scope "
            "are known keys, and so customers.",
            [(_rate("decisions_total", 'outcome="deny"', by="reason") + " > 0", "{{reason}}")],
            unit="reqps",
            stacked=True,
        ),
        _graph(
            "Errors by reason",
            "store_unavailable: look at the store; overloaded: too many look-ups at once; internal: look into the log.",
            [(_rate("decisions_total", 'outcome="error"', by="reason"), "{{reason}}")],
            unit="reqps",
            stacked=True,
        ),
    )


def _latency() -> tuple[Panel, ...]:
    name = "decision_duration_seconds"
    return (
        _graph(
            "p50 of a decision by source",
            "Where the record came from decides how fast the answer is.",
            [(_quantile(0.5, name, by="source"), "{{source}}")],
            unit="s",
        ),
        _graph(
            "p99 of a decision by source",
            "cache and negative need no store; stale means that the store did not answer.",
            [(_quantile(0.99, name, by="source"), "{{source}}")],
            unit="s",
        ),
        _graph(
            "p99 of an answer by route",
            "The whole HTTP request, as the service sees it.",
            [(_quantile(0.99, "http_request_duration_seconds", by="route"), "{{route}}")],
            unit="s",
        ),
    )


def _cache() -> tuple[Panel, ...]:
    return (
        _graph(
            "Look-ups by result",
            "miss asks the store; stale is a record past its time while the store is away.",
            [(_rate("cache_lookups_total", by="result"), "{{result}}")],
            unit="reqps",
            stacked=True,
        ),
        _graph(
            "Entries",
            "At the maximum, keys push each other out; see the evictions.",
            [
                (f"sum by (instance) (gatekey_cache_entries{{{_ONLY}}})", "{{instance}}"),
                (f"max(gatekey_cache_entries_max{{{_ONLY}}})", "maximum"),
            ],
        ),
        _graph(
            "Evictions, announced changes, saved queries",
            "lru evictions mean that the cache is too small; each saved query joined one that was under way.",
            [
                (_rate("cache_evictions_total", by="reason"), "evicted: {{reason}}"),
                (_rate("invalidations_total", by="origin"), "changed: {{origin}}"),
                (_rate("cache_coalesced_total"), "saved"),
            ],
            unit="ops",
        ),
    )


def _store() -> tuple[Panel, ...]:
    return (
        _graph(
            "Operations by result",
            "not_found is an answer; unavailable, corrupt and error are not.",
            [(_rate("store_operations_total", by="result") + " > 0", "{{result}}")],
            unit="ops",
            stacked=True,
        ),
        _graph(
            "p99 by operation",
            "find is what a request waits for, at most for GATEKEY_STORE_TIMEOUT.",
            [(_quantile(0.99, "store_operation_duration_seconds", by="operation"), "{{operation}}")],
            unit="s",
        ),
        _graph(
            "Reachable, link, breaker",
            "store and link are 1 when all is well; the breaker is 0 (closed), 1 (half open) or 2 (open).",
            [
                (f"min by (store) (gatekey_store_up{{{_ONLY}}})", "{{store}}"),
                (f"min(gatekey_invalidation_link_up{{{_ONLY}}})", "link of announcements"),
                (f"max(gatekey_store_breaker_state{{{_ONLY}}})", "breaker"),
            ],
        ),
    )


def _process() -> tuple[Panel, ...]:
    return (
        _graph(
            "Log: lost and waiting",
            "Lines are lost when whoever reads the log is too slow (queue_full) or gone (write_error).",
            [
                (_rate("decision_log_dropped_total", by="reason"), "lost: {{reason}}"),
                (f"sum by (instance) (gatekey_decision_log_queue_length{{{_ONLY}}})", "waiting: {{instance}}"),
            ],
        ),
        _graph(
            "In flight and shed",
            "Decisions that wait for the store, and requests refused because too many did.",
            [
                (f"sum(gatekey_decisions_in_flight{{{_ONLY}}})", "waiting"),
                (_rate("shed_total", by="reason"), "shed: {{reason}}"),
            ],
        ),
        _graph(
            "p99 of the loop's lag",
            "How late the event loop wakes a task. Above 10 ms something blocks it.",
            [(_quantile(0.99, "loop_lag_seconds", by="instance"), "{{instance}}")],
            unit="s",
        ),
        _graph(
            "CPU",
            "Cores in use.",
            [(_rate("process_cpu_seconds_total", by="instance"), "{{instance}}")],
        ),
        _graph(
            "Memory",
            "Resident memory of all workers. Good: flat.",
            [(f"sum by (instance) (gatekey_process_resident_memory_bytes{{{_ONLY}}})", "{{instance}}")],
            unit="bytes",
        ),
        _graph(
            "Open files",
            "Files and sockets. Good: flat in steady traffic.",
            [(f"sum by (instance) (gatekey_process_open_fds{{{_ONLY}}})", "{{instance}}")],
        ),
    )


def _rate(name: str, matchers: str = "", *, by: str = "") -> str:
    selector = f"{matchers},{_ONLY}" if matchers else _ONLY
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate(gatekey_{name}{{{selector}}}[$__rate_interval]))"


def _ratio(name: str, matchers: str) -> str:
    return f"{_rate(name, matchers)} / {_rate(name)}"


def _quantile(share: float, name: str, *, by: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{name}_bucket', by=f'le, {by}' if by else 'le')})"


def _panel(kind: str, title: str, description: str, queries: list[tuple[str, str]], field: Panel) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": _SOURCE,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(queries)
        ],
        "fieldConfig": field,
    }


def _stat(
    title: str,
    description: str,
    query: str,
    *,
    unit: str = "short",
    steps: list[tuple[str, float | None]] | None = None,
) -> Panel:
    colors = [{"color": color, "value": value} for color, value in steps or [("blue", None)]]
    idle = {"type": "special", "options": {"match": "nan", "result": {"text": "no traffic"}}}
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": colors}, "mappings": [idle]}
    panel = _panel("stat", title, description, [(query, title)], {"defaults": defaults, "overrides": []})
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
    }
    return panel


def _graph(
    title: str,
    description: str,
    queries: list[tuple[str, str]],
    *,
    unit: str = "short",
    stacked: bool = False,
    colors: dict[str, str] | None = None,
) -> Panel:
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 5,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in (colors or {}).items()
    ]
    field = {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": overrides}
    panel = _panel("timeseries", title, description, queries, field)
    panel["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def _placed(rows: list[tuple[str, int, tuple[Panel, ...]]]) -> list[Panel]:
    """Lay the rows out below each other, with identifiers that stay the same from run to run."""
    placed: list[Panel] = []
    y = 0
    for number, (title, height, panels) in enumerate(rows, start=1):
        placed.append(
            {
                "id": number * 100,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1},
            }
        )
        y += 1
        columns = 6 if panels[0]["type"] == "stat" else 3
        width = _WIDTH // columns
        for index, panel in enumerate(panels):
            line, column = divmod(index, columns)
            position = {"x": column * width, "y": y + line * height, "w": width, "h": height}
            placed.append({"id": number * 100 + index + 1, **panel, "gridPos": position})
        y += -(-len(panels) // columns) * height
    return placed


def _new_version() -> dict[str, Any]:
    running = f"count by (version) (gatekey_build_info{{{_ONLY}}}"
    query = f"{running}) unless {running} offset 2m)"
    return {
        "name": "New version",
        "datasource": _SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "expr": query,
        "titleFormat": "Gatekey {{version}}",
        "step": "60s",
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(label: str) -> dict[str, Any]:
    within = "" if label == "job" else '{job=~"$job"}'
    query = f"label_values(gatekey_build_info{within}, {label})"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


if __name__ == "__main__":
    TARGET.write_text(json.dumps(overview(), indent=2) + "\n", encoding="utf-8")
