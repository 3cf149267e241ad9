"""PromQL in pieces: every query asks for the chosen jobs and instances only, and over an interval that fits the picture.

Names lack the prefix ``gatekey_``. Objectives have no instance: they are the whole service's.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CUSTOMERS",
    "ERRORS",
    "HANGING",
    "LATENCY_GOAL",
    "LIMITS",
    "PROXIES",
    "STRANGERS",
    "answer_time",
    "gauge",
    "grew",
    "level",
    "missing_workers",
    "quantile",
    "rate",
    "recorded",
    "share",
]

_CHOSEN: Final = 'job=~"$job",instance=~"$instance"'
_INTERVAL: Final = "$__rate_interval"

ERRORS: Final = 'outcome="error"'
CUSTOMERS: Final = (
    'reason=~"expired|inactive|wrong_domain|wrong_organization'
    '|insufficient_scope|origin_not_allowed|network_not_allowed"'
)
"""Denials of known keys, as GatekeyKnownKeyDenials counts them: somebody whose key worked before, and who will call."""
STRANGERS: Final = 'reason=~"missing_credentials|malformed_key|unknown_key|bad_secret|throttled|untrusted_peer"'
"""Denials of those who have proved nothing: scanners, guessers, and clients that were never set up."""
LIMITS: Final = 'reason=~"rate_limited|quota_exceeded"'
"""Denials of those who ask more often than agreed."""
PROXIES: Final = 'reason=~"bad_context|bad_request|unknown_policy|csrf"'
"""Denials that a proxy's or a page's configuration causes."""

LATENCY_GOAL: Final = "0.01"
"""Seconds within which 99 of 100 decisions must be made; a bound of the histogram's buckets."""
HANGING: Final = "1.2"
"""Seconds from where an answer hangs; the bound below the request's time-out, between which nothing can be told apart."""


def rate(name: str, matchers: str = "", *, by: str = "", offset: str = "", window: str = _INTERVAL) -> str:
    """Events a second, of all workers together or for each value of the labels ``by``."""
    return f"{_sum(by)}(rate({_selector(name, matchers)}[{window}]{_ago(offset)}))"


def grew(name: str, matchers: str = "", *, window: str, by: str = "") -> str:
    """How many events there were in the window."""
    return f"{_sum(by)}(increase({_selector(name, matchers)}[{window}]))"


def share(
    name: str, matchers: str, *, of: str = "", total: str | None = None, window: str = _INTERVAL, offset: str = ""
) -> str:
    """Which part of all events (of those with the matchers ``of``) has these matchers; nothing where nothing happened."""
    part = rate(name, matchers, window=window, offset=offset)
    whole = rate(total or name, of, window=window, offset=offset)
    return f"{part} / ({whole} > 0)"


def quantile(part: float, name: str, matchers: str = "", *, by: str = "") -> str:
    """What so many of the durations stay below."""
    return f"histogram_quantile({part}, {rate(f'{name}_bucket', matchers, by=f'le, {by}' if by else 'le')})"


def answer_time() -> str:
    """What 99 of 100 HTTP requests of a route stay below; a line at ``HANGING`` stands for that and more."""
    return f"clamp_max({quantile(0.99, 'http_request_duration_seconds', by='route')}, {HANGING})"


def gauge(how: str, name: str, matchers: str = "", *, by: str = "") -> str:
    """The gauges of all instances put together by ``how`` (sum, min, max)."""
    grouped = f" by ({by}) " if by else ""
    return f"{how}{grouped}({_selector(name, matchers)})"


def missing_workers(by: str = "") -> str:
    """Workers that should answer the scrape and do not."""
    return f"{gauge('sum', 'workers_configured', by=by)} - {gauge('sum', 'workers', by=by)}"


def level(query: str, warning: float, bad: float) -> str:
    """0 where all is well, 1 from the warning on, 2 where it is bad."""
    return f"(({query}) > bool {warning}) + (({query}) > bool {bad})"


def recorded(name: str, objective: str) -> str:
    """A recording of rules/objectives.yml on one of the objectives (availability, latency)."""
    return f'slo:{name}{{slo="{objective}",service="gatekey",job=~"$job"}}'


def _selector(name: str, matchers: str) -> str:
    return f"gatekey_{name}{{{matchers},{_CHOSEN}}}" if matchers else f"gatekey_{name}{{{_CHOSEN}}}"


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"


def _ago(offset: str) -> str:
    return f" offset {offset}" if offset else ""
