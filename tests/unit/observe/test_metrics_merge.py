"""Several workers' metrics made one: the rule of each family, and what must never fall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.samples import Exemplar

from service.auth.decision import Decision, Source
from service.auth.reasons import Reason
from service.observe.exposition import exposition
from service.observe.families import CERTIFICATES, families
from service.observe.merge import Head, Series, Shape, Snapshot, Whole
from service.observe.metrics import Metrics
from service.observe.peers_wire import decode_shape, decode_snapshot, encode_shape, encode_snapshot
from service.observe.snapshot import Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import Metric
    from prometheus_client.registry import Collector

    from service.observe.families import Across

METRICS = Metrics(store="memory", version="1")
SHAPE = METRICS.reader().shape
TABLE = families(store="memory", store_timeout=0.25, request_timeout=30, certificates=CERTIFICATES)


def one_series(kind: str, across: Across = "sum", *, name: str = "gatekey_thing") -> Shape:
    head = Head(name=name, kind=kind, text="A thing.", across=across)
    return Shape(heads=(head,), series=(Series(name, name, (("store", "memory"),)),))


def snapshots(shape: Shape, values: Sequence[float | None]) -> list[Snapshot]:
    return [Snapshot(shape=shape, values=[value]) for value in values]


def values_of(merged: Sequence[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sample.labels.items())): sample.value
        for family in merged
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("kind", "across", "values", "together"),
    [
        ("counter", "sum", [1, 2, 4], 7),
        ("histogram", "sum", [1, 2, 4], 7),
        ("counter", "max", [1, 2, 4], 7),  # a rule is for gauges
        ("gauge", "sum", [1, 2, 4], 7),
        ("gauge", "max", [0, 2, 1], 2),
        ("gauge", "min", [1, 0, 1], 0),
        ("gauge", "min", [1, 1, 1], 1),
        ("gauge", "first", [3, 9, 0], 3),
        ("gauge", "sum", [None, 2, 4], 6),
        ("gauge", "min", [None, 2, 4], 2),
        ("gauge", "first", [None, 2, 4], 2),
    ],
)
def test_each_family_has_its_rule(kind: str, across: Across, values: list[float | None], together: float) -> None:
    """What a worker cannot tell at the moment counts for nothing."""
    merged = Whole().merge(snapshots(one_series(kind, across), values), answered=3)
    assert values_of(merged) == {("gatekey_thing", "store=memory"): together}


def test_what_nobody_can_tell_is_left_out() -> None:
    """No figure is made up."""
    assert Whole().merge(snapshots(one_series("gauge"), [None, None]), answered=2) == []


@pytest.mark.parametrize(
    ("kind", "left"), [("counter", 7.0), ("histogram", 7.0), ("gauge", 4.0)], ids=["counter", "histogram", "gauge"]
)
def test_what_an_ended_worker_counted_stays_and_its_gauges_go(kind: str, left: float) -> None:
    """So that a restart is no fall of a counter, and no memory of a process that is gone is shown."""
    whole, shape = Whole(), one_series(kind)
    *ended, living = snapshots(shape, [1, 2, 4])
    for last in ended:
        whole.ended(last)
    assert values_of(whole.merge([living], answered=1)) == {("gatekey_thing", "store=memory"): left}


def test_the_counters_are_told_even_when_nobody_lives() -> None:
    """While the last worker is being replaced, the parent's own port goes on without a fall."""
    whole = Whole()
    whole.ended(METRICS.reader().read())
    told = values_of(whole.merge([], answered=0))
    assert told["gatekey_workers",] == 0
    assert told["gatekey_decisions_total", "outcome=allow", "reason=ok"] >= 0
    assert ("gatekey_cache_entries",) not in told


def test_the_number_of_workers_is_that_of_those_who_answered() -> None:
    """A silent one is in the sums with its last word, and missing in this number."""
    merged = Whole().merge([METRICS.reader().read()] * 3, answered=2)
    assert values_of(merged)["gatekey_workers",] == 2


@pytest.mark.parametrize(
    ("name", "across"),
    [
        ("store_up", "min"),
        ("invalidation_link_up", "min"),
        ("store_breaker_state", "max"),
        ("keys", "first"),
        ("keys_expiring", "first"),
        ("tls_certificate_expiry_timestamp_seconds", "min"),
        ("cache_entries", "sum"),
        ("cache_entries_max", "sum"),
        ("decisions_in_flight", "sum"),
        ("decision_log_queue_length", "sum"),
        ("store_pool_connections", "sum"),
        ("store_pool_connections_max", "sum"),
    ],
)
def test_the_table_says_how_gauges_go_together(name: str, across: str) -> None:
    """One worker that lost the store is seen, and what is used and its maximum are of the same workers."""
    assert {family.across for family in TABLE if family.name == name} == {across}


def test_what_the_parent_knows_stands_above_what_workers_say() -> None:
    """Deaths that no worker saw, the start of the whole service; what no worker has a name for is not made up."""
    known = {
        "gatekey_workers_configured": 4.0,
        "gatekey_worker_deaths_total": 7.0,
        "gatekey_process_start_time_seconds": 123.5,
        "gatekey_no_such_thing": 1.0,
    }
    told = values_of(Whole().merge([METRICS.reader().read()] * 3, answered=3, known=known))
    assert {name: told.get((name,)) for name in known} == {**known, "gatekey_no_such_thing": None}
    assert told["gatekey_workers",] == 3


def test_the_start_is_that_of_the_worker_that_has_lived_longest() -> None:
    """Where the parent's is not known."""
    reader = METRICS.reader()
    first, second = reader.read(), reader.read()
    place = [series.name for series in reader.shape.series].index("gatekey_process_start_time_seconds")
    later = [*second.values]
    later[place] = (first.values[place] or 0) + 60
    told = values_of(Whole().merge([Snapshot(shape=reader.shape, values=later), first], answered=2))
    assert told["gatekey_process_start_time_seconds",] == first.values[place]


def test_build_info_stays_one() -> None:
    """Three workers of one version are one build."""
    told = values_of(Whole().merge([METRICS.reader().read()] * 3, answered=3))
    assert [value for (name, *_), value in told.items() if name == "gatekey_build_info"] == [1]


def collected(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in values_of(list(metrics.registry.collect())).items() if "process" not in key[0]}


def test_what_is_read_quickly_is_what_the_library_collects() -> None:
    """Every series with its value, in the same order, whatever has moved."""
    metrics = Metrics(store="memory", version="1")
    for index, reason in enumerate(Reason):
        decision = Decision(reason, source=Source.CACHE)
        decision.duration = 0.0001 * index
        metrics.decided(decision)
    metrics.waiting(3)
    reader = metrics.reader()
    metrics.watch_log(lambda: 12.0)
    metrics.http_request("whoami", 200, 0.02)
    snapshot = reader.read()
    told = values_of(Whole().merge([snapshot], answered=1))
    assert list({key: value for key, value in told.items() if "process" not in key[0]}.items()) == list(
        collected(metrics).items()
    )
    families_told = [(head.name, head.kind, head.text) for head in snapshot.shape.heads]
    assert families_told == [(each.name, each.type, each.documentation) for each in metrics.registry.collect()]


def test_a_collector_that_fails_for_a_moment_spoils_no_other_value() -> None:
    """Where no file can be opened the figures of the process are missing; every other one stays in its place."""

    class Moody:
        def __init__(self) -> None:
            self.gauges = [Gauge("moody_one", "One.", registry=None), Gauge("moody_two", "Two.", registry=None)]

        def collect(self) -> list[Metric]:
            return [family for gauge in self.gauges for family in gauge.collect()]

    moody, after = Moody(), Counter("after", "After.", registry=None)
    reader = Reader([moody, after], {})
    after.inc(5)
    del moody.gauges[0]
    assert list(reader.read().values) == [None, 0.0, 5.0]


observations = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["ok", "bad"]), st.floats(0, 2)),
    max_size=20,
)


class Work:
    """Metrics of a small process, and their reader."""

    def __init__(self) -> None:
        self.counter = Counter("gatekey_things", "Things.", ["result"], registry=None)
        self.histogram = Histogram("gatekey_time", "Time.", ["result"], registry=None, buckets=(0.1, 0.5, 1))
        self.plain = Counter("gatekey_plain", "Plain.", registry=None)
        for result in ("ok", "bad"):
            self.counter.labels(result)
            self.histogram.labels(result)
        collectors: list[Collector] = [self.counter, self.histogram, self.plain]
        self.reader = Reader(collectors, {})

    def observe(self, result: str, seconds: float) -> None:
        self.counter.labels(result).inc()
        self.histogram.labels(result).observe(seconds)
        self.plain.inc(seconds)


@given(observations, st.sets(st.integers(0, 2)), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_the_merge_of_snapshots_is_the_snapshot_of_all_observations(
    seen: list[tuple[int, str, float]], ended: set[int], cut: int
) -> None:
    """Whoever observed what, and whichever workers have ended; and no sum ever falls on the way."""
    workers, alone, whole = [Work() for _ in range(3)], Work(), Whole()
    for worker, result, seconds in seen[:cut]:
        workers[worker].observe(result, seconds)
        alone.observe(result, seconds)
    before = values_of(whole.merge([each.reader.read() for each in workers], answered=3))
    for worker, result, seconds in seen[cut:]:
        workers[worker].observe(result, seconds)
        alone.observe(result, seconds)
    for index in ended:
        whole.ended(workers[index].reader.read())
    living = [each.reader.read() for index, each in enumerate(workers) if index not in ended]
    after = values_of(whole.merge(living, answered=len(living)))
    assert after == pytest.approx(values_of(whole_of(alone)))
    assert all(after[key] >= before[key] for key in before)


def test_a_sum_of_fractions_does_not_fall_by_its_last_digit() -> None:
    """When a worker ends, the same numbers are added in another order; the sum told before stands."""
    whole, shape = Whole(), one_series("counter")
    fractions = [0.9036490327626974 * 2, 1.395387900413515, 1.9579398110309785]
    living = snapshots(shape, fractions)
    before = values_of(whole.merge(living, answered=3))
    whole.ended(living[1])
    assert fractions[0] + fractions[2] + fractions[1] < sum(fractions)
    assert values_of(whole.merge([living[0], living[2]], answered=2)) == before


def whole_of(work: Work) -> list[Metric]:
    return Whole().merge([work.reader.read()], answered=1)


def test_the_newest_exemplar_of_a_bucket_is_kept_and_rendered() -> None:
    """OpenMetrics leads from a slow bucket to a trace, whichever worker saw it."""
    shape = Shape(
        heads=(Head(name="gatekey_time", kind="histogram", text="Time.", across="sum"),),
        series=(
            Series("gatekey_time", "gatekey_time_bucket", (("le", "+Inf"),)),
            Series("gatekey_time", "gatekey_time_count", ()),
            Series("gatekey_time", "gatekey_time_sum", ()),
        ),
    )
    marks = [Exemplar({"trace_id": f"trace-{second}"}, 0.3, float(second)) for second in (2, 3, 1)]
    told = [Snapshot(shape=shape, values=[1, 1, 0.3], exemplars={0: mark}) for mark in marks]

    class Collected:
        def collect(self) -> list[Metric]:
            return Whole().merge(told, answered=3)

    text = exposition(Collected(), "application/openmetrics-text")[0].decode()
    (family,) = parse_openmetrics(text)  # type: ignore[no-untyped-call]  # the library's
    assert [sample.exemplar.labels for sample in family.samples if sample.exemplar] == [{"trace_id": "trace-3"}]


def test_a_merged_page_has_no_more_series_than_one_worker() -> None:
    """The number of series is a property of the table, not of the number of workers."""
    one = METRICS.reader().read()
    assert len(values_of(Whole().merge([one] * 8, answered=8))) == len(one.values) <= 500


# -- the wire ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    st.dictionaries(
        st.integers(0, 2),
        st.builds(
            Exemplar,
            st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
            st.floats(0, 9),
            st.none() | st.floats(0, 9),
        ),
    ),
    st.integers(0, 4096),
)
@settings(max_examples=60, deadline=None)
def test_what_is_sent_is_what_arrives(values: list[float | None], marks: dict[int, Exemplar], answers: int) -> None:
    """Any numbers, in one line."""
    small = Shape(heads=SHAPE.heads[:1], series=SHAPE.series[:3])
    sent = Snapshot(shape=small, values=values, exemplars=marks)
    line = encode_snapshot(sent, answers=answers)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_snapshot(line, small) == (answers, sent)


def test_the_shape_is_sent_whole() -> None:
    """Names, labels, help texts and rules."""
    assert decode_shape(encode_shape(SHAPE)) == SHAPE


def test_a_value_that_is_no_number_is_told_as_none() -> None:
    """JSON has no such numbers, and a sum with one would be none either."""
    shape = one_series("gauge")
    line = encode_snapshot(Snapshot(shape=shape, values=[float("nan")]), answers=1)
    assert decode_snapshot(line, shape)[1].values == [None]


@pytest.mark.parametrize("line", [b"", b"{", b"[]\n", b"{}\n", b"[1,[1,2],{}]\n", b"[1,2,{}]\n", b'[1,[1],{"x":[]}]\n'])
def test_nonsense_is_refused(line: bytes) -> None:
    """A worker that talks it is left out; nothing else may be raised."""
    shape: Any = one_series("gauge")
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode_snapshot(line, shape)
