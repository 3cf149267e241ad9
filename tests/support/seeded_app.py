"""``make_app()`` for WSGI servers: the application with the keys of the file that ``GATEKEY_TEST_KEYS`` names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from service import create_app

if TYPE_CHECKING:
    from flask import Flask


def make_app() -> Flask:
    return create_app(import_file=os.environ["GATEKEY_TEST_KEYS"])
