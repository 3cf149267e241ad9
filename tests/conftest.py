"""Options and settings of the whole suite."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-all",
        action="store_true",
        default=bool(os.environ.get("CI")),
        help="fail where a program or server that a test needs is missing, instead of skipping (on when CI is set)",
    )


@pytest.fixture(scope="session")
def require_all(request: pytest.FixtureRequest) -> bool:
    """Whether a missing program fails instead of being skipped."""
    return bool(request.config.getoption("--require-all"))
