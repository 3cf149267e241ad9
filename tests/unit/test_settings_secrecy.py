"""Whatever stands in a setting, in a variable or in the file: it is a value or a problem, and no problem repeats it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.settings import SECRETS, SETTINGS, SettingsError, load_settings
from tests.support import leaks

CANARY = "canary-q7x2v"
NAMES = [*SETTINGS, *(f"{name}_file" for name in SECRETS)]
leaks.register(CANARY)


def said(environ: dict[str, str]) -> str:
    """All that loading says; nothing but ``SettingsError`` may come of it."""
    try:
        return repr(load_settings(environ).notes)
    except SettingsError as error:
        return f"{error!r} {error} {error.problems}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "around", ["{}", "https://{}:x@/", "1:{}", " {}\n", "10.0.0.0/{}", "{},{}", "tcp://{}", "\udcff{}"]
)
def test_no_problem_repeats_a_value(name: str, around: str) -> None:
    """Every setting, given something with a secret in it, keeps quiet about it."""
    leaks.check(said({f"GATEKEY_{name.upper()}": around.replace("{}", CANARY)}), "a problem of the settings")


@given(st.sampled_from(NAMES), st.text(max_size=30), st.text(max_size=30))
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_text_in_a_variable_is_repeated_or_raises_anything_else(name: str, before: str, after: str) -> None:
    """The same for any text around the secret."""
    leaks.check(said({f"GATEKEY_{name.upper()}": before + CANARY + after}), "a problem of the settings")


_SCALARS = st.one_of(
    st.text(max_size=20).map(lambda text: text + CANARY), st.integers(-(10**12), 10**12), st.booleans()
)
_VALUES = st.one_of(
    _SCALARS, st.lists(_SCALARS, max_size=3), st.floats(width=16, allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(st.sampled_from(NAMES), _VALUES, max_size=4))
@hypothesis_settings(max_examples=200, deadline=None)
def test_no_value_in_the_file_is_repeated_or_raises_anything_else(document: dict[str, Any]) -> None:
    """The same for values of every TOML type."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gatekey.toml")
        path.write_text(
            "".join(f"{name} = {json.dumps(value)}\n" for name, value in document.items()), encoding="utf-8"
        )
        leaks.check(said({"GATEKEY_CONFIG": str(path)}), "a problem of the settings")


def test_no_name_in_a_broken_file_is_repeated(tmp_path: Path) -> None:
    """The parser's own text about a table that stands twice names it."""
    path = tmp_path / "broken.toml"
    path.write_text(f"[{CANARY}]\n[{CANARY}]\n", encoding="utf-8")
    text = said({"GATEKEY_CONFIG": str(path)})
    leaks.check(text, "a problem of the file")
    assert "not valid TOML (at line 2" in text


@given(st.binary(max_size=60).map(lambda data: data + CANARY.encode()))
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_piece_of_a_broken_file_is_repeated(data: bytes) -> None:
    """Neither the configuration file's own text nor that of a file with a secret."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "broken")
        path.write_bytes(data)
        leaks.check(said({"GATEKEY_CONFIG": str(path)}), "a problem of the file")
        leaks.check(said({"GATEKEY_PEPPERS_FILE": str(path)}), "a problem of a file with a secret")
