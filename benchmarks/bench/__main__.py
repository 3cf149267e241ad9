"""``make bench``: measure, print, and keep. Exit status 1 where a contender failed, 2 where nothing could be measured."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.bench import files, many, misses, rounds, strain, wrk
from benchmarks.bench.contender import selected
from benchmarks.bench.cores import split
from benchmarks.bench.errors import BadRun
from benchmarks.bench.lineup import CONTENDERS
from benchmarks.bench.machine import describe
from benchmarks.bench.progress import say
from benchmarks.bench.report import sections
from benchmarks.bench.run import ENOUGH_ROUNDS, Run

if TYPE_CHECKING:
    from benchmarks.bench.cores import Cores
    from benchmarks.bench.many import Many
    from benchmarks.bench.misses import Miss
    from benchmarks.bench.strain import Strained

_HOME: Final = Path(__file__).parents[1]
_MISS: Final = "miss-"
_STRAIN: Final = "strain-"
_MANY: Final = "many-"
_NAMES: Final = [
    *CONTENDERS,
    *(f"{_MISS}{store}" for store in misses.STORES),
    *(f"{_STRAIN}{scene}" for scene in strain.SCENES),
    *(f"{_MANY}{scene}" for scene in many.SCENES),
]
_EXAMPLES: Final = """
examples:
  make bench                              everything, about half an hour; writes benchmarks/RESULTS.md
  make bench ONLY=keyshield               one contender alone
  make bench ONLY=gatekey-door,flask      one, and all whose name begins with flask-
  make bench ONLY=miss ROUNDS=3           what a miss costs on each store
  make bench ONLY=strain                  whether cached keys notice a slow store, or a flood of strangers
  make bench ONLY=many                    a million keys: a decision, memory, the start
  make bench ROUNDS=1 SECONDS=1 OUT=/tmp  does it work here? what it writes is put into /tmp
  make bench LIST=1                       the names
"""


def main() -> int:
    """The exit status."""
    options = _options()
    if options.list:
        print("\n".join(_NAMES))  # noqa: T201 - what was asked for
        return 0
    try:
        names = selected(_NAMES, ",".join(options.only))
        cores = _prepared()
    except (ValueError, BadRun) as error:
        print(f"make bench: {error}", file=sys.stderr)  # noqa: T201 - what the command is for
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        run = _measure(names, cores, number=options.rounds, seconds=options.seconds)
    except KeyboardInterrupt:
        say("make bench: interrupted; what was started is stopped, and nothing is kept", keep=True)
        return 130
    for heading, lines in sections(run):
        print("", heading, "", *lines, sep="\n")  # noqa: T201 - as above
    if options.out is not None or run.is_worth_keeping:
        files.write(run, options.out or _HOME)
    else:
        print(f"\nNot kept: RESULTS.md is for runs of everything with at least {ENOUGH_ROUNDS} rounds.")  # noqa: T201 - as above
    return 1 if run.problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Gatekey beside what people would use instead of it, in one run on one machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAMES", help="these, with commas between")
    parser.add_argument("--rounds", type=_whole, default=5, help="of everybody in turn (default 5)")
    parser.add_argument("--seconds", type=_whole, default=5, help="that each is measured in a round (default 5)")
    parser.add_argument("--out", type=Path, help="write RESULTS.md, its charts and results.json into this folder")
    parser.add_argument("--list", action="store_true", help="print the names of all contenders")
    return parser.parse_args()


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)


def _prepared() -> Cores:
    """The cores to use; this process and the load it makes stay off the server's. Raises ``BadRun`` for what is missing."""
    if not hasattr(os, "sched_getaffinity"):
        raise BadRun("needs Linux: processes are pinned to cores, and /proc tells what they use")
    if missing := wrk.missing():
        raise BadRun(missing)
    cores = split(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores.loading)
    return cores


def _measure(names: list[str], cores: Cores, *, number: int, seconds: int) -> Run:
    chosen = [CONTENDERS[name] for name in names if name in CONTENDERS]
    skipped = {name: lack for name in names if (lack := _missing(name))}
    for name, lack in skipped.items():
        say(f"{name} is skipped: {lack}", keep=True)
    present = [each for each in chosen if each.name not in skipped]
    machine = describe(present)
    if machine.was_busy:
        say(f"this machine is busy (load average {machine.load_before:g}): the figures will say little", keep=True)
    measured = rounds.measure(present, cores, rounds=number, seconds=seconds, report=say)
    missed: dict[str, list[Miss]] = {}
    strained: dict[str, list[Strained]] = {}
    of_many: dict[str, list[Many]] = {}
    failed: dict[str, str] = {}
    for name in (name for name in names if name not in CONTENDERS and name not in skipped):
        kind, _, rest = name.partition("-")
        try:
            if f"{kind}-" == _MISS:
                missed[rest] = asyncio.run(misses.measure(rest, cores, rounds=number, report=say))
            elif f"{kind}-" == _MANY:
                of_many[rest] = asyncio.run(many.measure(rest, cores, rounds=number, report=say))
            else:
                strained[rest] = asyncio.run(strain.measure(rest, cores, rounds=number, seconds=seconds, report=say))
        except BadRun as error:
            failed[name] = str(error)
    say("")
    return Run(
        machine=machine,
        rounds=number,
        seconds=seconds,
        connections=wrk.CONNECTIONS,
        two_cores_to_serve=cores.for_two_workers,
        complete=names == _NAMES,
        contenders=tuple(present),
        measured=measured,
        misses=missed,
        strained=strained,
        many=of_many,
        failed=failed,
        skipped=skipped,
    )


def _missing(name: str) -> str:
    """What this machine lacks to measure it."""
    if name in CONTENDERS:
        return CONTENDERS[name].missing()
    return misses.missing({f"{_STRAIN}slow-store": "redis"}.get(name, name.removeprefix(_MISS)))


if __name__ == "__main__":
    sys.exit(main())
