"""`make` on a machine that lacks something: it names what is missing, and leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "sh", "grep", "sed", "awk", "make", "rm", "touch", "env")


@pytest.fixture
def tools(tmp_path: Path, require_all: bool) -> Path:  # noqa: FBT001 - a fixture, not called
    """A folder with the usual tools and no Python, to be the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found is None:
            (pytest.fail if require_all else pytest.skip)(f"needs {name}")
        (folder / name).symlink_to(found)
    return folder


def script(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text + "\n", encoding="utf-8")
    path.chmod(0o755)


def make(target: str, tools: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """``make <target>`` in this checkout, with a virtual environment elsewhere."""
    return subprocess.run(
        [str(tools / "make"), f"VENV={tmp_path / 'venv'}", target],
        cwd=ROOT,
        env={"PATH": str(tools), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("target", ["serve", "test"])
def test_without_python_it_says_so(target: str, tools: Path, tmp_path: Path) -> None:
    """And how to get it on Debian and macOS."""
    done = make(target, tools, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("missing: Python 3.11 or later (Debian: apt install python3 python3-venv; macOS: ")
    assert not (tmp_path / "venv").exists()


def test_an_old_python_counts_as_none(tools: Path, tmp_path: Path) -> None:
    """One that says it is older than 3.11."""
    script(tools / "python3", f'exec {sys.executable} -c "import sys; sys.version_info = (3, 10); $2" x')
    done = make("serve", tools, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("missing: Python 3.11 or later")


def test_a_python_without_venv_is_named(tools: Path, tmp_path: Path) -> None:
    """As Debian ships it: the module has a package of its own."""
    script(tools / "python3", f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    done = make("serve", tools, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("missing: the venv module of python3 (Debian: apt install python3-venv)")
    assert not (tmp_path / "venv").exists()


def test_a_failed_set_up_is_begun_again_and_not_taken_for_done(tools: Path, tmp_path: Path) -> None:
    """A virtual environment that cannot be made leaves no mark that it was."""
    script(tools / "python3", f'case "$*" in *-m*venv*) exit 3;; esac; exec {sys.executable} "$@"')
    done = make("serve", tools, tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("setting up ")
    assert not (tmp_path / "venv/.made").exists()


def test_an_environment_whose_python_is_gone_is_made_again(tools: Path, tmp_path: Path) -> None:
    """After an upgrade of Python the old environment points nowhere."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / ".made").touch()
    (venv / ".runtime").touch()
    (venv / "bin/python").symlink_to(tmp_path / "gone")
    done = make("serve", tools, tmp_path)
    assert done.stderr.startswith("missing: Python 3.11 or later")  # so it was about to be made


def test_make_alone_shows_the_targets(tools: Path, tmp_path: Path) -> None:
    """Each with a word about it, and nothing is installed."""
    done = make("help", tools, tmp_path)
    assert done.returncode == 0
    assert {"make serve", "make test", "make clean"} <= {
        " ".join(line.split()[:2]) for line in done.stdout.splitlines()
    }
    assert not (tmp_path / "venv").exists()
