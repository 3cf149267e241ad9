"""Where nothing may be skipped, a skipped test fails, whatever skipped it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import DEADLINE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

SKIPS = {
    "inside the test": "def test_it(): pytest.skip('because')",
    "by a mark": "@pytest.mark.skipif(True, reason='because')\ndef test_it(): pass",
    "by a fixture": "@pytest.fixture\ndef gone(): pytest.skip('because')\ndef test_it(gone): pass",
    "by a table without rows": "@pytest.mark.parametrize('row', [])\ndef test_it(row): pass",
}


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS)
def test_a_skip_fails_only_where_all_is_required(tmp_path: Path, source: str) -> None:
    """At home it skips; with ``--require-all``, or CI set, it fails and says what was skipped."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_small.py").write_text(f"import pytest\n{source}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:valkey -p no:cacheprovider\n")
    for extra, status in (({}, 0), ({"CI": "true"}, 1)):
        environ = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", str(tmp_path)],
            cwd=tmp_path,
            env={**environ, **extra, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert ("nothing may be skipped" in done.stdout) is bool(status)
