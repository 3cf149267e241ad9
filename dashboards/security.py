"""Who is refused and why, how fast a revoked key dies, who changed what, and whether the log is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.links import dashboard as to
from dashboards.links import lines as to_lines
from dashboards.links import runbook, traces
from dashboards.page import Row, page
from dashboards.panels import BAD, CUSTOMERS_IN, GOOD, STRANGERS_IN, graph, lines, stat
from dashboards.queries import CUSTOMERS, LIMITS, PROXIES, STRANGERS, gauge, grew, quantile, rate

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

__all__ = ["dashboard"]

_DELAY: Final = "invalidation_delay_seconds"
_SAME_REASON: Final = 'reason="${__field.labels.reason}"'


def dashboard() -> Dashboard:
    """The page for attacks, for revocations, and for auditors."""
    rows = (
        Row(100, "Now", _now(), wide=(4,), high=4),
        Row(200, "Refused", _refused()),
        Row(300, "Revocation and changes", _changes()),
        Row(400, "Log and sign-in", _audit()),
        Row(500, "Lines", (_lines(),), wide=(24,), high=12, closed=True),
    )
    return page("gatekey-security", "Security and audit", "Denials, guessing, revocation, keys and the log.", rows)


def _now() -> tuple[Panel, ...]:
    return (
        stat(
            101,
            "Customers refused",
            "Denials a second of known keys: expired, inactive, wrong domain, scope, ...",
            rate("decisions_total", CUSTOMERS),
            good="as last week; see below.",
            unit="reqps",
            limits=(1, 10),
            links=(runbook("GatekeyKnownKeyDenials"),),
        ),
        stat(
            102,
            "Keys guessed at",
            "Denials a second for unknown keys, wrong secrets and broken credentials.",
            rate("decisions_total", 'reason=~"malformed_key|unknown_key|bad_secret"'),
            good="a few.",
            unit="reqps",
            limits=(10, 50),
            links=(runbook("GatekeyKeyGuessing"),),
        ),
        stat(
            103,
            "Change in force after",
            "From a change of a key to its effect in the caches, in the last hour.",
            f"histogram_quantile(0.99, {rate(f'{_DELAY}_bucket', by='le', window='1h')})",
            good="below 0.1 s.",
            unit="s",
            limits=(0.1, 6.5),
            links=(runbook("GatekeyRevocationSlow"),),
        ),
        stat(
            104,
            "Revoked in 1 h",
            "Keys revoked through this service.",
            grew("key_events_total", 'event="revoked"', window="1h"),
            good="what your operators did; many at once are marked in every panel.",
            unit="short",
            limits=(10, 100),
            decimals=0,
        ),
        stat(
            105,
            "Lines lost in 1 h",
            "Decisions that are in no log line; the metrics have counted them nevertheless.",
            grew("decision_log_dropped_total", window="1h"),
            good="0.",
            unit="short",
            limits=(1, 1),
            decimals=0,
            links=(runbook("GatekeyLogLinesDropped"),),
        ),
        stat(
            106,
            "End within 7 days",
            "Active keys that end within a week, counted once a minute; those that have ended are in Keys by state.",
            gauge("max", "keys_expiring", 'within="7d"'),
            good="0: whoever needs such a key has a new one by then.",
            unit="short",
            limits=(1, 100),
            decimals=0,
            links=(runbook("GatekeyKeysExpiring"),),
        ),
    )


def _refused() -> tuple[Panel, ...]:
    return (
        graph(
            201,
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
            links=(to_lines(_SAME_REASON), runbook("GatekeyKnownKeyDenials")),
        ),
        graph(
            202,
            "Strangers refused, by reason",
            "Denials of those who proved nothing. unknown_key and bad_secret are guesses.",
            [(rate("decisions_total", STRANGERS, by="reason") + " > 0", "{{reason}}")],
            good="little, without steps.",
            unit="reqps",
            stacked=True,
            colors=STRANGERS_IN,
            links=(to_lines(_SAME_REASON), runbook("GatekeyKeyGuessing")),
        ),
        graph(
            203,
            "Mistakes of proxies and shadow mode",
            "Denials that a proxy's configuration causes, and what shadow mode would have refused.",
            [
                (rate("decisions_total", PROXIES, by="reason"), "{{reason}}"),
                (rate("shadow_decisions_total"), "shadow mode"),
            ],
            good="none once the proxies are set up; shadow at 0 before shadow mode is left.",
            unit="reqps",
            shown_to=1,
            links=(to_lines(_SAME_REASON), to("gatekey-overview", "Overview")),
        ),
    )


def _changes() -> tuple[Panel, ...]:
    return (
        graph(
            301,
            "A change takes effect after",
            "From a change of a key (a revocation above all) to its effect in the caches; the dashed line is the goal.",
            [(quantile(part, _DELAY), name) for part, name in ((0.5, "p50"), (0.99, "p99"))],
            good="below 0.1 s; at most 6.5 s where announcements are lost.",
            unit="s",
            limits=(0.1, 6.5),
            shown_to=0.15,
            links=(runbook("GatekeyRevocationSlow"), to("gatekey-store", "Store and cache")),
        ),
        graph(
            302,
            "Changes of keys",
            "Made through this service, in each minute.",
            [(grew("key_events_total", window="1m", by="event") + " > 0", "{{event}}")],
            good="what your operators do.",
            unit="short",
            stacked=True,
            links=(to("gatekey-overview", "Overview"),),
        ),
        graph(
            303,
            "Keys by state",
            "Keys in the store, counted once a minute; of the active ones, those that end within a month (dashed).",
            [
                (gauge("max", "keys", by="state"), "{{state}}"),
                (gauge("max", "keys_expiring", 'within="30d"'), "end within 30d"),
            ],
            good="no sudden change, no step in expired: somebody was not told in time.",
            unit="short",
            colors={"active": GOOD, "revoked": BAD, "expired": "orange", "disabled": "#8ab8ff"},
            before=("end within 30d",),
            links=(runbook("GatekeyKeysExpiring"),),
        ),
    )


def _audit() -> tuple[Panel, ...]:
    return (
        graph(
            401,
            "Decisions and their lines",
            "Lines written beside decisions made; where one network floods, further lines become one in 10 s.",
            [
                (rate("decisions_total"), "decisions"),
                (rate("decision_log_lines_total"), "lines"),
                (rate("decision_log_summarized_total"), "in summaries"),
            ],
            good="lines and what is in summaries make up the decisions; many in summaries are a flood.",
            unit="reqps",
            links=(runbook("GatekeyLogIncomplete"), runbook("GatekeyLogLinesDropped")),
        ),
        graph(
            402,
            "Lines lost and waiting",
            "Lost in each minute by reason, and lines that wait to be written.",
            [
                (grew("decision_log_dropped_total", window="1m", by="reason"), "lost: {{reason}}"),
                (gauge("sum", "decision_log_queue_length"), "waiting"),
            ],
            good="nothing lost, few waiting.",
            unit="short",
            limits=(1000, 5000),
            links=(runbook("GatekeyLogLinesDropped"),),
        ),
        graph(
            403,
            "Sign-in and rate limits",
            "Sign-ins of people by outcome, sessions, and what rate limits and quotas refused.",
            [
                (rate("logins_total", by="outcome"), "sign-in a second: {{outcome}}"),
                (rate("decisions_total", LIMITS), "refused a second: limits"),
                (rate("rate_limit_total", 'result="error"'), "limits that could not be told, a second"),
                (gauge("sum", "sessions"), "sessions"),
            ],
            good="few failures, no rate limit error.",
            unit="short",
            shown_to=1,
            colors={"sign-in a second: failure": BAD},
            links=(to_lines('reason=~"rate_limited|quota_exceeded|throttled"'),),
        ),
    )


def _lines() -> Panel:
    return lines(
        501,
        "Denials and errors",
        "Every decision that did not allow; key_id says whose key, key_fingerprint groups guesses of one unknown key.",
        'outcome!="allow"',
        good="lines of strangers only.",
        links=(traces("status = error"),),
    )
