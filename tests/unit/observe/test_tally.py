"""What is noted on the way of a request is in the metrics when they are read, whoever notes and whoever reads."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from service.observe.tally import Movement, Tally

BOUNDS = (0.001, 0.01, 0.1)
THREADS = 8


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("c", "", registry=self.registry)
        self.histogram = Histogram("h", "", registry=self.registry, buckets=BOUNDS)
        self.timed = Movement(self.counter, self.histogram)
        self.untimed = Movement(self.counter)

    def counted(self) -> float:
        return self.registry.get_sample_value("c_total") or 0.0

    def observed(self) -> dict[str, float | None]:
        read = self.registry.get_sample_value
        buckets = {bound: read("h_bucket", {"le": bound}) for bound in ("0.001", "0.01", "0.1", "+Inf")}
        return {**buckets, "count": read("h_count"), "sum": read("h_sum")}


@given(st.lists(st.sampled_from([*BOUNDS, 0.0]) | st.floats(0, 1), max_size=50))
def test_what_is_settled_is_what_the_library_would_have_counted(seconds: list[float]) -> None:
    """Bucket by bucket, values on a bound included."""
    noted, counted = Metrics(), Metrics()
    tally = Tally()
    for value in seconds:
        tally.note(noted.timed, value)
        tally.note(noted.untimed)
        counted.histogram.observe(value)
        counted.counter.inc(2)
    tally.settle()
    expected = counted.observed()
    assert noted.observed() == {**expected, "sum": pytest.approx(expected["sum"])}
    assert noted.counted() == counted.counted() == 2 * len(seconds)


def test_what_nobody_reads_does_not_pile_up() -> None:
    """So the memory is bounded without a scrape; all but the last few are in the metrics already."""
    metrics, tally = Metrics(), Tally()
    for _ in range(10_000):
        tally.note(metrics.timed, 0.005)
    assert metrics.counted() > 9_000
    assert (metrics.observed()["count"] or 0) > 9_000


def test_threads_that_note_while_others_read_lose_nothing() -> None:
    """Each note counts once, whoever adds it up."""
    metrics, tally = Metrics(), Tally()
    start = threading.Barrier(THREADS)

    def work(number: int) -> None:
        start.wait(10)
        for _ in range(5_000):
            if number % 4 == 0:
                tally.settle()
            tally.note(metrics.timed, 0.005)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    tally.settle()
    assert metrics.counted() == THREADS * 5_000
    assert metrics.observed()["count"] == THREADS * 5_000
