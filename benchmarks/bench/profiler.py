"""``make profile``: where a decision's time goes, sampled in the running service under load; a flame graph and two tables.

py-spy looks at the process from outside, so the service runs as it is. It samples the thread that holds the interpreter
lock, which is the time that Python takes; what the server's own threads take is in the table of threads. Sampling slows
the service down a little: the shares are to be trusted, the rate is not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.bench import procfs, wrk
from benchmarks.bench.cores import split
from benchmarks.bench.errors import BadRun
from benchmarks.bench.folded import by_function, parse
from benchmarks.bench.launches import RIVALS_BIN
from benchmarks.bench.lineup import CONTENDERS
from benchmarks.bench.serving import serve
from benchmarks.bench.table import table

if TYPE_CHECKING:
    from benchmarks.bench.contender import Contender, Request

_RATE: Final = 250  # samples a second
_NAMES: Final = [name for name, contender in CONTENDERS.items() if contender.kind != "limit"]
_EXAMPLES: Final = """
examples:
  make profile                                 the forward door, cached allow
  make profile ONLY=gatekey-denied-unknown     refusals
  make profile SECONDS=30 OUT=door.svg         longer, and the flame graph under that name
  make profile NATIVE=1                        with what C and Rust do while they hold the interpreter lock
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sampled:
    folded: str
    requests: float
    seconds: float
    threads: dict[str, tuple[float, float]]
    """CPU seconds of each, the program's own and the kernel's."""


def main() -> int:
    """Exit status 0, or 2 where nothing could be sampled."""
    options = _options()
    contender = CONTENDERS[options.only]
    out = options.out or Path(tempfile.gettempdir(), f"gatekey-profile-{contender.name}.svg")
    try:
        sampled = _sample(contender, seconds=options.seconds, native=options.native, out=out)
    except (BadRun, ValueError) as error:
        print(f"make profile: {error}", file=sys.stderr)  # noqa: T201 - what the command is for
        return 2
    print("\n".join(_report(sampled, top=options.top)))  # noqa: T201 - as above
    print(f"\nflame graph: {out}")  # noqa: T201 - as above
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make profile",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="gatekey-door", choices=_NAMES, metavar="NAME", help=", ".join(_NAMES))
    parser.add_argument("--seconds", type=int, default=10, help="for the tables, and again for the flame graph")
    parser.add_argument("--top", type=int, default=40, help="rows of the table (default 40)")
    parser.add_argument("--native", action="store_true", help="with the frames of C and Rust")
    parser.add_argument("--out", type=Path, help="where the flame graph goes")
    return parser.parse_args()


def _sample(contender: Contender, *, seconds: int, native: bool, out: Path) -> _Sampled:
    program = RIVALS_BIN / "py-spy"
    for lack in (wrk.missing(), "" if program.exists() else "needs py-spy (make setup-bench)", contender.missing()):
        if lack:
            raise BadRun(lack)
    cores = split(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores.loading)
    options = ["--gil", "--rate", str(_RATE), "--duration", str(seconds), *(["--native"] if native else [])]
    with serve(contender, cores.one) as (running, port, request), tempfile.TemporaryDirectory() as folder:
        before = {pid: procfs.cpu_seconds([pid]) for pid in running.processes}
        wrk.run(port, request, seconds=1)
        busiest = max(before, key=lambda pid: procfs.cpu_seconds([pid]) - before[pid])
        load = _Load(port, request, seconds=2 * seconds + 3)
        raw = Path(folder, "raw")
        started = procfs.cpu_by_thread(busiest)
        _record(program, busiest, "raw", raw, options)
        threads = {
            name: (used.user - started[name].user, used.system - started[name].system)
            for name, used in procfs.cpu_by_thread(busiest).items()
            if name in started
        }
        _record(program, busiest, "flamegraph", out, options)
        rate = load.finished().rate
        return _Sampled(folded=raw.read_text(), requests=rate * seconds, seconds=seconds, threads=threads)


class _Load:
    """wrk on a thread, while py-spy works."""

    def __init__(self, port: int, request: Request, *, seconds: int) -> None:
        self._found: wrk.Load | BadRun = BadRun("the load did not end")
        self._thread = threading.Thread(target=self._run, args=(port, request, seconds))
        self._thread.start()

    def _run(self, port: int, request: Request, seconds: int) -> None:
        try:
            self._found = wrk.run(port, request, seconds=seconds)
        except BadRun as error:
            self._found = error

    def finished(self) -> wrk.Load:
        """Raises ``BadRun`` as ``wrk.run`` does."""
        self._thread.join()
        if isinstance(self._found, BadRun):
            raise self._found
        return self._found


def _record(program: Path, pid: int, form: str, out: Path, options: list[str]) -> None:
    command = [str(program), "record", "--format", form, "--output", str(out), "--pid", str(pid), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own child's pid
    if done.returncode:
        raise BadRun(
            f"py-spy could not look into the process (it needs the right to trace it): {done.stderr.strip()[-300:]}"
        )


def _report(sampled: _Sampled, *, top: int) -> list[str]:
    functions = by_function(parse(sampled.folded))
    seen = sum(each.own for each in functions)
    if not seen:
        raise BadRun("py-spy saw no Python at work")

    def per_request(samples: float) -> str:
        return f"{samples / _RATE / sampled.requests * 1e6:.2f}"

    rows = [
        [each.name, per_request(each.own), f"{each.own / seen:.1%}", per_request(each.total)]
        for each in functions[:top]
    ]
    scale = 1e6 / sampled.requests
    used = sum(user + system for user, system in sampled.threads.values()) * scale
    threads = [
        [name, f"{user * scale:.1f}", f"{system * scale:.1f}"]
        for name, (user, system) in sampled.threads.items()
        if user + system
    ]
    rate = f"{sampled.requests / sampled.seconds:,.0f} requests a second while sampled, {used:.0f} us of CPU each"
    held = f"the interpreter lock was held in {seen / (_RATE * sampled.seconds):.0%} of the time"
    return [
        f"{rate}; {held}.",
        "",
        *table(["CPU time, us a request", "own code", "kernel"], threads),
        "",
        *table(["us a request, holding the interpreter lock", "itself", "share", "with what it calls"], rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
