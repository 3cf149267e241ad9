"""What a run leaves behind: RESULTS.md, its charts, and the raw numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.bench.charts import Bar, bar_chart
from benchmarks.bench.figures import spread
from benchmarks.bench.report import sections
from benchmarks.bench.rounds import SHARE

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.bench.contender import Contender
    from benchmarks.bench.run import Run

__all__ = ["charts", "markdown", "raw", "write"]

_INTRODUCTION: Final = (
    "Written by `make bench`; what it measures, how, and what its limits are is in [README.md](README.md). The raw numbers are "
    "in [results.json](results.json)."
)


def write(run: Run, folder: Path) -> None:
    """Everything, over what was there."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    drawn = charts(run)
    for name, text in drawn.items():
        (folder / "images" / f"{name}.svg").write_text(text, encoding="utf-8")
    (folder / "RESULTS.md").write_text(markdown(run, list(drawn)), encoding="utf-8")
    (folder / "results.json").write_bytes(raw(run))


def charts(run: Run) -> dict[str, str]:
    """By name; none where there is nothing to draw."""
    shown = [
        each for each in run.results if not each.name.startswith("workers-") and each.connections == run.connections
    ]
    found = {}
    if shown:
        rates = [_bar(each, [turn.rate for turn in run.measured[each.name].turns], ",.0f") for each in shown]
        found["rates"] = bar_chart(
            "Requests a second, one worker on one core", "More is better", _ordered(rates, more=True)
        )
        used = [_bar(each, [turn.cpu_microseconds for turn in run.measured[each.name].turns], ",.0f") for each in shown]
        found["cpu"] = bar_chart("CPU time of a request", "Microseconds; less is better", _ordered(used, more=False))
    timed = [each for each in shown if run.measured[each.name].latencies]
    if timed:
        slow = [_bar(each, [one.p99 for one in run.measured[each.name].latencies], ",.2f") for each in timed]
        note = f"Milliseconds at {SHARE * 100:.0f} % of each one's own top rate, waiting counted; less is better"
        found["latency"] = bar_chart("Latency, 99th percentile", note, _ordered(slow, more=False))
    return found


def _bar(contender: Contender, values: list[float], form: str) -> Bar:
    value = spread(values)
    return Bar(label=contender.title, value=value, text=f"{value.median:{form}}", kind=contender.kind)


def _ordered(bars: list[Bar], *, more: bool) -> list[Bar]:
    """The best first."""
    return sorted(bars, key=lambda bar: bar.value.median, reverse=more)


_TITLES: Final = {"rates": "Requests a second", "cpu": "CPU time of a request", "latency": "Latency, 99th percentile"}


def markdown(run: Run, images: list[str]) -> str:
    """RESULTS.md, with the charts of these names."""
    lines = ["# Results", "", _INTRODUCTION]
    for heading, body in sections(run):
        lines += ["", f"## {heading}", "", *body]
        if heading == "Goals":
            lines += [line for name in images for line in ("", f"![{_TITLES[name]}](images/{name}.svg)")]
    return "\n".join([*lines, ""])


def raw(run: Run) -> bytes:
    """Every single figure."""
    document = {
        "machine": asdict(run.machine),
        "rounds": run.rounds,
        "seconds": run.seconds,
        "connections": run.connections,
        "goals": [
            {
                "goal": one.goal.text,
                "at_least": one.goal.at_least,
                "against": one.rival,
                **asdict(one.ratio),
                "met": one.is_met,
            }
            for one in run.verdicts
        ],
        "measured": {name: asdict(measured) for name, measured in run.measured.items()},
        "misses": {store: [asdict(miss) for miss in found] for store, found in run.misses.items()},
        "strained": {scene: [asdict(one) for one in found] for scene, found in run.strained.items()},
        "many": {scene: [asdict(one) for one in found] for scene, found in run.many.items()},
        "failed": run.problems,
        "skipped": dict(run.skipped),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
