"""The folder of a running demo: whose it is, where its parts are, and what a demo that was killed has left.

One folder is one demo. It is made and removed by the process that runs it; commands beside it only read, and believe no
folder that somebody else could have filled: they signal what stands in it, and a shell evaluates it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from demo.parts import Failure, signal_family, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.parts import Part

__all__ = ["State", "claim", "default_folder", "read", "ready", "runs"]

_GONE_WITHIN = 20.0  # seconds


@dataclass(slots=True, kw_only=True)
class State:
    """``processes`` are name -> process id and when it was started, so that a number used anew is nobody's."""

    pid: int
    started: str
    addresses: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    processes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep it, in one step."""
        new = folder / "state.new"
        new.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        new.replace(folder / "state.json")

    def note(self, parts: Iterable[Part]) -> None:
        """These run now."""
        self.processes = {part.name: (part.pid, _start_of(part.pid)) for part in parts}


def default_folder() -> Path:
    """One for each user, so that a command beside the demo finds it."""
    return Path(tempfile.gettempdir(), f"gatekey-demo-{os.getuid()}")


def claim(folder: Path) -> State:
    """Make the folder ours; what a killed demo left in it is ended and removed first."""
    state = State(pid=os.getpid(), started=_start_of(os.getpid()))
    try:
        folder.mkdir(mode=0o711)  # root's Postgres runs as nobody and must get through
    except FileExistsError:
        _clear(folder)
        folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    state.write(folder)
    return state


def _clear(folder: Path) -> None:
    _demand_own(folder)
    try:
        old = read(folder)
    except Failure:
        if any(folder.iterdir()):
            raise Failure(f"{folder} is there and holds no demo; remove it, or choose another with --folder") from None
    else:
        if runs(old.pid, old.started):
            raise Failure(f"a demo runs already (process {old.pid}); its addresses: python -m demo env")
        _end(list(old.processes.values()))
    shutil.rmtree(folder)


def _demand_own(folder: Path) -> None:
    """Fails unless it is this user's, who alone may write to it: its usual name can be foreseen by others."""
    found = folder.lstat()
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or shared:
        raise Failure(f"{folder} is not a folder of this user's alone; choose another with --folder")


def _end(processes: list[tuple[int, str]]) -> None:
    """Those that still run; by force where they take too long."""
    for signum in (signal.SIGINT, signal.SIGKILL):  # to Postgres the first is "end now", to all others simply "end"
        left = [(pid, started) for pid, started in processes if runs(pid, started)]
        for pid, _ in left:
            signal_family(pid, signal.SIGCONT)
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signum)
        if wait_for(lambda: not any(runs(pid, started) for pid, started in processes), _GONE_WITHIN):
            return


def read(folder: Path) -> State:
    """What the demo of this folder has written down."""
    try:
        _demand_own(folder)
        found = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        processes = {name: (int(pid), str(started)) for name, (pid, started) in found.pop("processes").items()}
        return State(**found, processes=processes)
    except (OSError, ValueError, KeyError, TypeError):
        raise _none_runs(folder) from None


def ready(folder: Path) -> State:
    """Likewise, of one that runs and has told its addresses already."""
    state = read(folder)
    if not runs(state.pid, state.started):
        raise _none_runs(folder)
    if not state.addresses:
        raise Failure("the demo is still starting")
    return state


def _none_runs(folder: Path) -> Failure:
    return Failure(f"no demo runs in {folder}; start one: make demo")


def runs(pid: int, started: str) -> bool:
    """Whether this process is there, and not another one by now that has got its number."""
    return bool(started) and _start_of(pid) == started


def _start_of(pid: int) -> str:
    """When the process was started; empty where it is gone."""
    if not Path("/proc/self/stat").exists():  # macOS
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
