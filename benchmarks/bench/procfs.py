"""CPU time and memory of a process and all its descendants, as the kernel counts them (Linux)."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Memory", "Stat", "cpu_by_thread", "cpu_seconds", "descendants", "memory", "parse_memory", "parse_stat"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """CPU time in seconds: the program's own, and the kernel's for it."""

    parent: int
    user: float
    system: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """In bytes. ``proportional`` (PSS) counts a page that n processes share as an n-th."""

    proportional: int
    resident: int


def parse_stat(text: str) -> Stat:
    """A ``/proc/<pid>/stat``, or that of a thread."""
    fields = text.rpartition(")")[2].split()  # the name before may hold blanks and brackets
    return Stat(parent=int(fields[1]), user=int(fields[11]) / _TICKS, system=int(fields[12]) / _TICKS)


def parse_memory(text: str) -> Memory:
    """A ``/proc/<pid>/smaps_rollup``."""
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines()[1:]}
    return Memory(proportional=values["Pss"], resident=values["Rss"])


def descendants(pid: int) -> list[int]:
    """The process itself and all below it, oldest first."""
    parents: dict[int, int] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # it has ended meanwhile
                parents[int(folder.name)] = parse_stat((folder / "stat").read_text()).parent
    found = [pid]
    for one in found:
        found += sorted(child for child, parent in parents.items() if parent == one)
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Of all of them together; one that has ended counts nothing."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            found = parse_stat((_PROC / str(pid) / "stat").read_text())
            total += found.user + found.system
    return total


def cpu_by_thread(pid: int) -> dict[str, Stat]:
    """Of the threads of one process, the oldest first, which is the main one."""
    threads = sorted(int(folder.name) for folder in (_PROC / str(pid) / "task").iterdir())
    found = {}
    for number, thread in enumerate(threads):
        folder = _PROC / str(pid) / "task" / str(thread)
        with suppress(OSError):  # it has ended meanwhile
            name = f"{(folder / 'comm').read_text().strip()} {number or 'main'}"
            found[name] = parse_stat((folder / "stat").read_text())
    return found


def memory(pids: list[int]) -> list[Memory]:
    """Of each that still runs."""
    found = []
    for pid in pids:
        with suppress(OSError, IndexError, KeyError):  # it has ended meanwhile
            found.append(parse_memory((_PROC / str(pid) / "smaps_rollup").read_text()))
    return found
