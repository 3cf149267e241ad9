"""What the Dockerfile promises, as far as its text can show it."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT

Instruction = tuple[str, str]


def instructions() -> list[list[Instruction]]:
    """The instructions of each stage."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    stages: list[list[Instruction]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, " ".join(rest.split())))
    return stages


def values(stage: list[Instruction], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


BUILD, FINAL = instructions()


def test_everything_is_installed_from_the_lock_with_hashes() -> None:
    """Each requirements file is installed with ``--require-hashes`` and without building; the package without dependencies."""
    installs = re.findall(r"pip install ([^&]*)", " ".join(values(BUILD, "RUN")))
    assert installs
    for install in installs:
        if "-r " in install:
            assert "--require-hashes" in install
            assert "--only-binary :all:" in install
        else:
            assert "--no-deps --no-build-isolation" in install


def test_the_final_stage_holds_no_build_tool() -> None:
    """Pip and setuptools are removed from the environment, pip and ensurepip from Python itself; nothing is installed."""
    assert "pip uninstall --yes --quiet setuptools pip" in values(BUILD, "RUN")[-1]
    (run,) = values(FINAL, "RUN")
    assert "pip uninstall" in run
    assert "ensurepip" in run
    assert not re.search(r"\b(install|apt|apt-get|curl|wget|gcc)\b", run)
    assert values(FINAL, "COPY") == ["--from=build /opt/gatekey /opt/gatekey"]


def test_both_stages_stand_on_the_same_image() -> None:
    """The environment's Python is the one of the final stage."""
    assert values(BUILD, "FROM")[0].split()[0] == values(FINAL, "FROM")[0]


def test_the_service_runs_as_nobody_special() -> None:
    """The last user is a number that is not root's, so that orchestrators can tell; nothing is copied after it."""
    assert values(FINAL, "USER") == ["65532:65532"]
    words = [word for word, _ in FINAL]
    assert words.index("USER") > max(words.index("COPY"), words.index("RUN"))


def test_nothing_needs_to_be_written() -> None:
    """Python writes no byte code, and no volume is asked for."""
    environment = " ".join(values(FINAL, "ENV"))
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert "compileall" in values(BUILD, "RUN")[-1]
    assert not values(FINAL, "VOLUME")


def test_signals_reach_the_service() -> None:
    """The exec form has no shell in between, and the stop signal is the one that drains."""
    assert json.loads(values(FINAL, "ENTRYPOINT")[0]) == ["gatekey"]
    assert json.loads(values(FINAL, "CMD")[0]) == ["serve"]
    assert values(FINAL, "STOPSIGNAL") == ["SIGTERM"]


def test_the_health_check_exists() -> None:
    """It runs a module of the package."""
    (check,) = values(FINAL, "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[:2] == ["python", "-m"]
    assert importlib.util.find_spec(command[2]) is not None


def test_no_secret_is_baked_in() -> None:
    """No instruction sets one of the secret settings."""
    for stage in (BUILD, FINAL):
        text = " ".join(rest for word, rest in stage if word in ("ENV", "ARG"))
        assert not re.search(r"GATEKEY_(STORE|PEPPER|SECRET)", text)


def test_every_path_that_is_copied_exists_and_is_in_the_build_context() -> None:
    """``.dockerignore`` lets through what the build needs."""
    sources = [path for copy in values(BUILD, "COPY") for path in copy.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert in_context(source), source


@pytest.mark.parametrize("path", [".git", ".venv", "tests", "gatekey.toml", ".env", "requirements/dev.txt", "deploy"])
def test_nothing_else_gets_into_the_build_context(path: str) -> None:
    """Neither secrets of a working copy nor what the image does not need."""
    assert not in_context(path)


def in_context(path: str) -> bool:
    """Docker's rule for paths without wildcards inside: the last pattern that matches decides."""
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and (pattern == path or fnmatch.fnmatch(path, pattern)):
            included = line.startswith("!")
    return included


def test_hadolint_finds_nothing(require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """The linter of Dockerfiles is content."""
    beside = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        if require_all:
            pytest.fail("the program hadolint is missing")
        pytest.skip("the program hadolint is missing")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
