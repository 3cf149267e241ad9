"""Memory, CPU time and open files of the process, read at each scrape; left out where there is no /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

__all__ = ["ProcessCollector"]


class ProcessCollector(Collector):
    """``gatekey_process_*`` of this process."""

    def collect(self) -> Iterable[Metric]:
        """The three families, or none of them."""
        times = os.times()
        yield CounterMetricFamily(
            "gatekey_process_cpu_seconds", "CPU time used, user and system.", value=times.user + times.system
        )
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only, and no Path object for each
        except OSError:
            return
        yield GaugeMetricFamily(
            "gatekey_process_resident_memory_bytes", "Memory in use.", value=pages * os.sysconf("SC_PAGE_SIZE")
        )
        yield GaugeMetricFamily("gatekey_process_open_fds", "Open files and sockets.", value=files)
