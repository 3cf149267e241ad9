"""The rounds: everybody once, then everybody again, each time started anew; then latencies at a rate that is known by then."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.bench import constant, procfs, wrk
from benchmarks.bench.errors import BadRun
from benchmarks.bench.openloop import Latency, Plan
from benchmarks.bench.serving import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.bench.contender import Contender
    from benchmarks.bench.cores import Cores
    from benchmarks.bench.procfs import Memory

__all__ = ["SHARE", "Measured", "Turn", "measure"]

SHARE: Final = 0.7
"""Of the top rate, for latencies."""

_WARM_UP: Final = 1.0  # seconds; wrk counts in whole ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One contender in one round. ``log_lines`` is for one request; ``memory`` has each of its processes."""

    rate: float
    requests: int
    cpu_microseconds: float
    generator_busy: float
    log_lines: float
    memory: list[Memory]


@dataclass(slots=True, kw_only=True)
class Measured:
    """``problem`` is why nothing of this contender counts, empty where all went well."""

    turns: list[Turn] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    problem: str = ""

    @property
    def counts(self) -> bool:
        """Whether it may be reported as a result."""
        return bool(self.turns) and not self.problem

    @property
    def top(self) -> float:
        """The median of the rates."""
        return median(turn.rate for turn in self.turns)


def measure(
    contenders: Sequence[Contender], cores: Cores, *, rounds: int, seconds: float, report: Callable[[str], None]
) -> dict[str, Measured]:
    """By name. A contender that once answered wrongly is left out of what follows."""
    found = {contender.name: Measured() for contender in contenders}

    def take(contender: Contender, what: str, turn: Callable[[], None]) -> None:
        if not found[contender.name].problem:
            report(f"{what}: {contender.title}")
            try:
                turn()
            except BadRun as error:
                found[contender.name].problem = f"{what}: {error}"

    for number in range(1, rounds + 1):
        for contender in contenders:
            turns = found[contender.name].turns
            take(
                contender,
                f"round {number}/{rounds}",
                lambda contender=contender, turns=turns: turns.append(_turn(contender, cores, seconds)),  # type: ignore[misc]  # the defaults bind the loop's names
            )
    for number in range(1, (rounds + 1) // 2 + 1):
        for contender in (each for each in contenders if each.latency):
            measured = found[contender.name]
            take(
                contender,
                f"latency {number}/{(rounds + 1) // 2}",
                lambda contender=contender, measured=measured: measured.latencies.append(  # type: ignore[misc]  # as above
                    _latency(contender, cores, seconds, SHARE * measured.top)
                ),
            )
    return found


def _turn(contender: Contender, cores: Cores, seconds: float) -> Turn:
    with serve(contender, cores.of(contender.workers)) as (running, port, request):
        wrk.run(port, request, seconds=_WARM_UP)
        pids = running.processes
        lines, used = running.lines, procfs.cpu_seconds(pids)
        load = wrk.run(port, request, seconds=seconds, connections=contender.connections)
        used = procfs.cpu_seconds(pids) - used
        lines = running.lines - lines
        if running.has_ended:
            raise BadRun(f"it ended under load: {running.output[-300:]}")
        return Turn(
            rate=load.rate,
            requests=load.requests,
            cpu_microseconds=used / load.requests * 1e6,
            generator_busy=load.busy,
            log_lines=lines / load.requests,
            memory=procfs.memory(pids),
        )


def _latency(contender: Contender, cores: Cores, seconds: float, rate: float) -> Latency:
    with serve(contender, cores.of(contender.workers)) as (_, port, request):
        wrk.run(port, request, seconds=_WARM_UP)
        plan = Plan(port=port, request=request, rate=rate, seconds=seconds, connections=wrk.CONNECTIONS)
        return constant.run(plan)
