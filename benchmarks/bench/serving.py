"""A contender at work: its processes on its cores, its output read as a log collector would, ended by its process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.bench import procfs
from benchmarks.bench.contender import Place, Request
from benchmarks.bench.cores import pinned
from benchmarks.bench.errors import BadRun
from benchmarks.bench.wire import request_bytes, response_end, status_of
from tests.support.servers import ROOT, clean_environment, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.bench.contender import Contender, Launch

__all__ = ["Running", "ask", "serve"]

_STARTED: Final = 60.0  # seconds
_ENDED: Final = 15.0  # seconds
_KEPT: Final = 20
"""Lines of its output that are kept for the reader of a failure."""


class Running:
    """``lines`` counts what it wrote, ``processes`` are its own and those it made."""

    def __init__(self, launch: Launch, cores: frozenset[int], *, batch: bool) -> None:
        environment = {**clean_environment(), **launch.environment}
        with pinned(cores, batch=batch):
            self._process = subprocess.Popen(  # noqa: S603 - a contender's own command
                launch.command,
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C ends the harness, which then ends this
            )
        self.lines = 0
        self._last: deque[bytes] = deque(maxlen=_KEPT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """In pieces and not in lines, so that a log of 20,000 lines a second costs the load's core next to nothing."""
        output = self._process.stdout
        if output is None:
            raise RuntimeError("the output of a contender is a pipe")
        while piece := os.read(output.fileno(), 1 << 16):
            self.lines += piece.count(b"\n")
            self._last.append(piece[-500:])
        output.close()

    @property
    def processes(self) -> list[int]:
        """Their ids, the first one being the command itself."""
        return procfs.descendants(self._process.pid)

    @property
    def has_ended(self) -> bool:
        """By itself, which none should."""
        return self._process.poll() is not None

    @property
    def output(self) -> str:
        """The end of what it wrote."""
        return b"".join(self._last).decode("utf-8", "backslashreplace").strip()

    def stop(self) -> None:
        """By SIGTERM, and whatever is left of its group after that by force."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_ENDED)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(_ENDED)


@contextmanager
def serve(contender: Contender, cores: frozenset[int]) -> Iterator[tuple[Running, int, Request]]:
    """The contender, its port, and the request to send; it has let the key pass and refused a wrong secret.

    Raises ``BadRun`` where it does not start, or answers otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
        place = Place(port=free_port(), folder=Path(folder))
        try:
            running = Running(contender.launch(place), cores, batch=contender.batch)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BadRun(f"it could not be started: {error}") from error
        try:
            key = _wait_ready(running, contender, place)
            for request in (contender.request, contender.refused):
                status = ask(place.port, request.with_key(key))
                if status != request.expected:
                    raise BadRun(f"the answer is {status} where {request.expected} was expected")
            yield running, place.port, contender.request.with_key(key)
        finally:
            running.stop()


def _wait_ready(running: Running, contender: Contender, place: Place) -> str:
    """Until it accepts connections and has written down its key, which is returned."""
    until = time.monotonic() + _STARTED
    while time.monotonic() < until:
        if running.has_ended:
            raise BadRun(f"it ended at its start: {running.output[-500:]}")
        with suppress(OSError, ValueError):
            ask(place.port, contender.request)
            return place.key_file.read_text(encoding="utf-8") if contender.makes_key else ""
        time.sleep(0.05)
    raise BadRun(f"it did not answer within {_STARTED:g} s: {running.output[-500:]}")


def ask(port: int, request: Request) -> int:
    """The status of one answer; raises ``OSError`` or ``ValueError`` where none comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request_bytes(request, port=port))
        got = b""
        while response_end(got) is None:
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError("the connection was closed before the answer was complete")
            got += piece
    return status_of(got)
