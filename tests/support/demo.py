"""A running ``make demo`` on free ports in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from demo.programs import Programs
from demo.state import read
from tests.support import leaks
from tests.support.processes import children
from tests.support.proxies import Reply, send
from tests.support.servers import DEADLINE, ROOT, Process, clean_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Demo", "command", "missing", "need_demo", "new_folder", "running_demo"]

DEMO_SECRET = "demo-secret"
_PAGE = 90.0  # seconds; all commands of a page
_START = 90.0  # seconds; a dozen programs on a busy machine


def missing() -> str:
    """What this machine lacks, ``""`` for nothing."""
    found = Programs.find()
    if isinstance(found, tuple):
        return "; ".join(found)
    return "" if found.alertmanager else "install Debian's prometheus-alertmanager"


def need_demo(*, require_all: bool) -> None:
    """Skip the test (or fail it, with ``--require-all``) where a program is missing."""
    if lacking := missing():
        (pytest.fail if require_all else pytest.skip)(lacking)


def command(*words: str) -> list[str]:
    """``python -m demo …``."""
    return [sys.executable, "-m", "demo", *words]


class Demo(Process):
    """``addresses`` are those it prints."""

    printed_secrets = (DEMO_SECRET,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(command("--folder", str(folder), "--free-ports", "--json"), env=clean_environment(), cwd=ROOT)
        self.addresses: dict[str, str] = {}

    def wait_ready(self) -> None:
        """Return once it has told where everything is."""
        wait_until(lambda: self._told() or self.returncode is not None, "the demo is ready", deadline=_START)
        assert self.returncode is None, self.lines
        self.addresses = json.loads(self._told()[0])
        for line in (self.folder / "secrets/keys/keys.jsonl").read_text().splitlines():
            if (secret := json.loads(line)["secret_token"]) != DEMO_SECRET:
                leaks.register(secret)

    def _told(self) -> list[str]:
        return [line for line in self.lines if line.startswith("{")]

    def ask(self, site: str = "site", *, api_key: str = "", secret: str = "") -> Reply:
        """What the proxy answers."""
        headers = [("X-Api-Key", api_key), ("X-Secret-Token", secret)] if api_key else []
        address = urlsplit(self.addresses[site])
        return send(f"http://{address.netloc}", address.path, host=address.netloc, headers=headers)

    def page(self, name: str, path: str) -> str:
        """What one of the parts shows at a path."""
        with urllib.request.urlopen(self.addresses[name] + path, timeout=DEADLINE) as answer:  # noqa: S310 - our own server
            return str(answer.read(), "utf-8")

    def prometheus(self, path: str) -> Any:
        """The data of an answer."""
        return json.loads(self.page("prometheus", f"/api/v1/{path}"))["data"]

    def fault(self, name: str, seconds: float) -> Process:
        """Begin one; it ends by itself."""
        words = command("--folder", str(self.folder), "fault", name, "--seconds", str(seconds))
        return Process(words, env=clean_environment(), cwd=ROOT)

    def processes(self) -> list[int]:
        """All of them, their children included."""
        parts = [pid for pid, _ in read(self.folder).processes.values()]
        return [self.pid, *parts, *(child for pid in parts for child in children(pid))]

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run by bash as somebody would who has pointed it at the demo (``eval "$(python -m demo env)"``)."""
        return self._run(["/bin/bash", "-c", f"{self._environment}\n{script}"])

    @cached_property
    def _environment(self) -> str:
        return self._run(command("--folder", str(self.folder), "env")).stdout

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=_PAGE,
            check=False,
        )


@contextmanager
def new_folder() -> Iterator[Path]:
    """Not there yet, in one that everybody may enter, as pytest's are not: root's Postgres runs as nobody."""
    with tempfile.TemporaryDirectory(prefix="gatekey-demo-") as within:
        Path(within).chmod(0o711)
        yield Path(within, "demo")


@contextmanager
def running_demo() -> Iterator[Demo]:
    """Ready; at the end its exit status must be 0."""
    with new_folder() as folder:
        demo = Demo(folder)
        try:
            demo.wait_ready()
            yield demo
        finally:
            code = demo.stop(deadline=60)
    assert code == 0, demo.lines
