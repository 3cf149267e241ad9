"""Memory, CPU time and open files, from a made-up and from the real ``/proc``."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from service.observe.process import ProcessCollector, started_at

if TYPE_CHECKING:
    from pathlib import Path


def figures(collector: ProcessCollector) -> dict[str, float]:
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}


def add_process(proc: Path, pid: int, *, command: str, ticks: int, pages: int, files: int, began: int = 0) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    for number in range(files):
        (folder / "fd" / str(number)).touch()
    user, system = ticks - 1, 1
    (folder / "stat").write_text(f"{pid} ({command}) S 1 1 1 0 -1 0 0 0 0 0 {user} {system} 0 0 20 0 1 0 {began}\n")
    (folder / "statm").write_text(f"9999 {pages} 1 1 0 1 0\n")


def test_figures_are_summed_over_all_workers(tmp_path: Path) -> None:
    """A worker that is gone counts nothing; a command name with brackets and spaces confuses nobody."""
    hertz = os.sysconf("SC_CLK_TCK")
    add_process(tmp_path, 11, command="gatekey) S (x", ticks=100, pages=10, files=3, began=30 * hertz)
    add_process(tmp_path, 12, command="gatekey", ticks=50, pages=5, files=4, began=20 * hertz)
    (tmp_path / "stat").write_text("cpu  1 2 3\nbtime 1000\nprocesses 9\n")
    found = figures(ProcessCollector(lambda: [11, 12, 13], proc=tmp_path))
    assert found == {
        "gatekey_process_cpu_seconds_total": 150 / os.sysconf("SC_CLK_TCK"),
        "gatekey_process_resident_memory_bytes": 15 * os.sysconf("SC_PAGE_SIZE"),
        "gatekey_process_open_fds": 7,
        "gatekey_process_start_time_seconds": 1020,
    }


def test_without_proc_only_what_is_known_is_shown(tmp_path: Path) -> None:
    """On a system without ``/proc`` no figure is made up."""
    found = figures(ProcessCollector(proc=tmp_path / "missing"))
    assert set(found) == {"gatekey_process_cpu_seconds_total"}
    assert found["gatekey_process_cpu_seconds_total"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_this_process_has_memory_time_and_files() -> None:
    """By default the figures are this process's own."""
    found = figures(ProcessCollector())
    assert found["gatekey_process_resident_memory_bytes"] > 1_000_000
    assert found["gatekey_process_open_fds"] >= 3
    assert found["gatekey_process_cpu_seconds_total"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_this_process_began_before_now_and_after_its_parent() -> None:
    """In Unix time, as Prometheus compares it with its own; the system counts both in hundredths of a second."""
    mine, parents = started_at(os.getpid()), started_at(os.getppid())
    assert mine is not None
    assert parents is not None
    assert parents <= mine <= time.time() + 1


def test_a_stepped_clock_begins_no_process_anew(tmp_path: Path) -> None:
    """The system then tells another time at which the machine began, and a restart would be drawn where none was."""
    add_process(tmp_path, 11, command="gatekey", ticks=1, pages=1, files=1)
    for boot in (1000, 2000):
        (tmp_path / "stat").write_text(f"btime {boot}\n")
        assert started_at(11, proc=tmp_path) == 1000


def test_a_start_that_the_system_does_not_tell_is_none(tmp_path: Path) -> None:
    """No process, or no time at which the machine began."""
    assert started_at(11, proc=tmp_path) is None
    add_process(tmp_path, 11, command="gatekey", ticks=1, pages=1, files=1)
    (tmp_path / "stat").write_text("cpu  1 2 3\n")
    assert started_at(11, proc=tmp_path) is None
