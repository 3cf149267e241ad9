"""Memory, CPU time, open files and the start of processes, read at each scrape.

Each figure is left out where the system does not tell it (no ``/proc``); none is ever made up.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

__all__ = ["START_TIME", "ProcessCollector", "started_at"]

START_TIME: Final = "gatekey_process_start_time_seconds"

_PROC: Final = Path("/proc")
_UTIME: Final = 11  # index of utime after the command's closing bracket in /proc/<pid>/stat, stime follows (proc(5))
_STARTTIME: Final = 19  # likewise, in ticks since the machine's start


class ProcessCollector(Collector):
    """``gatekey_process_*``, summed over the processes that ``pids`` names (by default this one)."""

    def __init__(self, pids: Callable[[], Iterable[int]] | None = None, *, proc: Path = _PROC) -> None:
        self._pids = pids or (lambda: (os.getpid(),))
        self._proc = proc

    def collect(self) -> Iterable[Metric]:
        """Yield the four families, those of them that can be read."""
        figures = [figure for pid in self._pids() if (figure := self._read(pid)) is not None]
        if not figures:
            times = os.times()
            figures_of_cpu = [times.user + times.system]
        else:
            figures_of_cpu = [cpu for cpu, _, _ in figures]
        yield CounterMetricFamily(
            "gatekey_process_cpu_seconds", "CPU time used, user and system.", value=sum(figures_of_cpu)
        )
        if figures:
            yield GaugeMetricFamily(
                "gatekey_process_resident_memory_bytes",
                "Memory in use. Good: flat.",
                value=sum(memory for _, memory, _ in figures),
            )
            yield GaugeMetricFamily(
                "gatekey_process_open_fds",
                "Open files and sockets. Good: flat.",
                value=sum(files for _, _, files in figures),
            )
        starts = [start for pid in self._pids() if (start := started_at(pid, proc=self._proc)) is not None]
        if starts:
            yield GaugeMetricFamily(
                START_TIME,
                "When the service began, or its only worker (Unix time). Good: changes when you restart it, and only then.",
                value=min(starts),
            )

    def _read(self, pid: int) -> tuple[float, int, int] | None:
        """CPU seconds, bytes of memory and open files; ``None`` for a process that is gone."""
        folder = self._proc / str(pid)
        try:
            fields = _fields(folder)
            pages = int((folder / "statm").read_text(encoding="ascii").split()[1])
            files = len(os.listdir(folder / "fd"))  # noqa: PTH208 - names only, and no Path object for each
        except OSError:
            return None
        ticks = int(fields[_UTIME]) + int(fields[_UTIME + 1])
        return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"), files


def started_at(pid: int, *, proc: Path = _PROC) -> float | None:
    """When a process began (Unix time); ``None`` for one that is gone, or where the system does not tell."""
    try:
        ticks = int(_fields(proc / str(pid))[_STARTTIME])
        boot = _booted_at(proc)
    except OSError:
        return None
    return None if boot is None else boot + ticks / os.sysconf("SC_CLK_TCK")


@lru_cache
def _booted_at(proc: Path) -> int | None:
    """As it was first told: it moves with every step of the wall clock, and a process does not begin again then."""
    lines = (proc / "stat").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)


def _fields(folder: Path) -> list[str]:
    """Of ``/proc/<pid>/stat``, those after the command, which may hold anything."""
    return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
