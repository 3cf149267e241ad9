"""Rules broken in every way that a hurried change could break them, one fault each."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support.alerts import RULE_FILES, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TURNED: Final = {">": "<", "<": ">", "<=": ">", ">=": "<", "==": "!="}
_COMPARISON: Final = re.compile(r"(?<=[\s)])(<=|>=|==|<|>)(?=\s)")
_THRESHOLD: Final = re.compile(r"(?<=[<>=] )(\d+(?:\.\d+)?)")
_FACTOR: Final = re.compile(r"(?<= [*/] )(\d+(?:\.\d+)?)|(?<=[<>=] )(\d+(?:\.\d+)?)(?= \*)")
_MATCHER: Final = re.compile(r'\b(\w+)(=~|!=|=)("[^"]*")')
_JOINED: Final = re.compile(r"^(?:and|unless)(?: on \(\w+\))?\s", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A file of rules with one rule changed; ``name`` says which and how, ``rule`` is what stood there, ``broken`` what does."""

    name: str
    file: Path
    rule: dict[str, Any]
    broken: dict[str, Any]
    content: dict[str, Any]


def mutants() -> Iterator[Mutant]:
    """All of them, always in the same order."""
    for path in RULE_FILES:
        content = read(path)
        for group_number, group in enumerate(content["groups"]):
            for rule_number, rule in enumerate(group["rules"]):
                for number, (what, broken) in enumerate(_broken(rule)):
                    changed = copy.deepcopy(content)
                    changed["groups"][group_number]["rules"][rule_number] = broken
                    title = rule.get("alert") or rule["record"]
                    name = f"{path.stem}-{group_number}.{rule_number}-{title}-{number}-{what}"
                    name = re.sub(r"[^\w.-]+", "_", name)
                    yield Mutant(name=name, file=path, rule=rule, broken=broken, content=changed)


def _broken(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    expressions = list(_expressions(rule["expr"]))
    if not expressions and "record" in rule:
        expressions = [("twice", f"2 * {rule['expr']}")]
    for what, expr in expressions:
        yield what, {**rule, "expr": expr}
    if "alert" not in rule:
        return
    if wait := rule.get("for"):
        number, unit = int(wait[:-1]), wait[-1]
        yield "waits twice as long", {**rule, "for": f"{2 * number}{unit}"}
        yield "does not wait", {key: value for key, value in rule.items() if key != "for"}
    elif rule["expr"] != "vector(1)":
        yield "waits", {**rule, "for": "5m"}
    if "keep_firing_for" in rule:
        yield "ends at once", {key: value for key, value in rule.items() if key != "keep_firing_for"}


def _expressions(expr: str) -> Iterator[tuple[str, str]]:
    for match in _COMPARISON.finditer(expr):
        yield f"turned {match.start()}", _with(expr, match, _TURNED[match[1]])
    for pattern in (_THRESHOLD, _FACTOR):
        for match in pattern.finditer(expr):
            number = float(match[0])
            for other in (number * 2, number / 2) if number else (1.0,):
                yield f"{match[0]} is {other:g} at {match.start()}", _with(expr, match, f"{other:g}")
    for matcher in dict.fromkeys(match[0] for match in _MATCHER.finditer(expr)):
        label = re.split("[=!]", matcher)[0]  # everywhere at once: what is compared has the same labels on both sides
        yield f"any {matcher}", expr.replace(matcher, f'{label}=~".*"')
    yield from _arms(expr)


def _arms(expr: str) -> Iterator[tuple[str, str]]:
    """What is joined by ``and`` or ``unless`` at the beginning of a line, with one part less."""
    starts = [0, *(match.start() for match in _JOINED.finditer(expr))]
    if len(starts) == 1:
        return
    parts = [expr[start:end] for start, end in zip(starts, [*starts[1:], len(expr)], strict=True)]
    for number in range(len(parts)):
        kept = [part for index, part in enumerate(parts) if index != number]
        if number == 0 and parts[1].startswith("unless"):
            continue
        kept[0] = _JOINED.sub("", kept[0])
        yield f"without part {number}", "".join(kept)


def _with(expr: str, match: re.Match[str], text: str) -> str:
    return expr[: match.start()] + text + expr[match.end() :]
