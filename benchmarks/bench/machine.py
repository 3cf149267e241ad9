"""What the figures were measured on: the machine, and the version of everything that had a part in them."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.bench import wrk
from benchmarks.bench.launches import RIVALS_BIN, nginx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.bench.contender import Contender

__all__ = ["Machine", "cpu_model", "describe"]

_OURS: Final = ("gatekey", "granian", "flask", "uvloop", "orjson", "prometheus-client", "asyncpg", "redis")
_BUSY: Final = 0.5
_ASK: Final = """
import importlib.metadata, json, platform, sys
print(json.dumps({"Python": platform.python_version(), **{name: importlib.metadata.version(name) for name in sys.argv[1:]}}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """``ours`` and ``theirs`` are names and versions."""

    processor: str
    cores: int
    memory_gib: int
    system: str
    measured: str
    load_before: float
    """How busy the machine was before the run (processes that wanted to run, on average): near 0 on a quiet one."""
    ours: dict[str, str]
    theirs: dict[str, str]

    @property
    def was_busy(self) -> bool:
        """Whether something else took so much of it that the figures say little."""
        return self.load_before > _BUSY


def describe(contenders: Iterable[Contender]) -> Machine:
    """This machine now; programs that are missing are not named."""
    names = {name for contender in contenders for name in contender.versions}
    theirs = _rivals(sorted(names - {"nginx"}))
    if "nginx" in names:
        theirs["nginx"] = _nginx_version()
    return Machine(
        processor=cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        measured=f"{datetime.now(UTC):%Y-%m-%d}",
        load_before=round(os.getloadavg()[0], 2),
        ours={"Python": platform.python_version(), **{name: version(name) for name in _OURS}, "wrk": wrk.version()},
        theirs=theirs,
    )


def cpu_model(cpuinfo: str) -> str:
    """From ``/proc/cpuinfo``, which names the processor differently on each architecture."""
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.machine()


def _rivals(names: list[str]) -> dict[str, str]:
    python = RIVALS_BIN / "python"
    if not names or not python.exists():
        return {}
    done = subprocess.run([str(python), "-c", _ASK, *names], capture_output=True, text=True, check=True)  # noqa: S603 - our own script
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _nginx_version() -> str:
    program = nginx()
    if program is None:
        return "missing"
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)  # noqa: S603 - as found
    return done.stderr.strip().rpartition("/")[2] or "unknown"
