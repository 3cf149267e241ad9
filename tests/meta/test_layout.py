"""What stands where in the repository, and what stands nowhere in it."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import service

ROOT = Path(__file__).parents[2]
IGNORED = [".git", *(ROOT / ".gitignore").read_text(encoding="utf-8").split()]
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("py" + "pi", "org"),
        ("python" + "hosted", "org"),
        ("npm" + "js", "org"),
        ("npm" + "js", "com"),
        ("docker", "io"),
        ("docker", "com"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("crates", "io"),
        ("golang", "org"),
    )
)
OPTION = "index" + "-url"
SOMEBODYS_MACHINE = re.compile(r"(?<![\w.])/(?:home|Users)/(?!nonexistent)\w|(?<![\w.])/(?:root|work|workspace|mnt)/\w")


def _files(folder: Path = ROOT) -> list[Path]:
    found = []
    for path in sorted(folder.iterdir()):
        if any(fnmatch(path.name, pattern.rstrip("/")) for pattern in IGNORED):
            continue
        found += _files(path) if path.is_dir() else [path]
    return found


FILES = _files()


def texts() -> list[tuple[str, str]]:
    """Name and text of every file that is text."""
    found = []
    for path in FILES:
        data = path.read_bytes()
        if b"\0" not in data:
            found.append((str(path.relative_to(ROOT)), data.decode("utf-8")))
    return found


@pytest.mark.parametrize(
    "name",
    ["service", "backends", "dashboards", "demo", "tests", "deploy/proxies", "deploy/demo", "docs", "requirements",
     "Dockerfile", "compose.yaml", "Makefile", "pyproject.toml", "README.md", "DESIGN.md", "CHANGELOG.md",
     "gatekey.example.toml", ".ci/run"],
)  # fmt: skip
def test_what_people_look_for_is_there(name: str) -> None:
    """At the top of the repository, under the usual name, with something in it."""
    path = ROOT / name
    assert path.exists()
    assert not path.is_dir() or any(file.is_relative_to(path) for file in FILES)


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is each machine's own configuration."""
    for name, text in texts():
        assert not any(registry in text for registry in REGISTRIES), name
        assert OPTION not in text.replace("emit-" + OPTION, ""), name


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    """A checkout works wherever it lies."""
    for name, text in texts():
        assert not SOMEBODYS_MACHINE.search(text), name


def test_every_requirement_is_pinned_with_hashes() -> None:
    """What is installed today is what was tested."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8").strip())
        for entry in (entry for entry in entries if not entry.startswith("#")):
            assert re.match(r"[A-Za-z0-9._-]+(?:\[[a-z0-9,_-]+\])?==\S+", entry), f"{lock.name}: {entry[:60]}"
            assert "--hash=sha256:" in entry, f"{lock.name}: {entry[:60]}"


def test_the_version_is_the_same_everywhere() -> None:
    """In the package, its metadata and the changelog."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert metadata["project"]["version"] == service.__version__
    assert service.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_console_command_is_installed_as_gatekey() -> None:
    """``gatekey`` and ``python -m service`` are the same function."""
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="gatekey")
    assert script.value == "service.__main__:main"
    assert callable(script.load())
