"""A made-up run as Markdown, charts and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from benchmarks.bench import files
from benchmarks.bench.charts import Bar, bar_chart
from benchmarks.bench.figures import Spread, range_of
from benchmarks.bench.lineup import CONTENDERS
from benchmarks.bench.machine import Machine
from benchmarks.bench.many import Many
from benchmarks.bench.misses import medians
from benchmarks.bench.openloop import Latency
from benchmarks.bench.procfs import Memory
from benchmarks.bench.report import sections
from benchmarks.bench.rounds import Measured, Turn
from benchmarks.bench.run import Run
from benchmarks.bench.strain import Strained
from benchmarks.bench.table import table

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = Machine(
    processor="Some CPU",
    cores=2,
    memory_gib=4,
    system="Linux 6.1",
    measured="2026-01-01",
    load_before=0.1,
    ours={"Python": "3.11.2"},
    theirs={"keyshield": "1.0"},
)


def turn(rate: float, *, busy: float = 0.2) -> Turn:
    memory = [
        Memory(proportional=30 * 2**20, resident=50 * 2**20),
        Memory(proportional=31 * 2**20, resident=52 * 2**20),
    ]
    return Turn(
        rate=rate, requests=1000, cpu_microseconds=1e6 / rate, generator_busy=busy, log_lines=1.0, memory=memory
    )


def latency(late: float = 0.1, busy: float = 0.5) -> Latency:
    return Latency(requests=100, rate=700.0, p50=0.2, p99=0.9, p999=1.5, slowest=3.0, late=late, busy=busy)


def run(**measured: Measured) -> Run:
    names = {name.replace("_", "-"): value for name, value in measured.items()}
    return Run(
        machine=MACHINE,
        rounds=2,
        seconds=1.0,
        connections=32,
        two_cores_to_serve=False,
        complete=False,
        contenders=tuple(CONTENDERS[name] for name in names),
        measured=names,
    )


def text(of: Run) -> str:
    return "\n".join(line for heading, lines in sections(of) for line in (f"## {heading}", *lines))


GOOD = run(
    gatekey_door=Measured(turns=[turn(20_000.0), turn(22_000.0)], latencies=[latency()]),
    keyshield=Measured(turns=[turn(2_500.0), turn(2_600.0)], latencies=[latency(late=4.0)]),
    workers_1=Measured(turns=[turn(10_000.0)]),
    workers_2=Measured(turns=[turn(9_000.0)]),
)


def test_a_ratio_stands_with_its_goal_its_spread_and_whether_it_was_met() -> None:
    """The whole row."""
    row = next(line for line in text(GOOD).splitlines() if line.startswith("| keyshield "))
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["keyshield", "8", "8.24 (8.00–8.46)", "met"]  # noqa: RUF001 - a range


def test_a_failed_contender_has_no_figure_and_its_reason_is_told() -> None:
    """Though some of its rounds went well."""
    found = text(
        run(
            gatekey_door=Measured(turns=[turn(20_000.0)]),
            keyshield=Measured(turns=[turn(2_500.0)], problem="round 2/2: 3 of 9 answers were not 200"),
        )
    )
    assert "- keyshield: failed. round 2/2: 3 of 9 answers were not 200" in found
    assert "2,500" not in found
    assert "## Goals" not in found


def test_what_is_missing_here_is_named() -> None:
    """And how to get it."""
    found = text(replace(GOOD, skipped={"nginx-lua": "needs nginx with Lua (Debian: apt install …)"}))
    assert "- nginx-lua: skipped: needs nginx with Lua (Debian: apt install …)" in found


def test_a_full_load_generator_and_a_late_one_are_told() -> None:
    """A figure that is the generator's must not pass for the contender's."""
    full = text(run(gatekey_door=Measured(turns=[turn(50_000.0, busy=0.95)], latencies=[latency(late=2.0)])))
    assert "≥ 50,000" in full
    assert "the generator itself was over 1 ms late" in full
    limited = text(run(gatekey_door=Measured(turns=[turn(50_000.0)], latencies=[latency(busy=0.95)])))
    assert "Gatekey, forward door *" in limited
    calm = text(run(gatekey_door=Measured(turns=[turn(1.0)], latencies=[latency()])))
    assert "≥" not in calm
    assert "the generator itself" not in calm


def test_two_workers_on_one_core_are_compared_by_cpu_time_alone() -> None:
    """Their rates are not shown where they cannot have a core each."""
    found = text(GOOD)
    part = found[found.index("## Two workers") : found.index("## Measured on")]
    assert "This machine has two cores" in part
    assert "10,000" not in part
    shown = text(replace(GOOD, two_cores_to_serve=True))
    assert "10,000" in shown
    assert "one worker, by two on two cores" in shown


def test_a_miss_is_held_against_the_bare_driver_call() -> None:
    """At the median, and not met above 1.6 times."""
    misses = {"sqlite": [medians([0.2, 0.3, 0.4], [0.02], [0.1, 0.2, 0.3])], "redis": [medians([0.5], [0.02], [0.1])]}
    rows = [line for line in text(replace(GOOD, misses=misses)).splitlines() if "by a miss" in line]
    assert [row.rstrip("| ").rpartition("| ")[2].strip() for row in rows] == ["met", "not met"]


def test_strain_is_held_against_calm() -> None:
    """The rate only where it was compared, the p99 always."""
    slow = Strained(calm_rate=1000, strained_rate=900, calm_p99=1, strained_p99=1.5, store_finds=60)
    flood = Strained(calm_rate=0, strained_rate=0, calm_p99=1, strained_p99=3, store_finds=200)
    pages = Strained(calm_rate=1000, strained_rate=100, calm_p99=1, strained_p99=30, store_finds=0)
    scenes = {"slow-store": [slow], "flood": [flood], "pages": [pages]}  # the last one has no goal
    found = text(replace(GOOD, strained=scenes)).splitlines()
    rows = [line for line in found if "in calm, with a " in line]
    assert [[cell.strip() for cell in row.strip("|").split("|")][2:] for row in rows] == [
        ["0.90", "met"],
        ["1.50", "met"],
        ["3.00", "not met"],
    ]


def test_a_busy_machine_is_told() -> None:
    """Whoever reads the figures must know."""
    assert "not a quiet machine" in text(replace(GOOD, machine=replace(MACHINE, load_before=3.0)))
    assert "not a quiet machine" not in text(GOOD)


@pytest.mark.parametrize(
    ("complete", "rounds", "kept"), [(True, 5, True), (True, 4, False), (False, 5, False), (True, 9, True)]
)
def test_only_a_run_of_everything_in_enough_rounds_is_kept(complete: bool, rounds: int, kept: bool) -> None:  # noqa: FBT001 - a table
    """A trial must not overwrite the results."""
    assert replace(GOOD, complete=complete, rounds=rounds).is_worth_keeping is kept


def test_what_is_written_hangs_together(tmp_path: Path) -> None:
    """The page shows every chart, each chart is well-formed, and the raw numbers can be read."""
    files.write(GOOD, tmp_path)
    page = (tmp_path / "RESULTS.md").read_text()
    drawn = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in drawn] == ["cpu.svg", "latency.svg", "rates.svg"]
    for path in drawn:
        assert f"(images/{path.name})" in page
        ET.fromstring(path.read_text())  # noqa: S314 - our own file
    raw = json.loads((tmp_path / "results.json").read_text())
    assert [one["rate"] for one in raw["measured"]["gatekey-door"]["turns"]] == [20_000.0, 22_000.0]


def test_a_bar_is_as_long_as_its_figure_and_texts_are_escaped() -> None:
    """In proportion to the longest, with the spread drawn over it, and with what the colours mean that occur."""
    bars = [
        Bar(label="a & b", value=Spread(median=50, low=40, high=100), text="50", kind="gatekey"),
        Bar(label="c", value=Spread(median=25, low=25, high=25), text="25", kind="limit"),
    ]
    root = ET.fromstring(bar_chart("<title>", "note", bars))  # noqa: S314 - our own picture
    names = "{http://www.w3.org/2000/svg}"
    widths = [float(rect.attrib["width"]) for rect in root.iter(f"{names}rect") if rect.attrib["rx"] == "3"]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert len([line for line in root.iter(f"{names}path") if line.attrib["class"] == "spread"]) == 1
    texts = [each.text for each in root.iter(f"{names}text")]
    assert "a & b" in texts
    assert {"Gatekey", "the limit"} < set(texts)
    assert "others" not in texts


def test_every_contenders_name_fits_in_front_of_its_bar() -> None:
    """By a width of a character that none of the fonts exceeds on average."""
    bar = Bar(label="name", value=Spread(median=1, low=1, high=1), text="1", kind="rival")
    root = ET.fromstring(bar_chart("title", "note", [bar]))  # noqa: S314 - our own picture
    (end,) = [float(each.attrib["x"]) for each in root.iter("{http://www.w3.org/2000/svg}text") if each.text == "name"]
    assert max(len(contender.title) for contender in CONTENDERS.values()) * 7.6 <= end


def test_columns_are_aligned() -> None:
    """Text to the left, figures to the right."""
    assert table(["", "Rate"], [["a", "1"], ["long", "1,000"]]) == [
        "|      |  Rate |",
        "| ---- | ----: |",
        "| a    |     1 |",
        "| long | 1,000 |",
    ]


def test_one_figure_has_no_range() -> None:
    """A single round has no spread to show."""
    assert range_of(Spread(median=5, low=5, high=5), ".1f") == "5.0"


@pytest.mark.parametrize(
    ("scene", "found", "expected"),
    [
        ("keys", Many(few=7.0, many=8.0, entry_bytes=657.0), ["1.14 | met", "657 | met"]),
        ("keys", Many(few=7.0, many=8.4, entry_bytes=701.0), ["1.20 | not met", "701 | not met"]),
        ("start", Many(few=0.85, many=0.84), ["0.99 | met"]),
    ],
    ids=["met", "missed", "no cache"],
)
def test_a_million_keys_are_held_against_few(scene: str, found: Many, expected: list[str]) -> None:
    """By the ratio, and by bytes where a cache was filled."""
    heading, *lines = text(replace(GOOD, many={scene: [found, found]})).split("## Many keys")
    goals = [
        " | ".join(cell.strip() for cell in line.split("|")[-3:-1])
        for line in heading.splitlines()
        if "at most" in line
    ]
    assert goals == expected
    assert len(lines) == 1
    assert "## Many keys" not in text(GOOD)


def test_a_million_keys_are_in_the_raw_numbers() -> None:
    """Each round of them."""
    document = json.loads(files.raw(replace(GOOD, many={"start": [Many(few=1.0, many=2.0)]})))
    assert document["many"] == {"start": [{"few": 1.0, "many": 2.0, "entry_bytes": 0.0}]}
