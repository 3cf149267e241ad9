"""The kinds of panel there are, each with what no panel may lack: number, description, unit, limits and where it leads.

``good`` ends every description: whoever looks at a panel for the first time must see whether what it shows is well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import dashboard as frame
from grafana_foundation_sdk.builders import heatmap, logs, loki, prometheus, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DashboardSpecialValueMapOptions as SpecialOptions
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.links import LOKI, PROMETHEUS, runbook_of_alert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from grafana_foundation_sdk.builders.dashboard import DashboardLink

__all__ = [
    "ALERT",
    "BAD",
    "CUSTOMERS_IN",
    "GOOD",
    "STRANGERS_IN",
    "Query",
    "board",
    "firing",
    "graph",
    "heat",
    "labels",
    "lines",
    "stat",
]

Query: TypeAlias = tuple[str, str]
"""PromQL and the legend of what it finds."""

Limits: TypeAlias = "tuple[float, float] | Sequence[tuple[float, str]]"
"""From where on it is a warning and bad; or steps from below, each with its colour, for what is good above."""

GOOD: Final = "green"
QUIET: Final = "#2f5738"  # a tile that is well, so that the others stand out
ALERT: Final = "orange"
BAD: Final = "red"
CUSTOMERS_IN: Final = {
    "expired": BAD,
    "inactive": ALERT,
    "wrong_domain": "yellow",
    "insufficient_scope": "purple",
    "origin_not_allowed": "#8ab8ff",
    "network_not_allowed": "blue",
}
"""A reason has its colour wherever it is drawn, and whatever else there is."""
STRANGERS_IN: Final = {
    "unknown_key": BAD,
    "bad_secret": ALERT,
    "malformed_key": "yellow",
    "missing_credentials": "#8ab8ff",
}
_LEVELS: Final = {"0": (GOOD, "well"), "1": (ALERT, "warning"), "2": (BAD, "bad")}


def stat(
    number: int,
    title: str,
    text: str,
    query: str,
    *,
    good: str,
    unit: str,
    limits: Limits,
    links: Sequence[DashboardLink] = (),
    words: Mapping[str, tuple[str, str]] | None = None,
    decimals: int | None = None,
    instant: bool = False,
) -> Panel:
    """One number, in the colour of how well it is; ``words`` are value -> (colour, word)."""
    panel = stats.Panel().id(number).title(title).description(f"{text} Good: {good}").datasource(_source())
    panel = (
        panel.with_target(_target(0, query, title, instant=instant)).unit(unit).thresholds(_steps(limits, well=QUIET))
    )
    panel = panel.color_mode(common.BigValueColorMode.BACKGROUND_SOLID).data_links(list(links)).no_value("no data")
    panel = panel.graph_mode(common.BigValueGraphMode.NONE if instant or words else common.BigValueGraphMode.AREA)
    panel = panel.mappings([_nothing(), *([_words(words, well=QUIET)] if words else [])])
    panel = panel.reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]))
    return (panel if decimals is None else panel.decimals(decimals)).build()


def graph(
    number: int,
    title: str,
    text: str,
    queries: Sequence[Query],
    *,
    good: str,
    unit: str,
    limits: Limits = (),
    links: Sequence[DashboardLink] = (),
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
    shades: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    shown_to: float | None = None,
    shown_from: float | None = None,
    highest: float | None = None,
    exemplars: bool = False,
) -> Panel:
    """Lines over time. ``before`` are legends from the past, drawn grey and dashed; ``shown_to`` keeps a limit in sight.

    ``shades`` are endings of legends -> the colour whose shades all lines get that end so.
    """
    panel = timeseries.Panel().id(number).title(title).description(f"{text} Good: {good}").datasource(_source())
    for index, (query, legend) in enumerate(queries):
        panel = panel.with_target(_target(index, query, legend, exemplars=exemplars))
    panel = panel.unit(unit).data_links(list(links)).line_width(1).thresholds(_steps(limits))
    panel = (
        panel.show_points(common.VisibilityMode.NEVER).fill_opacity(35 if stacked else 6).span_nulls(span_nulls=False)
    )
    panel = panel.color_scheme(frame.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    style = common.GraphThresholdsStyleMode.DASHED if limits else common.GraphThresholdsStyleMode.OFF
    panel = panel.thresholds_style(build.GraphThresholdsStyleConfig().mode(style))
    mode = common.StackingMode.NORMAL if stacked else common.StackingMode.NONE
    panel = panel.stacking(build.StackingConfig().mode(mode).group("A"))
    legend_box = build.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(show_legend=True)
    panel = panel.legend(legend_box.placement(common.LegendPlacement.BOTTOM))
    tip = build.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    panel = panel.tooltip(tip)
    for name, color in (colors or {}).items():
        panel = panel.override_by_name(name, [_color(color)])
    for ending, color in (shades or {}).items():
        shade = DynamicConfigValue("color", {"mode": "shades", "fixedColor": color})
        panel = panel.override_by_regexp(f"/{ending}$/", [shade])
    for name in before:
        dashed = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]})
        flat = [
            DynamicConfigValue("custom.fillOpacity", 0),
            DynamicConfigValue("custom.stacking", {"mode": "none", "group": "A"}),
        ]
        panel = panel.override_by_name(name, [_color("#9fa7b3"), dashed, *flat])
    panel = panel.min(0) if shown_from is None else panel.axis_soft_min(shown_from)
    if shown_to is not None:
        panel = panel.axis_soft_max(shown_to)
    return (panel if highest is None else panel.max(highest)).build()


def board(
    number: int, title: str, text: str, queries: Sequence[Query], *, good: str, links: Sequence[DashboardLink] = ()
) -> Panel:
    """A line of colour for each question, over time; each query answers 0 (well), 1 (warning) or 2 (bad)."""
    panel = statetimeline.Panel().id(number).title(title).description(f"{text} Good: {good}").datasource(_source())
    for index, (query, legend) in enumerate(queries):
        panel = panel.with_target(_target(index, query, legend))
    panel = panel.unit("short").mappings([_words(_LEVELS)]).thresholds(_steps((1, 2))).data_links(list(links))
    panel = panel.color_scheme(frame.FieldColor().mode(FieldColorModeId.THRESHOLDS)).fill_opacity(80).line_width(0)
    panel = panel.show_value(common.VisibilityMode.NEVER).row_height(0.8).merge_values(merge_values=True)
    legend_box = build.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(show_legend=True)
    return panel.legend(legend_box.placement(common.LegendPlacement.BOTTOM)).build()


def heat(number: int, title: str, text: str, query: str, *, good: str, links: Sequence[DashboardLink] = ()) -> Panel:
    """How many fell into each bucket of a histogram, over time."""
    panel = heatmap.Panel().id(number).title(title).description(f"{text} Good: {good}").datasource(_source())
    target = _target(0, query, "{{le}}").format(PromQueryFormat.HEATMAP)
    panel = panel.with_target(target).data_links(list(links)).thresholds(_steps(())).unit("s")
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64).fill("dark-orange")
    panel = panel.calculate(calculate=False).color(colors.exponent(0.5).reverse(reverse=False))
    return panel.y_axis(heatmap.YAxisConfig().unit("s").axis_placement(common.AxisPlacement.LEFT)).build()


def firing(number: int) -> Panel:
    """The alerts that fire now or are about to, each with a link to its runbook."""
    text = (
        "Alerts of dashboards/rules that fire, or that will when it goes on (pending); a click on a name opens its runbook. "
        "Good: none."
    )
    panel = table.Panel().id(number).title("Alerts").description(text).datasource(_source()).unit("short")
    query = 'ALERTS{alertname=~"Gatekey.+",severity=~"page|ticket"}'
    target = _target(0, query, "", instant=True).format(PromQueryFormat.TABLE)
    kept = {"alertname": 0, "alertstate": 1, "severity": 2, "job": 3, "instance": 4}
    tidy = {"excludeByName": {"Time": True, "Value": True, "__name__": True}, "indexByName": kept}
    panel = panel.with_target(target).with_transformation(DataTransformerConfig("organize", options=tidy))
    panel = panel.thresholds(_steps((1, 1))).no_value("none fires or is pending; rules look at minutes")
    severity = ValueMap({"page": ValueMappingResult("page", BAD), "ticket": ValueMappingResult("ticket", ALERT)})
    colored = DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
    panel = panel.override_by_name("severity", [DynamicConfigValue("mappings", [severity]), colored])
    return panel.override_by_name("alertname", [DynamicConfigValue("links", [runbook_of_alert().build()])]).build()


def labels(number: int, title: str, text: str, query: str, *, good: str, hidden: Sequence[str]) -> Panel:
    """The labels of what a query finds now, as a table."""
    panel = table.Panel().id(number).title(title).description(f"{text} Good: {good}").datasource(_source())
    tidy = {"excludeByName": dict.fromkeys(("Time", "Value", "__name__", *hidden), True)}
    target = _target(0, query, "", instant=True).format(PromQueryFormat.TABLE)
    panel = panel.with_target(target).unit("short").thresholds(_steps(()))
    return panel.with_transformation(DataTransformerConfig("organize", options=tidy)).build()


def lines(
    number: int, title: str, text: str, condition: str, *, good: str, links: Sequence[DashboardLink] = ()
) -> Panel:
    """Lines of the decisions' log, newest first."""
    source = common.DataSourceRef("loki", LOKI)
    panel = logs.Panel().id(number).title(title).description(f"{text} Good: {good}").datasource(source)
    query = f'${{logs}} | json | event="auth.decision" | {condition}'
    panel = panel.with_target(loki.Dataquery().expr(query).ref_id("A").datasource(source).max_lines(200))
    panel = panel.show_time(show_time=True).wrap_log_message(wrap_log_message=True).data_links(list(links))
    panel = panel.unit("short").thresholds(_steps(())).sort_order(common.LogsSortOrder.DESCENDING)
    return panel.enable_log_details(enable_log_details=True).build()


def _source() -> common.DataSourceRef:
    return common.DataSourceRef("prometheus", PROMETHEUS)


def _target(
    index: int, query: str, legend: str, *, instant: bool = False, exemplars: bool = False
) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + index)).datasource(_source())
    )
    target = target.instant() if instant else target.range()
    return target.exemplar(exemplars) if exemplars else target


def _steps(limits: Limits, *, well: str = GOOD) -> frame.ThresholdsConfig:
    match limits:
        case (float() | int() as warning, float() | int() as bad):
            steps = [(None, GOOD), (warning, ALERT), (bad, BAD)] if warning < bad else [(None, GOOD), (bad, BAD)]
        case [] | ():
            steps = [(None, GOOD)]
        case _:
            pairs: Any = limits
            (_, lowest), *others = pairs
            steps = [(None, lowest), *others]
    made = [Threshold(value=value, color=well if color == GOOD else color) for value, color in steps]
    return frame.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def _words(words: Mapping[str, tuple[str, str]], *, well: str = GOOD) -> ValueMapping:
    return ValueMap(
        {value: ValueMappingResult(word, well if color == GOOD else color) for value, (color, word) in words.items()}
    )


def _nothing() -> ValueMapping:
    return SpecialValueMap(SpecialOptions(SpecialValueMatch.NA_N, ValueMappingResult("no traffic", "#6e7681")))


def _color(color: str) -> DynamicConfigValue:
    return DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
