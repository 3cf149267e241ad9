"""What Prometheus' own tool says of the page of a running service."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.support import alerts
from tests.support.processes import DEMO, at_door, get, serving


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
def test_the_page_of_a_running_service_has_no_fault(promtool: str, workers: int, tmp_path: object) -> None:
    """Names, units, types and help texts; one worker renders by the client library, several by our own merging."""
    with serving(
        "--demo", env={"GATEKEY_WORKERS": str(workers), "GATEKEY_STORE_URL": f"sqlite:///{tmp_path}/k"}
    ) as server:
        assert at_door(server.port, DEMO).status == 200
        page = get(server.port, "/metrics").body
    assert b"gatekey_decisions_total" in page
    assert lint(promtool, page) == (0, b"")


def test_a_fault_would_be_told(promtool: str) -> None:
    """A guard for the test above: a counter without a text, whose name does not say that it is one."""
    assert lint(promtool, b"# TYPE gatekey_things counter\ngatekey_things 1\n")[0] != 0
