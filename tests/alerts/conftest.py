from __future__ import annotations

import pytest

from tests.support import alerts


@pytest.fixture
def promtool(require_all: bool) -> None:  # noqa: FBT001 - a fixture, not called
    """Without promtool the test is skipped, in CI it fails."""
    if lacking := alerts.missing():
        (pytest.fail if require_all else pytest.skip)(lacking)
