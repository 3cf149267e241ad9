"""Is Gatekey all right, and if not, what is wrong and since when? Symptoms first, causes below, details elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.links import dashboard as to
from dashboards.links import lines as to_lines
from dashboards.links import runbook, traces
from dashboards.page import Row, page
from dashboards.panels import ALERT, BAD, CUSTOMERS_IN, GOOD, STRANGERS_IN, board, firing, graph, lines, stat
from dashboards.queries import (
    CUSTOMERS,
    ERRORS,
    LATENCY_GOAL,
    STRANGERS,
    gauge,
    grew,
    level,
    missing_workers,
    quantile,
    rate,
    share,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

__all__ = ["dashboard"]

OUTCOMES: Final = {"allow": GOOD, "deny": ALERT, "error": BAD}
SOURCES: Final = {"cache": GOOD, "negative": "#8ab8ff", "store": "purple", "stale": BAD, "none": "#9fa7b3"}
OPERATIONS: Final = {
    "find": "#5794f2",
    "ping": "#9fa7b3",
    "read": "yellow",
    "write": "purple",
    "organizations": "#8ab8ff",
    "barrier": GOOD,
}
_DECISION: Final = "decision_duration_seconds"
_FIND: Final = 'operation="find"'
_SAME_REASON: Final = 'reason="${__field.labels.reason}"'


def dashboard() -> Dashboard:
    """The first page that anybody opens."""
    rows = (
        Row(100, "Are we OK?", _now(), wide=(2, 3, 3, 2, 3, 4, 4, 3), high=4),
        Row(200, "What is wrong, and since when?", (_board(), firing(202)), wide=(16, 8), high=9),
        Row(300, "Decisions", _decisions()),
        Row(400, "Latency", _latency()),
        Row(500, "Cache and store", _cache_and_store()),
        Row(600, "Security", _security()),
        Row(700, "Runtime", _runtime()),
        Row(800, "Log", (_log(),), wide=(24,), high=12, closed=True),
    )
    text = "Is Gatekey all right, and if not, where to look next. Every dashboard links to the others at the top."
    return page("gatekey-overview", "Overview", text, rows)


def _now() -> tuple[Panel, ...]:
    return (
        stat(
            101,
            "Errors",
            "Share of requests that could not be decided (503). A denial is a good answer and does not count.",
            share("decisions_total", ERRORS),
            good="0; the objective allows 0.05 % over 30 days.",
            unit="percentunit",
            limits=(0.0005, 0.005),
            links=(to("gatekey-slo", "Objectives"), runbook("GatekeyErrorBudgetBurn"), to_lines('outcome="error"')),
        ),
        stat(
            102,
            "Budget burn, 1 h",
            "How many times faster than allowed the error budget of 30 days is being spent.",
            f"{share('decisions_total', ERRORS, window='1h')} / 0.0005",
            good="below 1; at 14.4 the budget is gone in 2 days.",
            unit="short",
            limits=(1, 14.4),
            decimals=1,
            links=(to("gatekey-slo", "Objectives"), runbook("GatekeyErrorBudgetBurn")),
        ),
        stat(
            103,
            "p99 of a decision",
            "99 of 100 decisions are made faster than this.",
            quantile(0.99, _DECISION),
            good="below 1 ms with a warm cache; the objective is 10 ms.",
            unit="s",
            limits=(0.01, 0.05),
            links=(to("gatekey-slo", "Objectives"), traces("duration > 10ms")),
        ),
        stat(
            104,
            "Store",
            "Whether every instance reaches its store, and half of its look-ups take less than 0.1 s.",
            f"{gauge('min', 'store_up')} * (2 - ({_found_within()} > bool 0.1))",
            good="up. While it is down, known keys pass from the cache for GATEKEY_CACHE_STALE_IF_ERROR.",
            unit="short",
            limits=((0, BAD), (2, GOOD)),
            words={"0": (BAD, "down"), "1": (BAD, "slow"), "2": (GOOD, "up")},
            links=(to("gatekey-store", "Store and cache"), runbook("GatekeyStoreErrors")),
        ),
        stat(
            105,
            "Revocation link",
            "Whether changes of keys reach every instance at once; without them a revoked key lives up to 6.5 s longer.",
            gauge("min", "invalidation_link_up"),
            good="up.",
            unit="short",
            limits=((0, BAD), (1, GOOD)),
            words={"0": (BAD, "lost"), "1": (GOOD, "up")},
            links=(to("gatekey-security", "Security and audit"), runbook("GatekeyInvalidationLinkDown")),
        ),
        stat(
            106,
            "Customers refused",
            "Denials of known keys (expired, inactive, wrong domain, scope, ...), as a share of what known keys ask for.",
            _customers_refused(),
            good="below 2 %, and as last week; a jump means that somebody's keys have ended.",
            unit="percentunit",
            limits=(0.02, 0.1),
            links=(to("gatekey-security", "Security and audit"), runbook("GatekeyKnownKeyDenials")),
        ),
        stat(
            107,
            "Strangers refused",
            "Denials a second of those who proved nothing: unknown keys, wrong secrets, broken or no credentials.",
            rate("decisions_total", STRANGERS),
            good="a few; above 50 a second somebody guesses keys.",
            unit="reqps",
            limits=(10, 50),
            links=(to("gatekey-security", "Security and audit"), runbook("GatekeyKeyGuessing")),
        ),
        stat(
            108,
            "Workers missing",
            "Workers that are configured and did not answer the last scrape.",
            missing_workers(),
            good="0; a killed worker is replaced within seconds.",
            unit="short",
            limits=(1, 1),
            links=(to("gatekey-workers", "Workers"), runbook("GatekeyWorkerMissing")),
        ),
    )


_ALLOWED: Final = 'outcome="allow"'


def _board() -> Panel:
    missing = f"{missing_workers()} + {grew('worker_deaths_total', window='$__rate_interval')}"
    lost = grew("decision_log_dropped_total", window="$__rate_interval")
    return board(
        201,
        "What is wrong",
        "Green is well, orange a warning, red bad. The last two rows are what callers feel, the others why. "
        "A store is slow where half of the look-ups are; a worker that died is missing, however soon it was replaced.",
        (
            (f"2 * (1 - {gauge('min', 'store_up')})", "Store down"),
            (level(_found_within(), 0.025, 0.1), "Store slow"),
            (f"2 * (1 - {gauge('min', 'invalidation_link_up')})", "Revocation link lost"),
            (f"2 * (({missing}) > bool 0)", "Worker missing"),
            (level(_customers_refused(), 0.02, 0.1), "Customers refused"),
            (level(rate("decisions_total", STRANGERS), 10, 50), "Keys guessed at"),
            (f"2 * (({lost}) > bool 0)", "Log lines lost"),
            (level(share("decisions_total", ERRORS), 0.0005, 0.005), "Errors"),
            (level(quantile(0.99, _DECISION), 0.01, 0.05), "Slow decisions"),
        ),
        good="all green.",
        links=(to("gatekey-slo", "Objectives"), to("gatekey-store", "Store and cache")),
    )


def _found_within() -> str:
    return quantile(0.5, "store_operation_duration_seconds", _FIND)


def _customers_refused() -> str:
    refused = rate("decisions_total", CUSTOMERS)
    return f"{refused} / (({refused} + {rate('decisions_total', _ALLOWED)}) > 0)"


def _decisions() -> tuple[Panel, ...]:
    return (
        graph(
            301,
            "Decisions by outcome",
            "All decisions. Denials grow with scanners as well as with customers in trouble: see the next two.",
            [(rate("decisions_total", by="outcome"), "{{outcome}}")],
            good="no red; green as always at this hour.",
            unit="reqps",
            stacked=True,
            colors=OUTCOMES,
            links=(to_lines('outcome="${__field.labels.outcome}"'), to("gatekey-slo", "Objectives")),
        ),
        graph(
            302,
            "Customers refused, by reason",
            "Denials of known keys: somebody whose key worked before. Grey: all of them a week ago.",
            [
                (rate("decisions_total", CUSTOMERS, by="reason") + " > 0", "{{reason}}"),
                (rate("decisions_total", CUSTOMERS, offset="1w"), "a week ago"),
            ],
            good="about as a week ago; a step is one customer's keys that have ended (the log says whose).",
            unit="reqps",
            stacked=True,
            colors=CUSTOMERS_IN,
            before=("a week ago",),
            links=(to_lines(_SAME_REASON), to("gatekey-security", "Security and audit")),
        ),
        graph(
            303,
            "Strangers refused, by reason",
            "Denials of those who proved nothing. unknown_key and bad_secret are guesses, missing_credentials is mostly "
            "browsers and clients never set up.",
            [(rate("decisions_total", STRANGERS, by="reason") + " > 0", "{{reason}}")],
            good="little, without steps; it costs no error budget.",
            unit="reqps",
            stacked=True,
            colors=STRANGERS_IN,
            links=(to_lines(_SAME_REASON), runbook("GatekeyKeyGuessing")),
        ),
    )


def _latency() -> tuple[Panel, ...]:
    decided = 'outcome!="error"'
    within = f'{decided},le="{LATENCY_GOAL}"'
    total = f"{_DECISION}_count"
    return (
        graph(
            401,
            "Time to decide",
            "From a request's arrival to its decision, all outcomes; the dashed line is the objective for 99 of 100.",
            [(quantile(part, _DECISION), name) for part, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))],
            good="p50 below 0.2 ms, p99 below 10 ms.",
            unit="s",
            limits=(0.01, 0.05),
            exemplars=True,
            links=(traces("duration > 10ms"), to("gatekey-slo", "Objectives")),
        ),
        graph(
            402,
            "p99 by where the record came from",
            "cache and negative need no store; store is a look-up; stale means that the store did not answer in time.",
            [(quantile(0.99, _DECISION, by="source"), "{{source}}")],
            good="cache below 1 ms, store below 50 ms, no stale.",
            unit="s",
            limits=(0.05, 0.25),
            colors=SOURCES,
            links=(to_lines('source="${__field.labels.source}"'), to("gatekey-store", "Store and cache")),
        ),
        graph(
            403,
            "Decided within 10 ms",
            "Share of decisions within the objective. Grey: a week ago.",
            [
                (share(f"{_DECISION}_bucket", within, of=decided, total=total), "now"),
                (share(f"{_DECISION}_bucket", within, of=decided, total=total, offset="1w"), "a week ago"),
            ],
            good="above 99 %.",
            unit="percentunit",
            limits=((0, BAD), (0.99, GOOD)),
            before=("a week ago",),
            highest=1,
            shown_from=0.95,
            links=(to("gatekey-slo", "Objectives"),),
        ),
    )


def _cache_and_store() -> tuple[Panel, ...]:
    return (
        graph(
            501,
            "Look-ups in the cache",
            "hit and negative_hit need no store, miss asks it, stale is a record past its time while the store is away.",
            [(rate("cache_lookups_total", by="result"), "{{result}}")],
            good="nearly all hit, no stale.",
            unit="reqps",
            stacked=True,
            colors={"hit": GOOD, "negative_hit": "#8ab8ff", "miss": ALERT, "stale": BAD},
            links=(to("gatekey-store", "Store and cache"), runbook("GatekeyCacheThrash")),
        ),
        graph(
            502,
            "Store operations by result",
            "not_found is an answer; unavailable, corrupt and error are not.",
            [(rate("store_operations_total", by="result") + " > 0", "{{result}}")],
            good="ok and not_found only.",
            unit="ops",
            stacked=True,
            colors={"ok": GOOD, "not_found": "#8ab8ff", "unavailable": BAD, "error": "dark-red", "corrupt": "purple"},
            links=(to("gatekey-store", "Store and cache"), runbook("GatekeyStoreErrors")),
        ),
        graph(
            503,
            "p99 of the store, by operation",
            "find is what a request waits for, at most for GATEKEY_STORE_TIMEOUT; ping is Gatekey's own.",
            [(quantile(0.99, "store_operation_duration_seconds", by="operation"), "{{operation}}")],
            good="find below 50 ms.",
            unit="s",
            limits=(0.05, 0.2),
            colors=OPERATIONS,
            links=(to("gatekey-store", "Store and cache"), traces("duration > 50ms")),
        ),
    )


def _security() -> tuple[Panel, ...]:
    return (
        graph(
            601,
            "A change takes effect after",
            "From a change of a key (a revocation above all) to its effect in the caches; the dashed line is the goal.",
            [(quantile(part, "invalidation_delay_seconds"), name) for part, name in ((0.5, "p50"), (0.99, "p99"))],
            good="below 0.1 s; at most 6.5 s where announcements are lost.",
            unit="s",
            limits=(0.1, 6.5),
            shown_to=0.15,
            links=(to("gatekey-security", "Security and audit"), runbook("GatekeyRevocationSlow")),
        ),
        graph(
            602,
            "Changes of keys",
            "Made through this service, in each minute.",
            [(grew("key_events_total", window="1m", by="event") + " > 0", "{{event}}")],
            good="what your operators do; more than 10 revocations in 5 minutes are marked in every panel.",
            unit="short",
            stacked=True,
            links=(to("gatekey-security", "Security and audit"),),
        ),
        graph(
            603,
            "Decision lines lost",
            "Decisions that are in no log line, by reason; the metrics have counted them nevertheless.",
            [(grew("decision_log_dropped_total", window="1m", by="reason"), "{{reason}}")],
            good="0; queue_full means that whoever reads the log is too slow.",
            unit="short",
            shown_to=10,
            limits=(1, 1),
            links=(to("gatekey-security", "Security and audit"), runbook("GatekeyLogLinesDropped")),
        ),
    )


def _runtime() -> tuple[Panel, ...]:
    return (
        graph(
            701,
            "Workers and what waits",
            "Workers that answered the scrape, decisions that wait for the store, and requests refused because too many did. "
            "Grey: the workers that are configured.",
            [
                (gauge("sum", "workers"), "workers"),
                (gauge("sum", "workers_configured"), "configured"),
                (gauge("sum", "decisions_in_flight"), "waiting"),
                (rate("shed_total"), "refused a second"),
            ],
            good="workers as configured, the others near 0.",
            unit="short",
            before=("configured",),
            links=(to("gatekey-workers", "Workers"), runbook("GatekeyShedding")),
        ),
        graph(
            702,
            "CPU",
            "Cores in use by all workers of an instance.",
            [(rate("process_cpu_seconds_total", by="instance"), "{{instance}}")],
            good="below the number of workers; at that number they are busy all the time.",
            unit="short",
            links=(to("gatekey-workers", "Workers"),),
        ),
        graph(
            703,
            "p99 of the loop's lag",
            "How late the event loop wakes a task: everything else in a worker waits as long.",
            [(quantile(0.99, "loop_lag_seconds", by="instance"), "{{instance}}")],
            good="below 10 ms; more means that something blocks the loop or the CPU is used up.",
            unit="s",
            limits=(0.01, 0.1),
            links=(to("gatekey-workers", "Workers"),),
        ),
    )


def _log() -> Panel:
    return lines(
        801,
        "Errors and refused customers",
        "Decisions that failed, or refused a known key; open a line for its trace and its key.",
        f'outcome!="allow" | {CUSTOMERS[:-1]}|store_unavailable|store_corrupt|overloaded|internal"',
        good="few lines, and none with outcome error.",
        links=(traces("status = error"),),
    )
