"""No store escapes the contract suite: neither one that is new, nor one that is left out of a test."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.support.servers import ROOT, clean_environment
from tests.support.stores import KINDS, WRAPPERS, contract_params, network_params

if TYPE_CHECKING:
    from pathlib import Path

NETWORK_ONLY = ("test_store_faults.py", "test_store_races.py")
"""A store without a network has none that could fail; every other store must be in these."""

UNTESTED = "escaped"


def run_suite(plugins: Path, *arguments: str) -> str:
    """What pytest prints for the contract suite in an installation with a store that this checkout does not know."""
    plugins.joinpath("newstore.py").write_text("def from_url(url): raise RuntimeError\n", encoding="utf-8")
    metadata = plugins / "newstore-1.0.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: newstore\nVersion: 1.0\n", encoding="utf-8")
    metadata.joinpath("entry_points.txt").write_text(
        f"[gatekey.stores]\n{UNTESTED} = newstore:from_url\n", encoding="utf-8"
    )
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{ROOT}:{plugins}"
    tests = [str(path) for path in sorted((ROOT / "tests/contract").glob("test_store_*.py"))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-cov", "--require-all", *arguments, *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.stdout


def test_every_test_runs_with_every_store(tmp_path: Path) -> None:
    """The number of tests with a store is that of the tests times that of the stores, a new one included."""
    output = run_suite(tmp_path, "--collect-only", "-q")
    stores, networked = {*contract_params(), UNTESTED}, {*network_params(), UNTESTED}
    found: dict[str, list[str]] = defaultdict(list)
    for name, params in re.findall(r"^(\S+::\w+)\[(.+)\]$", output, re.MULTILINE):
        for store in sorted(stores, key=len, reverse=True):
            if params == store or params.startswith(f"{store}-"):
                found[f"{name}[{params[len(store) :]}]"].append(store)
                break
        else:
            raise AssertionError(f"{name} does not begin with its store")
    assert len(found) > 500
    for name, names in found.items():
        expected = networked if any(f"/{file}::" in name for file in NETWORK_ONLY) else stores
        assert sorted(names) == sorted(expected), name
    with_store = sum(len(names) for names in found.values())
    collected = re.search(r"^(\d+) tests? collected", output, re.MULTILINE)
    assert collected is not None
    without_store = len(re.findall(r"^\S+::\w+$", output, re.MULTILINE))
    assert int(collected[1]) == with_store + without_store
    assert without_store <= 2, "a test of the suite runs without a store"


def test_a_new_store_that_nobody_entered_fails(tmp_path: Path) -> None:
    """It is installed, so it is tested; and it cannot be skipped away."""
    output = run_suite(tmp_path, "-q", "-x", "-k", f"test_what_was_added and {UNTESTED}")
    assert f"the store for {UNTESTED}:// is not entered in KINDS" in output
    assert re.search(r"^1 error|, 1 error", output, re.MULTILINE), output


def test_a_store_on_the_network_has_its_faults_tested() -> None:
    """Through a proxy that refuses, cuts and stalls."""
    assert {scheme for scheme, kind in KINDS.items() if kind.network} == {*network_params()}
    for file in NETWORK_ONLY:
        assert "network_kind" in (ROOT / "tests/contract" / file).read_text(encoding="utf-8")


def test_every_scheme_of_the_product_is_entered() -> None:
    """And nothing else."""
    assert {*KINDS} == {"memory", "postgresql", "redis", "rediss", "sqlite"}
    assert {*contract_params()} == {*KINDS, *WRAPPERS}
