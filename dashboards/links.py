"""Where a panel leads: the runbook of its alert, the log lines and traces of the same moment, the next dashboard.

No link names a data source or an address: both are variables of the dashboard, and every link keeps the time.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

__all__ = ["LOKI", "PROMETHEUS", "TEMPO", "dashboard", "dropdown", "lines", "runbook", "runbook_of_alert", "traces"]

PROMETHEUS: Final = "${prometheus_datasource}"
LOKI: Final = "${loki_datasource}"
TEMPO: Final = "${tempo_datasource}"
_KEPT: Final = "${__url_time_range}&${__all_variables}"


def dropdown() -> DashboardLink:
    """The list of all Gatekey's dashboards, at the top of each."""
    link = DashboardLink("Gatekey").type(DashboardLinkType.DASHBOARDS).tags(["gatekey"]).as_dropdown(as_dropdown=True)
    return link.include_vars(include_vars=True).keep_time(keep_time=True).tooltip("Gatekey's other dashboards")


def runbook(alert: str) -> DashboardLink:
    """What to do when this alert fires."""
    return _link(f"Runbook: {alert}", f"${{runbooks}}/{alert}.md")


def runbook_of_alert() -> DashboardLink:
    """Likewise, of the alert in the row."""
    return _link("Runbook", "${runbooks}/${__data.fields.alertname}.md")


def dashboard(uid: str, title: str) -> DashboardLink:
    """Another dashboard at the same time with the same variables."""
    return _link(title, f"/d/{uid}?{_KEPT}")


def lines(condition: str, title: str = "Log lines") -> DashboardLink:
    """The decisions' lines that meet the condition, in the time that is shown."""
    query = f'${{logs}} | json | event="auth.decision" | {condition}'
    return _explore(title, LOKI, {"expr": query})


def traces(condition: str) -> DashboardLink:
    """The spans that meet the condition, likewise."""
    query = f'{{resource.service.name="gatekey" && {condition}}}'
    return _explore("Traces", TEMPO, {"query": query, "queryType": "traceql"})


def _explore(title: str, source: str, query: dict[str, str]) -> DashboardLink:
    pane = {
        "datasource": source,
        "queries": [{"refId": "A", "datasource": {"uid": source}, **query}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"gk": pane}, separators=(",", ":")), safe="${}_.:,")
    return _link(title, f"/explore?schemaVersion=1&panes={panes}")


def _link(title: str, url: str) -> DashboardLink:
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url).target_blank(target_blank=True)
