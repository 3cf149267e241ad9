"""Memory, CPU time and open files of processes, read at each scrape.

Each figure is left out where the system does not tell it (no ``/proc``); none is ever made up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

__all__ = ["ProcessCollector"]

_PROC: Final = Path("/proc")
_UTIME: Final = 11  # index of utime after the command's closing bracket in /proc/<pid>/stat, stime follows (proc(5))


class ProcessCollector(Collector):
    """``gatekey_process_*``, summed over the processes that ``pids`` names (by default this one)."""

    def __init__(self, pids: Callable[[], Iterable[int]] | None = None, *, proc: Path = _PROC) -> None:
        self._pids = pids or (lambda: (os.getpid(),))
        self._proc = proc

    def collect(self) -> Iterable[Metric]:
        """Yield the three families, those of them that can be read."""
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

    def _read(self, pid: int) -> tuple[float, int, int] | None:
        """CPU seconds, bytes of memory and open files; ``None`` for a process that is gone."""
        folder = self._proc / str(pid)
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            pages = int((folder / "statm").read_text(encoding="ascii").split()[1])
            files = len(os.listdir(folder / "fd"))  # noqa: PTH208 - names only, and no Path object for each
        except OSError:
            return None
        ticks = int(fields[_UTIME]) + int(fields[_UTIME + 1])
        return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"), files
