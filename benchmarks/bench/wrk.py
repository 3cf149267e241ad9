"""Top rate: wrk with a script that looks at the status of every response; one wrong answer and there is no figure."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.bench.errors import BadRun

if TYPE_CHECKING:
    from benchmarks.bench.contender import Request

__all__ = ["CONNECTIONS", "Load", "missing", "read_output", "run", "version"]

CONNECTIONS: Final = 32
_SCRIPT: Final = Path(__file__).with_name("count.lua")
_ERRORS: Final = ("connect", "read", "write", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """``busy`` is the share of its core that wrk itself used: near 1 it was the limit, and not the contender.

    ``p99`` is milliseconds of a closed loop: it compares loads of one kind, and says nothing of how long clients wait.
    """

    requests: int
    seconds: float
    busy: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def missing() -> str:
    """What is to be installed, empty where wrk is there."""
    return "" if shutil.which("wrk") else "needs wrk (Debian: apt install wrk)"


def version() -> str:
    """As wrk tells it."""
    done = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)  # noqa: S607 - from the PATH
    words = (done.stdout + done.stderr).split()
    return words[1] if len(words) > 1 else "unknown"


def run(port: int, request: Request, *, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Keep so many ``connections`` busy; raises ``BadRun`` where an answer was not the expected one or did not come."""
    headers = [word for name, value in request.headers.items() for word in ("-H", f"{name}: {value}")]
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(_SCRIPT)]
    command = ["wrk", *options, *headers, f"http://127.0.0.1:{port}{request.path}", "--", str(request.expected)]
    before = _used_by_children()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own request
    used = _used_by_children() - before
    if done.returncode:
        raise BadRun(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")
    return read_output(done.stdout, expected=request.expected, used=used)


def read_output(output: str, *, expected: int, used: float) -> Load:
    """What the script printed; ``used`` is CPU time. Raises ``BadRun`` as ``run`` does."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if len(lines) != 1:
        raise BadRun(f"wrk printed no result: {output.strip()[-200:]}")
    found = orjson.loads(lines[0])
    problems = [f"{found[name]} {name} errors" for name in _ERRORS if found[name]]
    if found["wrong"]:
        total = found["right"] + found["wrong"]
        problems.append(f"{found['wrong']} of {total} answers were not {expected} (one was {found['first_wrong']})")
    if found["right"] == 0:
        problems.append("no answer came")
    if problems:
        raise BadRun("; ".join(problems))
    seconds = found["microseconds"] / 1e6
    return Load(requests=found["right"], seconds=seconds, busy=used / seconds, p99=found["p99"] / 1e3)


def _used_by_children() -> float:
    times = os.times()
    return times.children_user + times.children_system
