"""Each rule is broken in every way that a hurried change could, and some test of promtool's must notice it.

Too long for every run: ``make test-all`` has it.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.alerts import DASHBOARDS, RULE_FILES, TEST_FILES, promtool, read
from tests.support.mutants import Mutant, mutants

if TYPE_CHECKING:
    from pathlib import Path

MUTANTS = list(mutants())
OBJECTIVES = ("availability", "latency")


@pytest.mark.mutants
@pytest.mark.usefixtures("promtool")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_rule_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    """By the tests of its own file; those that name the alert first, since they are the most likely to fail."""
    (tmp_path / "rules").mkdir()
    for path in RULE_FILES:
        content = mutant.content if path == mutant.file else read(path)
        _write(tmp_path / "rules" / path.name, _needed(content, mutant))
    shutil.copytree(DASHBOARDS / "tests", tmp_path / "tests")
    for path in _likely(mutant):
        code, printed = promtool("test", "rules", tmp_path / "tests" / path.name)
        assert "parse error" not in printed, printed
        if code:
            return
    pytest.fail(f"nobody notices {json.dumps(mutant.name)}")


def test_every_rule_is_broken_in_some_way() -> None:
    """But for the one that is always true."""
    broken = {json.dumps(mutant.rule, sort_keys=True) for mutant in MUTANTS}
    all_rules = [rule for path in RULE_FILES for group in read(path)["groups"] for rule in group["rules"]]
    assert [
        rule for rule in all_rules if json.dumps(rule, sort_keys=True) not in broken and rule["expr"] != "vector(1)"
    ] == []


def _objective(rule: dict[str, Any]) -> str:
    """Which one the rule is about; ``""`` for both or none."""
    named = [name for name in OBJECTIVES if name in json.dumps(rule)]
    return named[0] if len(named) == 1 else ""


def _own_objective(mutant: Mutant) -> str:
    """The only one that can tell it; ``""`` also where the rule does not ask any more which one it looks at."""
    own = _objective(mutant.rule)
    return own if own in mutant.broken["expr"] or own not in mutant.rule["expr"] else ""


def _needed(content: dict[str, Any], mutant: Mutant) -> dict[str, Any]:
    """Without the rules of the other objective, which take half of the time."""
    own = _own_objective(mutant)
    if not own:
        return content
    kept = [
        {**group, "rules": [rule for rule in group["rules"] if _objective(rule) in ("", own)]}
        for group in content["groups"]
    ]
    return {"groups": kept}


def _likely(mutant: Mutant) -> list[Path]:
    own, name = _own_objective(mutant), str(mutant.rule.get("alert") or mutant.rule["record"])
    other = next((other for other in OBJECTIVES if own and other != own), "neither")
    files = [
        path
        for path in TEST_FILES
        if other not in path.stem and f"../rules/{mutant.file.name}" in read(path)["rule_files"]
    ]
    days = any(span in json.dumps(mutant.rule) for span in ("1d", "3d", "30d"))
    return sorted(files, key=lambda path: (name not in path.read_text(encoding="utf-8"), ("days" in path.stem) != days))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
