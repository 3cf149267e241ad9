"""The committed dashboards as the tests read them, and the names that their queries may use."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from service.observe.families import CERTIFICATES
from service.observe.metrics import Metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards"
NAMES = sorted(path.stem for path in FOLDER.glob("gatekey-*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {
    name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES
}
RULES = sorted(FOLDER.glob("rules/*.yml"))
RECORDED = set(re.findall(r"- record: (\S+)", "".join(path.read_text(encoding="utf-8") for path in RULES)))
ALERTS = set(re.findall(r"- alert: (\S+)", "".join(path.read_text(encoding="utf-8") for path in RULES)))


def panels(name: str) -> list[dict[str, Any]]:
    """Every panel of a dashboard, those of closed rows too, without the rows."""
    found: list[dict[str, Any]] = []
    for panel in DASHBOARDS[name]["panels"]:
        found += panel.get("panels", []) if panel["type"] == "row" else [panel]
    return found


def asked(name: str) -> dict[str, str]:
    """Where each PromQL query of a dashboard stands -> the query."""
    dashboard = DASHBOARDS[name]
    found = {
        f"{name}-{panel['id']}-{target['refId']}": target["expr"]
        for panel in panels(name)
        for target in panel["targets"]
        if target["datasource"]["type"] == "prometheus"
    }
    for annotation in dashboard["annotations"]["list"]:
        found[f"{name}-{annotation['name'].replace(' ', '-')}"] = annotation["expr"]
    return found


def filled_in(query: str, *, rate: str = "10s") -> str:
    """The query as Grafana sends it when nothing was chosen."""
    for name, value in {"__rate_interval": rate, "job": ".+", "instance": ".+"}.items():
        query = query.replace(f"${name}", value)
    assert "$" not in query, query
    return query


def exported() -> dict[str, dict[str, set[str]]]:
    """Every series' name with its labels and their values."""
    found: dict[str, dict[str, set[str]]] = {}
    ends = dict.fromkeys(CERTIFICATES, 2e9)
    for family in Metrics(store="memory", version="1", certificates=ends).registry.collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found
