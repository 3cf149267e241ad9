"""``make_app()`` for WSGI servers: the application with the keys of the file that ``GATEKEY_TEST_KEYS`` names."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from service import create_app
from service.auth.keyfile import read_key_lines
from service.settings import load_settings

if TYPE_CHECKING:
    from flask import Flask


def make_app() -> Flask:
    settings = load_settings()
    with Path(os.environ["GATEKEY_TEST_KEYS"]).open("rb") as lines:
        seed = read_key_lines(lines, peppers=settings.make_peppers(), now=datetime.now(UTC))
    return create_app(settings, seed=seed)
