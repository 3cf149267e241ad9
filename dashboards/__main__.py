"""Writes the dashboards' JSON beside this file; a test compares, so commit both."""

from __future__ import annotations

from pathlib import Path

from dashboards import files

for name, text in files():
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")
