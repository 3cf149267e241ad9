"""What every dashboard has: variables, annotations, links to the others, and rows of panels laid out below each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    GridPos,
    RowPanel,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.links import PROMETHEUS, dropdown
from dashboards.queries import gauge, grew

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

__all__ = ["Row", "page"]

_WIDTH: Final = 24  # columns of Grafana's grid
_SOURCE: Final = DataSourceRef("prometheus", PROMETHEUS)
_RUNBOOKS: Final = "https://gatekey.example.com/docs/runbooks"


@dataclass(frozen=True, slots=True)
class Row:
    """``wide`` are the panels' widths, repeated as often as needed; a closed row asks for nothing until it is opened."""

    number: int
    title: str
    panels: Sequence[Panel]
    wide: Sequence[int] = (8,)
    high: int = 7
    closed: bool = False


def page(uid: str, title: str, text: str, rows: Sequence[Row], *, since: str = "now-1h") -> Dashboard:
    """The dashboard, whose panels are found under their numbers."""
    made = build.Dashboard(f"Gatekey / {title}").uid(uid).description(text).tags(["gatekey"]).readonly().version(1)
    made = (
        made.tooltip(DashboardCursorSync.CROSSHAIR).timezone("utc").refresh("30s").time(since, "now").link(dropdown())
    )
    for variable in _variables():
        made = made.with_variable(variable)
    for annotation in _annotations():
        made = made.annotation(annotation)
    dashboard = made.build()
    dashboard.panels = list(_placed(rows))
    return dashboard


def _placed(rows: Sequence[Row]) -> Iterator[Panel | RowPanel]:
    y = 0
    for row in rows:
        y += 1
        x = 0
        for index, panel in enumerate(row.panels):
            width = row.wide[index % len(row.wide)]
            if x + width > _WIDTH:
                x, y = 0, y + row.high
            panel.grid_pos = GridPos(h=row.high, w=width, x=x, y=y)
            x += width
        top = row.panels[0].grid_pos
        assert top is not None  # noqa: S101 - it was set just now
        hidden = list(row.panels) if row.closed else []
        yield RowPanel(
            id_val=row.number,
            title=row.title,
            collapsed=row.closed,
            panels=hidden,
            grid_pos=GridPos(h=1, w=_WIDTH, x=0, y=top.y - 1),
        )
        if row.closed:
            y = top.y
        else:
            yield from row.panels
            y += row.high


def _variables() -> list[build.DatasourceVariable | build.QueryVariable | build.ConstantVariable]:
    kinds = ("prometheus", "loki", "tempo")
    sources = [
        build.DatasourceVariable(f"{kind}_datasource").label(kind.capitalize()).type(kind).multi(multi=False)
        for kind in kinds
    ]
    # In backticks: it stands in JSON too, in links to Explore.
    logs = build.ConstantVariable("logs").label("Log stream").value("{service_name=`gatekey`}")
    runbooks = build.ConstantVariable("runbooks").label("Address of docs/runbooks").value(_RUNBOOKS)
    return [*sources, _chosen("job"), _chosen("instance", within='{job=~"$job"}'), logs, runbooks]


def _chosen(label: str, *, within: str = "") -> build.QueryVariable:
    query = f"label_values(gatekey_build_info{within}, {label})"
    variable = build.QueryVariable(label).label(label).datasource(_SOURCE).definition(query)
    variable = variable.query({"query": query, "refId": label}).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable = variable.sort(VariableSort.ALPHABETICAL_ASC).multi(multi=True).include_all(include_all=True)
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.all_value(".+").current(everything).hide(VariableHide.DONT_HIDE)


def _annotations() -> Iterator[build.AnnotationQuery]:
    yield _annotation(
        "Firing alerts",
        "red",
        'ALERTS{alertname=~"Gatekey.+",alertstate="firing",severity=~"page|ticket"}',
        "{{alertname}}",
    )
    running = gauge("count", "build_info", by="version")
    yield _annotation("New version", "blue", f"{running} unless {_before(running)}", "Gatekey {{version}}")
    yield _annotation(
        "Restart",
        "purple",
        f"{_changes('process_start_time_seconds')} > 0",
        "{{instance}} was started again: its counters began anew",
    )
    yield _annotation(
        "Revocations",
        "orange",
        grew("key_events_total", 'event="revoked"', window="5m") + " > 10",
        "more than 10 keys were revoked in 5 minutes",
    )


def _annotation(name: str, color: str, query: str, title: str) -> build.AnnotationQuery:
    made = build.AnnotationQuery().name(name).datasource(_SOURCE).enable(enable=True).icon_color(color)
    return made.expr(query).title_format(title).step("30s")


def _before(query: str) -> str:
    return query.replace("})", "} offset 2m)")


def _changes(name: str) -> str:
    return f'max by (instance) (changes(gatekey_{name}{{job=~"$job",instance=~"$instance"}}[1m]))'
