"""The one key that every contender knows, or where a contender writes down the key that it has to make up itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["API_KEY", "DOMAIN", "IMPORT_FILE", "KEY_FILE", "PEPPER", "SECRET", "write_key"]

API_KEY: Final = "bench-orders"
SECRET: Final = "a-secret-for-measurements-8d1f6a"  # noqa: S105 - of a key that lives for seconds on this machine
DOMAIN: Final = "api.example.com"
PEPPER: Final = "a pepper for measurements of 32 bytes or more"
IMPORT_FILE: Final = "BENCH_IMPORT_FILE"
"""The environment variable that names Gatekey's import file, for the application with Gatekey's decorator."""
KEY_FILE: Final = "BENCH_KEY_FILE"
"""Likewise the file in which a contender that makes up its key writes it down."""


def write_key(key: str) -> None:
    """For the load generator to send; readers never see half of it."""
    path = Path(os.environ[KEY_FILE])
    path.with_suffix(".new").write_text(key, encoding="utf-8")
    path.with_suffix(".new").replace(path)
