"""What was promised, how much of it is left, and what spends it: availability 99.95 % and 99 % within 10 ms in 30 days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.links import dashboard as to
from dashboards.links import lines as to_lines
from dashboards.links import runbook, traces
from dashboards.page import Row, page
from dashboards.panels import BAD, GOOD, graph, heat, stat
from dashboards.queries import ERRORS, LATENCY_GOAL, answer_time, rate, recorded

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

__all__ = ["dashboard"]

_DECISION: Final = "decision_duration_seconds"
_DECIDED: Final = 'outcome!="error"'
_WINDOWS: Final = ("5m", "1h", "6h", "3d")
_BURNING: Final = runbook("GatekeyErrorBudgetBurn")


def dashboard() -> Dashboard:
    """The page for those who answer for the objectives."""
    rows = (
        Row(100, "Objectives, 30 days, weighted by requests", _promised(), wide=(6,), high=5),
        Row(200, "How fast the budgets go", _burning(), wide=(12,), high=8),
        Row(300, "What spends them", _spent()),
        Row(400, "Distribution and traffic", _traffic(), wide=(12,), high=9),
    )
    text = "Objectives, error budgets and burn rates. Only outcome error is bad; a denial is a good answer."
    return page("gatekey-slo", "Objectives", text, rows, since="now-6h")


def _promised() -> tuple[Panel, ...]:
    return (
        stat(
            101,
            "Availability",
            "Share of requests that were decided in the last 30 days.",
            f"1 - max({recorded('sli_error:ratio_rate30d', 'availability')})",
            good="at least 99.95 %.",
            unit="percentunit",
            limits=((0, BAD), (0.9995, GOOD)),
            decimals=3,
            instant=True,
            links=(_BURNING,),
        ),
        stat(
            102,
            "Error budget left",
            "Of the 0.05 % of requests that may fail in 30 days.",
            f"min({recorded('period_error_budget_remaining:ratio', 'availability')})",
            good="above 25 %; below 0 the objective is missed.",
            unit="percentunit",
            limits=((0, BAD), (0, "orange"), (0.25, GOOD)),
            decimals=1,
            instant=True,
            links=(_BURNING,),
        ),
        stat(
            103,
            "Within 10 ms",
            "Share of decisions made within 10 ms in the last 30 days.",
            f"1 - max({recorded('sli_error:ratio_rate30d', 'latency')})",
            good="at least 99 %.",
            unit="percentunit",
            limits=((0, BAD), (0.99, GOOD)),
            decimals=2,
            instant=True,
            links=(traces("duration > 10ms"),),
        ),
        stat(
            104,
            "Latency budget left",
            "Of the 1 % of decisions that may take longer than 10 ms in 30 days.",
            f"min({recorded('period_error_budget_remaining:ratio', 'latency')})",
            good="above 25 %; below 0 the objective is missed.",
            unit="percentunit",
            limits=((0, BAD), (0, "orange"), (0.25, GOOD)),
            decimals=1,
            instant=True,
            links=(traces("duration > 10ms"),),
        ),
    )


def _burning() -> tuple[Panel, ...]:
    text = (
        "How many times faster than allowed the budget goes, over four windows. The dashed lines: 1 and 14.4 (a page)."
    )
    return (
        graph(
            201,
            "Burn rate of availability",
            text,
            [(_burn(window, "availability", 0.0005), window) for window in _WINDOWS],
            good="below 1 over 3 days; an alert needs a long and a short window above its line.",
            unit="short",
            limits=(1, 14.4),
            shown_to=2,
            links=(_BURNING, to_lines('outcome="error"')),
        ),
        graph(
            202,
            "Burn rate of latency",
            text,
            [(_burn(window, "latency", 0.01), window) for window in _WINDOWS],
            good="below 1 over 3 days.",
            unit="short",
            limits=(1, 14.4),
            shown_to=2,
            links=(_BURNING, traces("duration > 10ms")),
        ),
    )


def _burn(window: str, objective: str, allowed: float) -> str:
    return f"max({recorded(f'sli_error:ratio_rate{window}', objective)}) / {allowed}"


def _spent() -> tuple[Panel, ...]:
    every = rate(f"{_DECISION}_count", _DECIDED, by="source")
    in_time = rate(f"{_DECISION}_bucket", f'{_DECIDED},le="{LATENCY_GOAL}"', by="source")
    return (
        graph(
            301,
            "Errors by reason",
            "store_unavailable: look at the store; overloaded: too many look-ups at once; internal: look into the log.",
            [(rate("decisions_total", ERRORS, by="reason"), "{{reason}}")],
            good="none.",
            unit="reqps",
            stacked=True,
            links=(to_lines('reason="${__field.labels.reason}"'), to("gatekey-store", "Store and cache")),
        ),
        graph(
            302,
            "Slower than 10 ms, by source",
            "Decisions a second that spent the latency budget, by where their record came from.",
            [
                (f"{every} - {in_time}", "{{source}}"),
            ],
            good="next to none; store means misses in a slow store, cache a busy CPU.",
            unit="reqps",
            stacked=True,
            links=(traces("duration > 10ms"), to("gatekey-store", "Store and cache")),
        ),
        graph(
            303,
            "p99 of an answer, by route",
            "The whole HTTP request as the service sees it; a line at 1.2 s stands for that and more.",
            [(answer_time(), "{{route}}")],
            good="doors below 1 ms with a warm cache, pages below 0.1 s.",
            unit="s",
            limits=(0.1, 1),
            links=(traces("duration > 100ms"), to("gatekey-workers", "Workers")),
        ),
    )


def _traffic() -> tuple[Panel, ...]:
    return (
        heat(
            401,
            "Distribution of the time to decide",
            "How many decisions took how long; two bands are usual: cache and store.",
            f'sum by (le) (increase(gatekey_{_DECISION}_bucket{{job=~"$job",instance=~"$instance"}}[$__rate_interval]))',
            good="a dark band below 1 ms; anything dark above 10 ms spends the budget.",
            links=(traces("duration > 10ms"),),
        ),
        graph(
            402,
            "Decisions, beside last week's",
            "All decisions; grey is the same hour a week ago.",
            [(rate("decisions_total"), "now"), (rate("decisions_total", offset="1w"), "a week ago")],
            good="about as a week ago; far less means that a proxy has lost its way here.",
            unit="reqps",
            before=("a week ago",),
            links=(runbook("GatekeyTrafficVanished"), to_lines('outcome!=""')),
        ),
    )
