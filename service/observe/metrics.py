"""The metrics of one process: every series of contract 7 from the start at 0, behind small methods.

Callers never see the client library. Children are made once and held, so that a count on the way of a request is one
look-up in a dictionary and one note for ``service.observe.tally``.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.samples import Exemplar

from service.auth.decision import Source
from service.auth.reasons import REASONS
from service.observe.exposition import exposition
from service.observe.families import ROUTES, families
from service.observe.process import START_TIME, ProcessCollector
from service.observe.snapshot import Reader
from service.observe.tally import Movement, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric
    from prometheus_client.registry import Collector

    from backends.records import Connections, Origin
    from service.auth.decision import Decision
    from service.observe.families import Across, Family

__all__ = ["ROUTES", "Metrics"]

_SERVER_ERROR: Final = "5xx"


class _Registry(CollectorRegistry):
    """Without ``_created`` series, which double the counters; the library can only switch them off globally."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(auto_describe=True)
        self.collectors: list[Collector] = []
        self._tally = tally

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.collectors.append(collector)

    def collect(self) -> Iterator[Metric]:
        self._tally.settle()
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class Metrics:
    """``store`` is the store's kind; time-outs are seconds, and set the last bounds of the histograms.

    ``certificates`` are those in use and when they end (Unix time), where that is known. ``pids`` names the processes
    whose memory, CPU time and open files are summed up (by default this one).
    """

    def __init__(
        self,
        *,
        store: str,
        version: str,
        revision: str = "",
        store_timeout: float = 0.25,
        find_timeout: float = 2.0,
        request_timeout: float = 30.0,
        certificates: Mapping[str, float] | None = None,
        pids: Callable[[], Iterable[int]] | None = None,
    ) -> None:
        self._tally = Tally()
        self.registry = _Registry(self._tally)
        self._across: dict[str, Across] = {"gatekey_build_info": "first", START_TIME: "min"}
        self._whole: Callable[[str], tuple[bytes, str]] | None = None
        self._store = store
        self._counters: dict[str, dict[tuple[str, ...], Counter]] = {}
        self._gauges: dict[str, dict[tuple[str, ...], Gauge]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}
        certificates = certificates or {}
        for family in families(
            store=store,
            store_timeout=store_timeout,
            find_timeout=find_timeout,
            request_timeout=request_timeout,
            certificates=certificates,
        ):
            self._add(family)
        self._hold_children()
        self._gauges["workers"][()].set(1)
        self._gauges["workers_configured"][()].set(1)
        for name, end in certificates.items():
            self._gauges["tls_certificate_expiry_timestamp_seconds"][name,].set(end)
        build = Gauge(
            "gatekey_build_info",
            "Always 1; the labels say what is running.",
            ("version", "revision", "python", "store"),
            registry=self.registry,
        )
        build.labels(version, revision, platform.python_version(), store).set(1)
        self.registry.register(ProcessCollector(pids))

    def _add(self, family: Family) -> None:
        name = f"gatekey_{family.name}"
        self._across[name] = family.across
        if family.kind == "counter":
            counter = Counter(name, family.text, family.labels, registry=self.registry)
            self._counters[family.name] = {
                values: counter.labels(*values) if values else counter for values in family.children
            }
        elif family.kind == "gauge":
            gauge = Gauge(name, family.text, family.labels, registry=self.registry)
            self._gauges[family.name] = {
                values: gauge.labels(*values) if values else gauge for values in family.children
            }
        else:
            histogram = Histogram(name, family.text, family.labels, registry=self.registry, buckets=family.buckets)
            self._histograms[family.name] = {
                values: histogram.labels(*values) if values else histogram for values in family.children
            }

    def _hold_children(self) -> None:
        """Key the children by what the callers have in hand."""
        counters, histograms, store = self._counters, self._histograms, self._store
        pairs = {reason: (row.outcome.value, reason.value) for reason, row in REASONS.items()}
        shadow = counters["shadow_decisions"]
        self._shadow = {reason: Movement(shadow[pair]) for reason, pair in pairs.items() if pair in shadow}
        durations = histograms["decision_duration_seconds"]
        self._decisions = {
            (reason, source): Movement(
                counters["decisions"][pair],
                durations.get((pair[0], source.value), durations[pair[0], Source.NONE.value]),
            )
            for reason, pair in pairs.items()
            for source in Source
        }
        self._shed = {values[0]: Movement(child) for values, child in counters["shed"].items()}
        self._lookups = {values[0]: Movement(child) for values, child in counters["cache_lookups"].items()}
        self._evictions = _by_value(counters["cache_evictions"])
        self._coalesced = counters["cache_coalesced"][()]
        of_operation = {key[1]: child for key, child in histograms["store_operation_duration_seconds"].items()}
        operations = counters["store_operations"].items()
        self._operations = {key[1:]: Movement(child, of_operation[key[1]]) for key, child in operations}
        self._refusals = {key[1:]: Movement(child) for key, child in operations}
        self._invalidations = _by_value(counters["invalidations"])
        timed = {key[0]: child for key, child in histograms["http_request_duration_seconds"].items()}
        self._requests = {
            (route, group): Movement(child, timed.get(route))
            for (route, group), child in counters["http_requests"].items()
        }
        self._groups = {status: f"{status // 100}xx" for status in range(200, 600)}
        self._in_flight = self._gauges["decisions_in_flight"][()]
        self._store_up = self._gauges["store_up"][store,]

    # -- decisions and requests ---------------------------------------------------------------------------------------

    def decided(self, decision: Decision) -> None:
        """Count one decision and its duration; a decision in shadow mode also by the reason that would have counted."""
        self._tally.note(self._decisions[decision.reason, decision.source], decision.duration)
        if decision.shadowed is not None:
            self._tally.note(self._shadow[decision.shadowed])

    def exemplify(self, decision: Decision, trace_id: str, at: float) -> None:
        """Let the bucket of this decision's duration name its trace, for whoever reads OpenMetrics; ``at`` is wall time."""
        histogram = self._decisions[decision.reason, decision.source].histogram
        if histogram is not None:
            bucket = histogram._buckets[bisect_left(histogram._upper_bounds, decision.duration)]  # noqa: SLF001 - as ``service.observe.tally``
            bucket.set_exemplar(Exemplar({"trace_id": trace_id}, decision.duration, at))

    def waiting(self, change: int) -> None:
        """Count a decision that began (1) or ended (-1) waiting for the store."""
        self._in_flight.inc(change)

    def http_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request of a group of ``ROUTES``; a status outside 200 to 599 counts as ``5xx``."""
        self._tally.note(self._requests[route, self._groups.get(status, _SERVER_ERROR)], seconds)

    def shed(self, reason: str) -> None:
        """Count a request refused because too many were waiting: ``misses``, ``loads`` or ``bridge``."""
        self._tally.note(self._shed[reason])

    def rate_limit(self, result: str) -> None:
        """Count an answer of the rate limits: ``allowed``, ``limited`` or ``error``."""
        self._counters["rate_limit"][result,].inc()

    def login(self, outcome: str) -> None:
        """Count a sign-in: ``success`` or ``failure``."""
        self._counters["logins"][outcome,].inc()

    def watch_sessions(self, count: Callable[[], float]) -> None:
        """Read the number of sessions at each scrape."""
        self._gauges["sessions"][()].set_function(count)

    # -- cache and changes --------------------------------------------------------------------------------------------

    def cache_lookup(self, result: str) -> None:
        """Count a look-up: ``hit``, ``negative_hit``, ``stale`` or ``miss``."""
        self._tally.note(self._lookups[result])

    def cache_evicted(self, reason: str) -> None:
        """Count an entry that left: ``ttl``, ``lru`` or ``invalidated``."""
        self._evictions[reason].inc()

    def cache_coalesced(self) -> None:
        """Count a look-up that joined another one."""
        self._coalesced.inc()

    def watch_cache(self, size: Callable[[], float], maximum: int, link_up: Callable[[], bool]) -> None:
        """Read the cache's size and link at each scrape; nothing is done for them on the way of a request."""
        self._gauges["cache_entries"][()].set_function(size)
        self._gauges["cache_entries_max"][()].set(maximum)
        self._gauges["invalidation_link_up"][()].set_function(lambda: float(link_up()))

    def invalidated(self, origin: Origin) -> None:
        """Count a change that arrived, by its way."""
        self._invalidations[origin].inc()

    def invalidation_delay(self, seconds: float) -> None:
        """Note how long a change took to have its effect here."""
        self._histograms["invalidation_delay_seconds"][()].observe(seconds)

    def key_event(self, event: str, count: int = 1) -> None:
        """Count changes of keys by one of the events of ``gatekey_key_events_total`` (``created``, ``rotated``, …)."""
        self._counters["key_events"][event,].inc(count)

    def keys_counted(self, counts: Mapping[str, int]) -> None:
        """Show the number of keys by state (``active``, ``disabled``, ``revoked``, ``expired``)."""
        for state, count in counts.items():
            self._gauges["keys"][state,].set(count)

    def keys_expiring(self, counts: Mapping[str, int]) -> None:
        """Show the number of active keys that end within each time of ``SOON`` (``7d``, ``30d``)."""
        for within, count in counts.items():
            self._gauges["keys_expiring"][within,].set(count)

    # -- store --------------------------------------------------------------------------------------------------------

    def store_operation(self, operation: str, result: str, seconds: float | None) -> None:
        """Count a finished operation of a group (find, ping, read, write, organizations, barrier) by one of its results.

        ``None`` seconds: the store was not asked, and how long that took would make it look quick.
        """
        movements = self._refusals if seconds is None else self._operations
        movement = movements.get((operation, result)) or movements[operation, "error"]
        self._tally.note(movement, seconds or 0.0)

    def store_up(self, *, up: bool) -> None:
        """Show whether the store answered when it was last asked."""
        self._store_up.set(float(up))

    def watch_pool(self, connections: Callable[[], Connections]) -> None:
        """Read the connections of the store's pool at each scrape."""
        pool = self._gauges["store_pool_connections"]
        pool[self._store, "idle"].set_function(lambda: float(connections().idle))
        pool[self._store, "used"].set_function(lambda: float(connections().used))
        self._gauges["store_pool_connections_max"][self._store,].set_function(lambda: float(connections().maximum))

    def watch_breaker(self, state: Callable[[], float]) -> None:
        """Read the breaker's state (0 closed, 1 half open, 2 open) at each scrape."""
        self._gauges["store_breaker_state"][self._store,].set_function(state)

    # -- decision log and process -------------------------------------------------------------------------------------

    def log_lines(self, count: int) -> None:
        """Count decision lines that were written."""
        self._counters["decision_log_lines"][()].inc(count)

    def log_summarized(self, count: int) -> None:
        """Count decisions whose line went into a summary."""
        self._counters["decision_log_summarized"][()].inc(count)

    def log_dropped(self, reason: str, count: int = 1) -> None:
        """Count decision lines that were lost: ``queue_full``, ``write_error`` or ``encode_error``."""
        self._counters["decision_log_dropped"][reason,].inc(count)

    def spans_lost(self, count: int) -> None:
        """Count spans that no collector got."""
        self._counters["trace_spans_lost"][()].inc(count)

    def watch_log(self, length: Callable[[], float]) -> None:
        """Read the queue's length at each scrape."""
        self._gauges["decision_log_queue_length"][()].set_function(length)

    def loop_lag(self, seconds: float) -> None:
        """Note how late the loop woke a task."""
        self._histograms["loop_lag_seconds"][()].observe(seconds)

    def supervised(self, *, configured: int, deaths: int) -> None:
        """Show how many workers there should be, and count those that have ended before this one (where it is the only)."""
        self._gauges["workers_configured"][()].set(configured)
        self._counters["worker_deaths"][()].inc(deaths)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the scrape and its content type: OpenMetrics or text, as ``Accept`` asks (text for an odd one).

        It is that of the whole service, or raises ``Unanswered``; alone a process always answers.
        """
        return exposition(self.registry, accept) if self._whole is None else self._whole(accept)

    def reader(self) -> Reader:
        """Read the numbers of this process, for whoever puts those of several together."""
        return Reader(self.registry.collectors, self._across, settle=self._tally.settle)

    def answer_for_all(self, page: Callable[[str], tuple[bytes, str]]) -> None:
        """Let ``render`` tell of the whole service, of which this process is one worker."""
        self._whole = page


def _by_value(children: dict[tuple[str, ...], Counter]) -> dict[str, Counter]:
    return {values[0]: child for values, child in children.items()}
