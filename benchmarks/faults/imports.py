"""How long ``gatekey keys import`` takes for 100,000 keys, from the start of the command to its end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.faults.fleet import environment, key_line
from tests.support.servers import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KEYS", "measure"]

KEYS: Final = 100_000


async def measure(url: str) -> float:
    """Seconds; raises ``CalledProcessError`` where the command fails."""
    environ = {**clean_environment(), **environment(url)}
    with tempfile.TemporaryDirectory(prefix="gatekey-import-") as folder:
        path = Path(folder, "keys.jsonl")
        await asyncio.to_thread(_write, path)
        await asyncio.to_thread(_gatekey, environ, "migrate")
        started = time.monotonic()
        await asyncio.to_thread(_gatekey, environ, "keys", "import", str(path))
        return time.monotonic() - started


def _write(path: Path) -> None:
    with path.open("wb") as file:
        for index in range(KEYS):
            file.write(key_line(f"import{index}", "import") + b"\n")


def _gatekey(environ: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "service", *arguments]
    subprocess.run(command, env=environ, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own command
