"""What the kernel says about processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.bench import procfs
from benchmarks.bench.cores import Cores, split
from benchmarks.bench.machine import cpu_model

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", ["python", "a b", "x) S 1 (y", ""])
def test_a_stat_line_is_read_whatever_the_program_is_called(name: str) -> None:
    """Names may hold blanks and brackets."""
    line = f"42 ({name}) S 7 1 1 0 -1 4194304 1 2 3 4 {3 * TICKS} {TICKS} 0 0 20 0 1 0 5 6 7\n"
    assert procfs.parse_stat(line) == procfs.Stat(parent=7, user=3.0, system=1.0)


def test_memory_is_read_in_bytes() -> None:
    """PSS and RSS, not the other lines that look like them."""
    text = "5581-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 2048 kB\nPss: 1024 kB\nPss_Dirty: 1 kB\nPss_Anon: 2 kB\n"
    assert procfs.parse_memory(text) == procfs.Memory(proportional=2**20, resident=2 * 2**20)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_children_of_children_belong_to_a_process() -> None:
    """All of them are counted, and one that has ended is no error."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        found = procfs.descendants(process.pid)
        process.communicate(b"\n")
    assert found[0] == process.pid
    assert len(found) == 2
    assert procfs.cpu_seconds(found) == 0
    assert procfs.memory(found) == []


@pytest.mark.parametrize(
    ("available", "serving", "loading"),
    [({0, 1}, {0}, {1}), ({2, 5, 7}, {2, 5}, {7}), (set(range(8)), {0, 1}, set(range(2, 8)))],
)
def test_servers_and_load_share_no_core(available: set[int], serving: set[int], loading: set[int]) -> None:
    """Two serve only where the load still has one of its own."""
    assert split(available) == Cores(serving=frozenset(serving), loading=frozenset(loading))


def test_one_core_is_not_enough() -> None:
    """It says so instead of measuring how the two fight."""
    with pytest.raises(ValueError, match="two CPU cores"):
        split({0})


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [("processor : 0\nmodel name\t: Some  CPU @ 2GHz\nmodel : 1\n", "Some CPU @ 2GHz"), ("Model : Pi 5\n", "Pi 5")],
)
def test_the_processor_is_named(cpuinfo: str, expected: str) -> None:
    """As the kernel names it."""
    assert cpu_model(cpuinfo) == expected
