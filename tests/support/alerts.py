"""The rules for Prometheus that the project ships and promtool's tests of them, read as data; and promtool itself."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for one call here

if TYPE_CHECKING:
    from collections.abc import Iterable

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
RULE_FILES = sorted((DASHBOARDS / "rules").glob("*.yml"))
TEST_FILES = sorted((DASHBOARDS / "tests").glob("*.yml"))
RUNBOOKS = DASHBOARDS.parent / "docs" / "runbooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; ``name`` is its alert's or recording's."""

    file: Path
    group: str
    name: str
    is_alert: bool
    expr: str
    wait: str = ""
    """How long it must hold ("for")."""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Any:
    """A YAML file as data."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def rules() -> tuple[Rule, ...]:
    """All rules in the order of files and groups."""
    return tuple(
        Rule(
            file=path,
            group=group["name"],
            name=rule.get("alert") or rule["record"],
            is_alert="alert" in rule,
            expr=rule["expr"],
            wait=rule.get("for", ""),
            labels=rule.get("labels", {}),
            annotations=rule.get("annotations", {}),
        )
        for path in RULE_FILES
        for group in read(path)["groups"]
        for rule in group["rules"]
    )


def alerts() -> tuple[Rule, ...]:
    """The rules that alert; one name may stand there several times, with labels of its own each."""
    return tuple(rule for rule in rules() if rule.is_alert)


def alert_names() -> list[str]:
    """Each name once."""
    return list(dict.fromkeys(rule.name for rule in alerts()))


def missing() -> str:
    """What this machine lacks, ``""`` for nothing."""
    return "" if shutil.which("promtool") else "needs promtool (Debian: apt install prometheus)"


def promtool(*arguments: str | Path, stdin: str | None = None, timeout: float = 100) -> tuple[int, str]:
    """Exit status and all that it printed."""
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    return done.returncode, done.stdout + done.stderr


def ids(paths: Iterable[Path]) -> list[str]:
    """Names for parametrized tests."""
    return [path.stem for path in paths]
