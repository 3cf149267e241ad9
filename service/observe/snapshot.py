"""All series of one process read quickly: a scrape of the whole service holds each worker's interpreter for moments only.

Collecting the families in the client library's own way costs six times as much, most of it for names and labels that
never change. Those are told once, as the shape; afterwards only numbers are.
"""

from __future__ import annotations

import functools
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from service.observe.merge import Head, Series, Shape, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import Metric
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Exemplar

    from service.observe.families import Across

__all__ = ["Reader"]

_Parent = TypeVar("_Parent", Counter, Gauge, Histogram)


class Reader:
    """Reads ``collectors``, whose series must all exist by now. ``across`` has the rules of gauges that do not add up.

    ``settle`` is called before each reading: it lets what waits to be counted be counted.
    """

    def __init__(
        self, collectors: Sequence[Collector], across: Mapping[str, Across], *, settle: Callable[[], None] | None = None
    ) -> None:
        self._settle = settle
        heads: list[Head] = []
        series: list[Series] = []
        self._parts: list[Callable[[], Iterable[float | None]]] = []
        self._exemplars: list[tuple[int, Callable[[], Exemplar | None]]] = []
        for collector in collectors:
            families = list(collector.collect())
            heads += [
                Head(name=each.name, kind=each.type, text=each.documentation, across=across.get(each.name, "sum"))
                for each in families
            ]
            expected = list(_collected(families))
            self._parts.append(self._part(collector, expected, len(series)))
            series += expected
        self.shape = Shape(heads=tuple(heads), series=tuple(series))

    def read(self) -> Snapshot:
        """The metrics of now."""
        if self._settle is not None:
            self._settle()
        values = [value for part in self._parts for value in part()]
        exemplars = {place: exemplar for place, get in self._exemplars if (exemplar := get()) is not None}
        return Snapshot(shape=self.shape, values=values, exemplars=exemplars)

    def _part(
        self, collector: Collector, expected: Sequence[Series], place: int
    ) -> Callable[[], Iterable[float | None]]:
        """How to read one collector; the library's own three kinds of metric are read past its way of collecting.

        Its private names are pinned with its version, and a test compares what is read with what it collects.
        """
        if isinstance(collector, Counter):
            getters = [child._value.get for child in _children(collector)]  # noqa: SLF001 - see the docstring
            return lambda: [get() for get in getters]
        if isinstance(collector, Gauge):  # by a function perhaps, which the library puts into this very place
            gauges = _children(collector)
            return lambda: [sample.value for gauge in gauges for sample in gauge._child_samples()]  # noqa: SLF001 - likewise
        if isinstance(collector, Histogram):
            parts = []
            for child in _children(collector):
                buckets = child._buckets  # noqa: SLF001 - likewise
                self._exemplars += [(place + index, bucket.get_exemplar) for index, bucket in enumerate(buckets)]
                place += len(buckets) + 2
                parts.append(([bucket.get for bucket in buckets], child._sum.get))  # noqa: SLF001 - likewise
            return functools.partial(_read_histograms, parts)
        return functools.partial(_read_any, collector, expected)


def _read_histograms(parts: Iterable[tuple[list[Callable[[], float]], Callable[[], float]]]) -> list[float]:
    """The buckets, the count and the sum of each child, in the library's order."""
    values: list[float] = []
    for buckets, total in parts:
        counts = list(accumulate(get() for get in buckets))
        values += (*counts, counts[-1], total())
    return values


def _read_any(collector: Collector, expected: Iterable[Series]) -> list[float | None]:
    """In the library's way; what is missing at this moment (no file could be opened) is ``None``."""
    found = _collected(collector.collect())
    return [found.get(series) for series in expected]


def _collected(families: Iterable[Metric]) -> dict[Series, float]:
    """Without ``_created``, as in every scrape."""
    return {
        Series(family.name, sample.name, tuple(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def _children(parent: _Parent) -> list[_Parent]:
    """The children in the order in which they were made, which is that of a scrape; a metric without labels is its own."""
    if not parent._labelnames:  # noqa: SLF001 - see ``Reader._part``
        return [parent]
    children: Mapping[Any, Any] = parent._metrics  # noqa: SLF001 - likewise
    return list(children.values())
