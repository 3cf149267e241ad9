"""Gatekey's Grafana dashboards as code; what stands here as JSON is what ``python -m dashboards`` writes.

Panels are numbered by hand: a number is a panel's address in links and pictures, and stays when panels move.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import overview, security, slo, store_cache, workers

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["files"]


def files() -> Iterator[tuple[str, str]]:
    """Name and text of every dashboard's file."""
    for page in (overview, slo, store_cache, security, workers):
        dashboard = page.dashboard()
        model = _tidy(json.loads(json.dumps(dashboard, cls=JSONEncoder)))
        yield f"{dashboard.uid}.json", json.dumps(model, indent=1, sort_keys=True) + "\n"


def _tidy(value: Any) -> Any:
    """Without what the SDK adds to every link: a panel's link has three fields, and the list of dashboards stands in sight."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "link":
        return {name: value[name] for name in ("title", "url", "targetBlank")}
    unwanted = {"placement"} if value.get("type") == "dashboards" else set()
    return {name: _tidy(item) for name, item in value.items() if name not in unwanted}
