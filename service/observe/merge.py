"""Many workers' metrics made one, each family by its rule. Pure.

A counter never falls in the sum: what a worker has counted stays after its end, and a worker that is silent counts with
what it told last. That is why there is one ``Whole`` for a service and not one for each worker.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import Metric
from prometheus_client.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client.samples import Exemplar

    from service.observe.families import Across

__all__ = ["Head", "Series", "Shape", "Snapshot", "Whole"]

_CUMULATIVE: Final = ("counter", "histogram")
_WORKERS: Final = "gatekey_workers"
_NOTHING: Final[Mapping[str, float]] = MappingProxyType({})
_RULES: Final[Mapping[Across, Callable[[float, float], float]]] = {
    "sum": operator.add,
    "max": max,
    "min": min,
    "first": lambda first, _: first,
}


class Series(NamedTuple):
    """One line of a scrape: the family, the sample's name (``…_bucket``) and its labels."""

    family: str
    name: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is told once of a family."""

    name: str
    kind: str
    text: str
    across: Across


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything of a worker's metrics that does not change while it lives."""

    heads: tuple[Head, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A worker's metrics at one moment; ``values`` in the order of the shape's series, ``None`` where it cannot tell."""

    shape: Shape
    values: Sequence[float | None]
    exemplars: Mapping[int, Exemplar] = field(default_factory=dict)
    """By place among the series."""

    def told(self) -> Iterator[tuple[int, Series, float]]:
        """Place, series and value of what it can tell."""
        for place, (series, value) in enumerate(zip(self.shape.series, self.values, strict=True)):
            if value is not None:
                yield place, series, value


class Whole:
    """The service as one: what its ended workers counted, and how that and the living ones make one scrape."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._ended: dict[Series, float] = {}
        self._told: dict[Series, float] = {}

    def ended(self, last: Snapshot) -> None:
        """A worker has ended: what it counted stays, its gauges go."""
        self._remember(last)
        for _, series, value in last.told():
            if self._heads[series.family].kind in _CUMULATIVE:
                self._ended[series] = self._ended.get(series, 0.0) + value

    def merge(
        self, living: Sequence[Snapshot], *, answered: int, known: Mapping[str, float] = _NOTHING
    ) -> list[Metric]:
        """The families of the whole service. ``living`` begins with whose word counts where only one may count.

        ``known`` is what the parent knows better than its workers: series without labels, by their names.
        """
        values: dict[Series, float] = {}
        exemplars: dict[Series, Exemplar] = {}
        for snapshot in living:
            self._remember(snapshot)
            for place, series, value in snapshot.told():
                head = self._heads[series.family]
                rule = operator.add if head.kind in _CUMULATIVE else _RULES[head.across]
                values[series] = rule(values[series], value) if series in values else value
                if place in snapshot.exemplars:
                    exemplars[series] = _newest(exemplars.get(series), snapshot.exemplars[place])
        for series, value in self._ended.items():
            values[series] = values.get(series, 0.0) + value
        for name, value in {_WORKERS: float(answered), **known}.items():
            family = name.removesuffix("_total")
            if family in self._heads:
                values[Series(family, name, ())] = value
        self._never_fall(values)
        return self._families(values, exemplars)

    def _never_fall(self, values: dict[Series, float]) -> None:
        """Fractions added up in another order differ in their last digit, and any fall of a counter looks like a reset."""
        for series, value in values.items():
            if self._heads[series.family].kind in _CUMULATIVE:
                values[series] = self._told[series] = max(value, self._told.get(series, value))

    def _remember(self, snapshot: Snapshot) -> None:
        for head in snapshot.shape.heads:
            self._heads.setdefault(head.name, head)

    def _families(self, values: Mapping[Series, float], exemplars: Mapping[Series, Exemplar]) -> list[Metric]:
        found = {head.name: Metric(head.name, head.text, head.kind) for head in self._heads.values()}
        for series, value in values.items():
            sample = Sample(series.name, dict(series.labels), value, None, exemplars.get(series))
            found[series.family].samples.append(sample)
        return [family for family in found.values() if family.samples]


def _newest(one: Exemplar | None, other: Exemplar) -> Exemplar:
    if one is None or float(one.timestamp or 0) <= float(other.timestamp or 0):
        return other
    return one
