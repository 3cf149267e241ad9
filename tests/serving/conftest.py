"""Fixtures of the tests that start real servers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path, require_all: bool) -> Authority:  # noqa: FBT001 - a fixture
    openssl = shutil.which("openssl")
    if openssl is None:
        if require_all:
            pytest.fail("the program openssl is missing")
        pytest.skip("the program openssl is missing")
    return Authority(tmp_path, openssl)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket, empty again at the end."""
    short = tmp_path / "s"
    short.mkdir()
    yield short
    for path in short.iterdir():
        path.unlink()
