"""What Prometheus' own tool says of the page of a running service."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import alerts
from tests.support.app import PEPPER, SECRET_KEY
from tests.support.processes import KEY, at_door, get, serving
from tests.support.servers import key_line

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def promtool(require_all: bool) -> str:  # noqa: FBT001 - a fixture
    """The program."""
    if alerts.missing():
        (pytest.fail if require_all else pytest.skip)(alerts.missing())
    return str(shutil.which("promtool"))


def lint(promtool: str, page: bytes) -> tuple[int, bytes]:
    """The exit status of ``promtool check metrics``, and what it says."""
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_the_page_of_a_running_service_has_no_fault(promtool: str, workers: int, tmp_path: Path) -> None:
    """Names, units, types and help texts; one worker renders by the client library, several by our own merging."""
    keys = tmp_path / "keys.jsonl"
    keys.write_bytes(key_line("key-one"))
    settings = {
        "GATEKEY_WORKERS": str(workers),
        "GATEKEY_STORE_URL": f"sqlite:///{tmp_path}/keys.db",
        "GATEKEY_PEPPER": PEPPER,
        "GATEKEY_SECRET_KEY": SECRET_KEY,
    }
    with serving("--import", str(keys), env=settings) as server:
        assert at_door(server.port, KEY).status == 200
        page = get(server.port, "/metrics").body
    assert b"gatekey_decisions_total" in page
    assert lint(promtool, page) == (0, b"")


def test_a_fault_would_be_told(promtool: str) -> None:
    """A guard for the test above: a counter without a text, whose name does not say that it is one."""
    assert lint(promtool, b"# TYPE gatekey_things counter\ngatekey_things 1\n")[0] != 0
