"""A run as Markdown: goals first, then every figure with its spread, then what it was measured on and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.bench.figures import range_of, ratio, spread
from benchmarks.bench.goals import (
    GOALS,
    MISS_AT_MOST,
    STRAINED_P99_AT_MOST,
    STRAINED_RATE_AT_LEAST,
    WORKERS_AT_LEAST,
)
from benchmarks.bench.many_report import goals_of_many, many_keys
from benchmarks.bench.misses import KEYS_A_ROUND
from benchmarks.bench.rounds import SHARE
from benchmarks.bench.table import table

if TYPE_CHECKING:
    from benchmarks.bench.contender import Contender
    from benchmarks.bench.rounds import Measured
    from benchmarks.bench.run import Run

__all__ = ["sections"]

_BUSY: Final = 0.9
"""Share of its core from which on the load generator may have been the limit."""
_LATE: Final = 1.0
"""Milliseconds that the open-loop generator may be behind (p99)."""
_MIB: Final = 2**20
_ON_STRAIN: Final = (
    "slow-store: Redis takes one second for each answer, and 64 callers ask for keys that are not cached, twice a second each. "
    "flood: nine of ten requests carry a new random key of the right form; in calm all carry the cached one, at the same rate "
    "(35 % of the top rate, which a closed loop reaches by handing over many at a time). pages: two operators read one page of "
    "1,000 keys after the other, while wrk asks for the cached key as fast as it can (so its p99 is that of a closed loop); "
    "pages-split: in a process of its own (GATEKEY_ROLE=app), which shares the core of the load where there are only two."
)
_ON_WORKERS: Final = (
    "This machine has two cores and one of them makes the load, so two workers cannot have a core each, and their rate says "
    f"nothing (the goal is {WORKERS_AT_LEAST:g} times one worker's). The CPU time of a request does: what two workers cost "
    "each other would show there."
)
_ON_MISSES: Final = (
    f"The decision as its log line tells it, one at a time, in rounds of {KEYS_A_ROUND} keys that nobody has asked for. The bare "
    "call reads the same rows with the same driver on an event loop of its own."
)
_ON_RATES: Final = (
    "CPU is that of all processes of the contender, memory that of each. Floods of the same refusal are summed up in the log, "
    "so denied requests have fewer lines."
)


def sections(run: Run) -> list[tuple[str, list[str]]]:
    """Headings and the lines below each; a part of which the run knows nothing is left out."""
    parts = [
        ("Goals", _goals(run)),
        ("One worker on one core", _rates(run)),
        (f"Latency at {SHARE:.0%} of the top rate".replace("%", " %"), _latencies(run)),
        ("A miss", _misses(run)),
        ("Under strain", _strain(run)),
        ("Many keys", many_keys(run)),
        ("Two workers", _workers(run)),
        ("No result", _problems(run)),
        ("Measured on", _machine(run)),
        ("How each was set up", _setups(run)),
    ]
    return [(heading, lines) for heading, lines in parts if lines]


def _goals(run: Run) -> list[str]:
    rows = [
        [
            verdict.goal.text
            if len(verdict.goal.rivals) == 1
            else f"{verdict.goal.text} ({_title(run, verdict.rival)})",
            f"{verdict.goal.at_least:.3g}",
            range_of(verdict.ratio, ".2f"),
            "met" if verdict.is_met else "not met",
        ]
        for verdict in run.verdicts
    ]
    for store, found in run.misses.items():
        each = ratio([miss.miss for miss in found], [miss.bare for miss in found])
        met = "met" if each.median <= MISS_AT_MOST else "not met"
        rows.append(
            [f"a bare call of the {store} driver, by a miss", f"at most {MISS_AT_MOST:g}", range_of(each, ".2f"), met]
        )
    rows += _strained_goals(run)
    rows += goals_of_many(run)
    if not rows:
        return []
    lines = table(["Gatekey's forward door, times", "Goal", "Measured", ""], rows)
    told = {verdict.goal.text for verdict in run.verdicts}
    missing = [goal.text for goal in GOALS if goal.text not in told]
    if missing and run.complete:
        lines += ["", f"Nothing can be said about: {', '.join(missing)}."]
    return lines


def _strained_goals(run: Run) -> list[list[str]]:
    rows = []
    for scene, found in run.strained.items():
        if scene == "pages":
            continue  # one process does both: a figure for the docs, no goal
        if scene == "slow-store":  # elsewhere rates are not compared, or the load shares its core with somebody
            rate = ratio([one.strained_rate for one in found], [one.calm_rate for one in found])
            met = "met" if rate.median >= STRAINED_RATE_AT_LEAST else "not met"
            rows.append(
                [f"the rate in calm, with a {scene}", f"{STRAINED_RATE_AT_LEAST:g}", range_of(rate, ".2f"), met]
            )
        late = ratio([one.strained_p99 for one in found], [one.calm_p99 for one in found])
        met = "met" if late.median <= STRAINED_P99_AT_MOST else "not met"
        rows.append(
            [f"the p99 in calm, with a {scene}", f"at most {STRAINED_P99_AT_MOST:g}", range_of(late, ".2f"), met]
        )
    return rows


def _title(run: Run, name: str) -> str:
    return next(each.title for each in run.contenders if each.name == name)


def _measured_here(run: Run) -> list[Contender]:
    return [each for each in run.results if not each.name.startswith("workers-")]


def _rates(run: Run) -> list[str]:
    rows = []
    limited = False
    for each in _measured_here(run):
        measured = run.measured[each.name]
        at_limit = max(turn.generator_busy for turn in measured.turns) >= _BUSY
        limited = limited or at_limit
        rows.append(
            [
                each.title,
                ("≥ " if at_limit else "") + range_of(spread(turn.rate for turn in measured.turns), ",.0f"),
                range_of(spread(turn.cpu_microseconds for turn in measured.turns), ",.0f"),
                _memory(measured, "proportional"),
                _memory(measured, "resident"),
                f"{spread(turn.log_lines for turn in measured.turns).median:.2f}",
            ]
        )
    if not rows:
        return []
    heads = ["", "Requests a second", "CPU us a request", "Memory (PSS), MiB", "(RSS), MiB", "Log lines a request"]
    count = f"{run.rounds} round{'' if run.rounds == 1 else 's'} of {run.seconds:g} s"
    load = f"wrk with {run.connections} connections (one caller: with one)"
    notes = ["", f"{load}; {count}, median and in brackets smallest and largest. {_ON_RATES}"]
    if limited:
        notes.append("≥: the load generator's core was full, so the contender may be faster.")
    return table(heads, rows) + notes


def _memory(measured: Measured, kind: str) -> str:
    return " + ".join(f"{getattr(one, kind) / _MIB:.0f}" for one in measured.turns[-1].memory)


def _latencies(run: Run) -> list[str]:
    rows = []
    late = False
    for each in run.results:
        found = run.measured[each.name].latencies
        if found:
            behind = any(one.late >= _LATE or one.busy >= _BUSY for one in found)
            late = late or behind
            figures = [[getattr(one, name) for one in found] for name in ("p50", "p99", "p999", "slowest")]
            cells = [range_of(spread(values), ".2f") for values in figures]
            rate = spread(one.rate for one in found).median
            rows.append([each.title + (" *" if behind else ""), f"{rate:,.0f}", *cells])
    if not rows:
        return []
    notes = [
        "",
        "Milliseconds under a constant rate, counted from when each request was due, so that waiting is counted.",
    ]
    if late:
        notes.append(
            f"\\*: the generator itself was over {_LATE:g} ms late (p99) or at its limit; latencies are too high by that."
        )
    return table(["ms", "Requests a second", "p50", "p99", "p99.9", "Slowest"], rows) + notes


def _misses(run: Run) -> list[str]:
    rows = []
    for store, found in run.misses.items():
        names = ("hit", "miss", "miss_p99", "bare", "bare_p99")
        cells = [range_of(spread(getattr(one, name) for one in found), ".3f") for name in names]
        rows.append([store, *cells])
    if not rows:
        return []
    notes = ["", _ON_MISSES]
    return table(["ms", "Hit", "Miss", "p99", "Bare driver call", "p99"], rows) + notes


def _strain(run: Run) -> list[str]:
    rows = []
    for scene, found in run.strained.items():
        rates = [
            range_of(spread(values), ",.0f") if all(values) else "-"
            for values in ([one.calm_rate for one in found], [one.strained_rate for one in found])
        ]
        late = [
            range_of(spread(values), ",.2f")
            for values in ([one.calm_p99 for one in found], [one.strained_p99 for one in found])
        ]
        rows.append([scene, *rates, *late, range_of(spread(one.store_finds for one in found), ",.0f")])
    if not rows:
        return []
    heads = ["Cached keys", "Requests a second in calm", "strained", "p99 in calm, ms", "strained", "Look-ups a second"]
    return [*table(heads, rows), "", _ON_STRAIN]


def _workers(run: Run) -> list[str]:
    found = [each for each in run.results if each.name.startswith("workers-")]
    if not found:
        return []
    rows = []
    for each in found:
        turns = run.measured[each.name].turns
        rate = range_of(spread(turn.rate for turn in turns), ",.0f") if run.two_cores_to_serve else "-"
        rows.append([each.title, rate, range_of(spread(turn.cpu_microseconds for turn in turns), ",.0f")])
    lines = table(["", "Requests a second", "CPU us a request"], rows)
    if run.two_cores_to_serve:
        return lines
    return [*lines, "", _ON_WORKERS]


def _problems(run: Run) -> list[str]:
    failed = [f"- {name}: failed. {problem}" for name, problem in run.problems.items()]
    return failed + [f"- {name}: skipped: {lack}" for name, lack in run.skipped.items()]


def _machine(run: Run) -> list[str]:
    machine = run.machine
    ours = ", ".join(f"{name} {version}" for name, version in machine.ours.items())
    theirs = ", ".join(f"{name} {version}" for name, version in machine.theirs.items())
    hardware = f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.system}"
    busy = f"load average before the run {machine.load_before:g}" + (", so not a quiet machine" * machine.was_busy)
    return [
        f"{machine.measured}: {hardware}; {busy}. A server with one worker has one core, the load generator another.",
        "",
        f"- Gatekey and the harness: {ours}",
        *([f"- The others: {theirs}"] if theirs else []),
    ]


def _setups(run: Run) -> list[str]:
    return [f"- **{each.title}** (`ONLY={each.name}`): {each.setup}" for each in run.contenders]
