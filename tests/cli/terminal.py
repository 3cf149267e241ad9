"""A command on a terminal: what a person sees, and types when asked."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.support import leaks
from tests.support.servers import DEADLINE, clean_environment

if TYPE_CHECKING:
    from tests.cli.commands import Commands


class Seen(NamedTuple):
    code: int
    screen: str
    """Everything that was written to the terminal, with what it echoed."""
    piped: str
    """What went to standard output, where that was a pipe."""


def on_terminal(gatekey: Commands, *arguments: str, asked: str = "", typed: str = "", pipe: bool = False) -> Seen:
    """Run the command; once ``asked`` is on the screen, type ``typed``. With ``pipe`` its output goes elsewhere."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        env={**clean_environment(), "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **gatekey.environ},
        cwd=gatekey.folder,
        stdin=slave,
        stdout=subprocess.PIPE if pipe else slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    written: dict[int, bytes] = {master: b""}
    if process.stdout is not None:
        written[process.stdout.fileno()] = b""
    waiting, pending, until = set(written), typed, time.monotonic() + DEADLINE
    try:
        while waiting and time.monotonic() < until:
            for descriptor in select.select(list(waiting), [], [], 0.5)[0]:
                data = _read(descriptor)
                written[descriptor] += data
                if not data:
                    waiting.remove(descriptor)
            if pending and asked in written[master].decode("utf-8", "replace"):
                os.write(master, pending.encode())
                pending = ""
        code = process.wait(DEADLINE)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        if process.stdout is not None:
            process.stdout.close()
    piped = b"".join(data for descriptor, data in written.items() if descriptor != master)
    seen = Seen(code, written[master].decode().replace("\r\n", "\n"), piped.decode())
    leaks.check(seen.screen, f"the terminal of {arguments}")
    return seen


def _read(descriptor: int) -> bytes:
    """What there is; nothing at the end, which a terminal tells by an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
