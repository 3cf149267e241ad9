"""One process of the stack: started with its output in a file, watched, and ended by its own process id."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Failure", "Part", "answers", "children", "run", "signal_family", "wait_for"]

_LOG_LIMIT: Final = 50_000_000  # bytes
_COMMAND: Final = 60.0  # seconds
_SHOWN: Final = 15  # last lines of the output of a part that fails


class Failure(Exception):
    """A part did not start, or ended; the text is for the user."""


@dataclass(slots=True, kw_only=True)
class Part:
    """``ready`` tells whether it does its work; ``patience`` is how long its end may take before it is killed."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    patience: float = 15.0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Of the process that is stopped at the end."""
        if self._process is None:
            raise Failure(f"{self.name} was not started")
        return self._process.pid

    def start(self) -> None:
        """Run it and return; ``wait_ready`` waits."""
        with self.log.open("ab") as output:  # for appending, so that the file may be emptied while it is written
            self._process = subprocess.Popen(
                list(self.command),
                env=dict(self.environ),
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for whoever watches it, and that ends the parts in order
            )

    def wait_ready(self, deadline: float, stopped: threading.Event) -> None:
        """Return when it does its work, or nobody wants it any more; fails with the last lines of its output."""

        def is_ready() -> bool:
            self.check()
            return stopped.is_set() or self.ready()

        if not wait_for(is_ready, deadline):
            raise Failure(f"{self.name} is not ready after {deadline:.0f} s:\n{self._last_lines()}")

    def check(self) -> None:
        """Fails when it has ended; keeps its output within bounds."""
        status = None if self._process is None else self._process.poll()
        if status is not None:
            raise Failure(f"{self.name} has ended by itself (exit status {status}):\n{self._last_lines()}")
        if self.log.stat().st_size > _LOG_LIMIT:
            os.truncate(self.log, 0)

    def stop(self) -> None:
        """End it, by force if it takes too long; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            signal_family(process.pid, signal.SIGCONT)  # a fault may have stopped it
            process.send_signal(self.stop_signal)
        try:
            process.wait(self.patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(self.patience)

    def _last_lines(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_SHOWN:])


def signal_family(pid: int, signum: signal.Signals) -> None:
    """Send it to the process and its children; who is gone is left out."""
    for each in (pid, *children(pid)):
        try:
            os.kill(each, signum)
        except ProcessLookupError:
            continue


def children(pid: int) -> list[int]:
    """The child processes, oldest first."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        if Path("/proc/self/stat").exists():
            return [int(child) for child in listing.read_text(encoding="ascii").split()]
    except OSError:
        return []
    command = ["ps", "-A", "-o", "pid=,ppid="]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pairs = (line.split() for line in done.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def run(name: str, command: Sequence[str], environ: Mapping[str, str], *, cwd: Path) -> None:
    """A command that ends by itself; fails with what it says on standard error."""
    done = subprocess.run(
        list(command),
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND,
        start_new_session=True,
    )
    if done.returncode:
        raise Failure(f"{name} ended with exit status {done.returncode}:\n{done.stderr.strip()}")


def wait_for(condition: Callable[[], bool], deadline: float) -> bool:
    """Whether the condition has become true within so many seconds."""
    until, pause = time.monotonic() + deadline, threading.Event()
    while not condition():
        if time.monotonic() > until:
            return False
        pause.wait(0.05)
    return True


def answers(url: str, *, host: str | None = None) -> bool:
    """Whether a GET is answered, with whatever status below 500."""
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})  # noqa: S310 - our own servers
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - likewise
            return bool(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500  # noqa: PLR2004 - where servers' own errors begin
    except OSError:
        return False
