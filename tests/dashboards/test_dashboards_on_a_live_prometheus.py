"""A real Prometheus scrapes the real service through a minute of faults, and every query of every dashboard finds data."""

from __future__ import annotations

import asyncio
import math
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import prometheus
from tests.support.dashboards import NAMES, RULES, asked, filled_in
from tests.support.observed import WORKERS, observed
from tests.support.postgres_kind import PostgresKind

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.prometheus import Prometheus

EMPTY = {
    **{f"{name}-Firing-alerts": "no alert of this run lasts for as long as alerts wait" for name in NAMES},
    **{f"{name}-Restart": "nothing restarts the whole service here" for name in NAMES},
    "gatekey-workers-603-A": "the service of this run uses no certificate",
}
"""Queries that find nothing in this run, and why."""

QUERIES = dict(chain.from_iterable(asked(name).items() for name in NAMES))


async def test_every_query_finds_data_and_every_fault_is_seen(tmp_path: Path, require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """One run for both: each fault is there for some seconds, then what was scraped is asked for."""
    for lacks in filter(None, (prometheus.missing(), PostgresKind().missing())):
        (pytest.fail if require_all else pytest.skip)(lacks)
    async with observed(tmp_path, rules=RULES) as running:
        running.begin()
        await until(running.prometheus, f"gatekey_workers == {WORKERS}")
        await until(running.prometheus, "increase(gatekey_decisions_total{reason='ok'}[5s]) > 100")
        await running.revoked(14)
        await running.guessed(4, speed=200)
        await running.store_slow(4, pause=0.06)
        await running.link_lost(5)
        await running.store_down(5)
        # Back to work: what recovers must be scraped too, and a histogram's rate needs changes after the faults.
        await until(running.prometheus, "gatekey_store_up == 1 and on () gatekey_invalidation_link_up == 1")
        await until(running.prometheus, "increase(gatekey_invalidation_delay_seconds_count[5s]) > 0")
        end = time.time()
        length = end - running.started
        empty = await asyncio.to_thread(without_data, running.prometheus, end - length, end)
        assert empty == set(EMPTY)
        seen = {name: peak(running.prometheus, query, end, int(length)) for name, query in FAULTS.items()}
        assert all(value > 0 for value in seen.values()), seen


FAULTS = {
    "store down": "1 - gatekey_store_up",
    "link lost": "1 - gatekey_invalidation_link_up",
    "guessing": 'sum(rate(gatekey_decisions_total{reason="unknown_key"}[5s])) > 20',
    "errors": 'sum(rate(gatekey_decisions_total{outcome="error"}[5s])) > 0',
    "stale answers": 'sum(rate(gatekey_cache_lookups_total{result="stale"}[5s])) > 0',
    "revocations": 'sum(increase(gatekey_key_events_total{event="revoked"}[10s])) > 10',
}


async def until(server: Prometheus, query: str) -> None:
    """Return when the query finds something."""
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(server.query, query):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.1)


def without_data(server: Prometheus, start: float, end: float) -> set[str]:
    """Where the queries stand that have not one number in all this time."""
    return {where for where, query in QUERIES.items() if not numbers(server, filled_in(query), start, end)}


def numbers(server: Prometheus, query: str, start: float, end: float) -> list[float]:
    found: list[dict[str, Any]] = server.query_range(query, start=start, end=end, step=1)
    values = (float(value) for series in found for _, value in series["values"])
    return [value for value in values if math.isfinite(value)]


def peak(server: Prometheus, query: str, end: float, seconds: int) -> float:
    """The most of a query in the run."""
    return max(numbers(server, query, end - seconds, end), default=0.0)
