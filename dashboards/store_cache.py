"""Which keys the cache knew, what it asked of the store, and how well the store and the way to it are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.links import dashboard as to
from dashboards.links import lines as to_lines
from dashboards.links import runbook, traces
from dashboards.page import Row, page
from dashboards.panels import ALERT, BAD, GOOD, graph, stat
from dashboards.queries import gauge, grew, quantile, rate, share

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

__all__ = ["dashboard"]

_TIME: Final = "store_operation_duration_seconds"
_BREAKER: Final = {"0": (GOOD, "closed"), "1": (ALERT, "half open"), "2": (BAD, "open")}


def dashboard() -> Dashboard:
    """The page for a slow or lost store, and for a cache that is too small."""
    rows = (
        Row(100, "Now", _now(), wide=(4,), high=4),
        Row(200, "Store", _store()),
        Row(300, "Way to the store", _way()),
        Row(400, "Cache", _cache()),
        Row(500, "Changes that arrive", _changes(), wide=(12,)),
    )
    return page("gatekey-store", "Store and cache", "Cache, store, pool, breaker and the link of announcements.", rows)


def _now() -> tuple[Panel, ...]:
    return (
        stat(
            101,
            "Store",
            "Whether every instance reaches its store.",
            gauge("min", "store_up"),
            good="up.",
            unit="short",
            limits=((0, BAD), (1, GOOD)),
            words={"0": (BAD, "down"), "1": (GOOD, "up")},
            links=(runbook("GatekeyStoreErrors"),),
        ),
        stat(
            102,
            "Breaker",
            "After five failures in a row the breaker opens: requests are answered at once, one probe at a time asks.",
            gauge("max", "store_breaker_state"),
            good="closed.",
            unit="short",
            limits=(1, 2),
            words=_BREAKER,
            links=(runbook("GatekeyBreakerOpen"),),
        ),
        stat(
            103,
            "Revocation link",
            "Whether changes of keys reach every instance at once.",
            gauge("min", "invalidation_link_up"),
            good="up.",
            unit="short",
            limits=((0, BAD), (1, GOOD)),
            words={"0": (BAD, "lost"), "1": (GOOD, "up")},
            links=(runbook("GatekeyInvalidationLinkDown"),),
        ),
        stat(
            104,
            "p99 of a look-up",
            "What a request waits for whose key is not in the cache; an open breaker answers at once.",
            quantile(0.99, _TIME, 'operation="find"'),
            good="below 50 ms.",
            unit="s",
            limits=(0.05, 0.2),
            links=(traces("duration > 50ms"),),
        ),
        stat(
            105,
            "Cache hits",
            "Share of look-ups that needed no store.",
            share("cache_lookups_total", 'result=~"hit|negative_hit"'),
            good="above 95 % in steady traffic.",
            unit="percentunit",
            limits=((0, BAD), (0.5, ALERT), (0.9, GOOD)),
            links=(runbook("GatekeyCacheThrash"),),
        ),
        stat(
            106,
            "Failed operations",
            "Share of the store's operations that got no usable answer.",
            share("store_operations_total", 'result=~"unavailable|corrupt|error"'),
            good="0.",
            unit="percentunit",
            limits=(0.001, 0.05),
            links=(runbook("GatekeyStoreErrors"),),
        ),
    )


def _store() -> tuple[Panel, ...]:
    return (
        graph(
            201,
            "Operations",
            "find is a look-up of a key; read and write are management; ping and barrier are Gatekey's own.",
            [(rate("store_operations_total", by="operation"), "{{operation}}")],
            good="few find beside many decisions.",
            unit="ops",
            stacked=True,
            links=(traces("duration > 50ms"), to("gatekey-overview", "Overview")),
        ),
        graph(
            202,
            "Operations without an answer",
            "unavailable: no answer in time; corrupt: what is stored cannot be read; error: the driver's.",
            [
                (
                    rate("store_operations_total", 'result=~"unavailable|corrupt|error"', by="operation, result")
                    + " > 0",
                    "{{operation}}: {{result}}",
                )
            ],
            good="none.",
            unit="ops",
            stacked=True,
            shades={": unavailable": BAD, ": corrupt": "#b877d9", ": error": ALERT},
            links=(runbook("GatekeyStoreErrors"), to_lines('reason=~"store_.+"')),
        ),
        graph(
            203,
            "p99 by operation",
            "The dashed lines are what a look-up may take before callers feel it, and where most time-outs are near.",
            [(quantile(0.99, _TIME, by="operation"), "{{operation}}")],
            good="find below 50 ms, write below 1 s.",
            unit="s",
            limits=(0.05, 0.2),
            links=(traces("duration > 50ms"),),
        ),
    )


def _way() -> tuple[Panel, ...]:
    pool = "store_pool_connections"
    used = gauge("sum", pool, 'state="used"', by="instance")
    return (
        graph(
            301,
            "Pool in use",
            "Share of the connections that may be open and are at work, by instance. Empty for a store without connections.",
            [(f"{used} / ({gauge('sum', f'{pool}_max', by='instance')} > 0)", "{{instance}}")],
            good="below 90 %.",
            unit="percentunit",
            limits=(0.7, 0.9),
            shown_to=1,
            links=(runbook("GatekeyStorePoolSaturated"),),
        ),
        graph(
            302,
            "Waiting and refused",
            "Decisions that wait for the store, look-ups that joined one under way, and requests refused because too many wait.",
            [
                (gauge("sum", "decisions_in_flight"), "waiting"),
                (rate("cache_coalesced_total"), "joined a second"),
                (rate("shed_total", by="reason"), "refused a second: {{reason}}"),
            ],
            good="near 0; waiting that grows means a slow store.",
            unit="short",
            links=(runbook("GatekeyShedding"), to_lines('reason="overloaded"')),
        ),
        graph(
            303,
            "Connections, breaker, link",
            "Connections by state; the breaker is 0 (closed), 1 (half open) or 2 (open); the link is 1 while announcements come.",
            [
                (gauge("sum", pool, by="state"), "{{state}}"),
                (gauge("max", "store_breaker_state"), "breaker"),
                (gauge("min", "invalidation_link_up"), "link"),
            ],
            good="breaker 0, link 1.",
            unit="short",
            links=(runbook("GatekeyBreakerOpen"), runbook("GatekeyInvalidationLinkDown")),
        ),
    )


def _cache() -> tuple[Panel, ...]:
    entries = gauge("sum", "cache_entries", by="instance")
    return (
        graph(
            401,
            "Look-ups by result",
            "hit and negative_hit need no store, miss asks it, stale is a record past its time while the store is away.",
            [(rate("cache_lookups_total", by="result"), "{{result}}")],
            good="nearly all hit, no stale.",
            unit="reqps",
            stacked=True,
            colors={"hit": GOOD, "negative_hit": "#8ab8ff", "miss": ALERT, "stale": BAD},
            links=(runbook("GatekeyStaleAnswers"), to_lines('source="stale"')),
        ),
        graph(
            402,
            "How full the cache is",
            "Entries as a share of the known keys that it may hold, by instance (unknown keys are held apart, and counted too).",
            [(f"{entries} / ({gauge('sum', 'cache_entries_max', by='instance')} > 0)", "{{instance}}")],
            good="below 90 %; at the limit, keys push each other out.",
            unit="percentunit",
            limits=(0.9, 1),
            links=(runbook("GatekeyCacheThrash"),),
        ),
        graph(
            403,
            "Entries that left",
            "ttl: their time was over; invalidated: their key was changed; lru: pushed out by others.",
            [(rate("cache_evictions_total", by="reason"), "{{reason}}")],
            good="no lru: the cache is too small otherwise (GATEKEY_CACHE_MAX_ENTRIES).",
            unit="ops",
            colors={"lru": BAD},
            links=(runbook("GatekeyCacheThrash"),),
        ),
    )


def _changes() -> tuple[Panel, ...]:
    return (
        graph(
            501,
            "Changes that arrived",
            "In each minute. key and bulk were announced; change_log were missed and found later; reconnect forgot everything.",
            [(grew("invalidations_total", window="1m", by="origin"), "{{origin}}")],
            good="no change_log, few reconnect.",
            unit="short",
            colors={"change_log": ALERT, "reconnect": BAD},
            links=(runbook("GatekeyInvalidationLinkDown"), to("gatekey-security", "Security and audit")),
        ),
        graph(
            502,
            "A change takes effect after",
            "From a change of a key to its effect in the caches; the dashed line is the goal.",
            [(quantile(part, "invalidation_delay_seconds"), name) for part, name in ((0.5, "p50"), (0.99, "p99"))],
            good="below 0.1 s.",
            unit="s",
            limits=(0.1, 6.5),
            shown_to=0.15,
            links=(runbook("GatekeyRevocationSlow"),),
        ),
    )
