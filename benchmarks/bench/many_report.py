"""What a run found out about a million keys, as rows and a table of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.bench.figures import range_of, ratio, spread
from benchmarks.bench.goals import ENTRY_BYTES_AT_MOST, MANY_AT_MOST
from benchmarks.bench.many import FEW, MANY
from benchmarks.bench.table import table

if TYPE_CHECKING:
    from benchmarks.bench.run import Run

__all__ = ["goals_of_many", "many_keys"]

_WHAT: Final = {"keys": "CPU time of a cached decision, us", "start": "start on SQLite until ready, s"}
_GOALS: Final = {
    "keys": f"a cached decision among {FEW:,} keys, by one among {MANY:,}",
    "start": f"a start on a store with one key, by one with {MANY:,}",
}
_NOTE: Final = (
    f"keys: {FEW:,} and {MANY:,} keys in the cache of one process, asked for at random; what is slower there is memory that "
    f"the processor has not at hand. start: one key and {MANY:,} in the store, until `/readyz` is 200."
)


def goals_of_many(run: Run) -> list[list[str]]:
    """Rows of the table of goals."""
    rows = []
    for scene, found in run.many.items():
        most, each = MANY_AT_MOST[scene], ratio([one.many for one in found], [one.few for one in found])
        met = "met" if each.median <= most else "not met"
        rows.append([_GOALS[scene], f"at most {most:g}", range_of(each, ".2f"), met])
        if found[0].entry_bytes:
            used = spread(one.entry_bytes for one in found)
            met = "met" if used.median <= ENTRY_BYTES_AT_MOST else "not met"
            rows.append(["bytes for each cached key", f"at most {ENTRY_BYTES_AT_MOST}", range_of(used, ".0f"), met])
    return rows


def many_keys(run: Run) -> list[str]:
    """The section, empty where nothing of it was measured."""
    rows = [
        [
            _WHAT[scene],
            range_of(spread(one.few for one in found), ".2f"),
            range_of(spread(one.many for one in found), ".2f"),
            range_of(spread(one.entry_bytes for one in found), ".0f") if found[0].entry_bytes else "-",
        ]
        for scene, found in run.many.items()
    ]
    return [*table(["", "Few keys", f"{MANY:,} keys", "Bytes for a key"], rows), "", _NOTE] if rows else []
