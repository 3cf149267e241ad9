"""Folded stacks, as py-spy's raw format has them: ``outer (file:line);inner (file:line) count`` on each line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

__all__ = ["Function", "by_function", "parse"]

_LINE_NUMBER: Final = re.compile(r":\d+\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """Samples in the function itself, and in it with all that it called."""

    name: str
    own: int
    total: int


def parse(text: str) -> list[tuple[list[str], int]]:
    """Stacks, outermost first, and how often each was seen."""
    found = []
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdecimal():
            found.append((stack.split(";"), int(count)))
    return found


def by_function(stacks: list[tuple[list[str], int]]) -> list[Function]:
    """Most own samples first. A function is its name and file, whichever of its lines was seen; recursion counts once."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, count in stacks:
        names = [_LINE_NUMBER.sub(")", frame) for frame in stack]
        own[names[-1]] += count
        for name in set(names):
            total[name] += count
    functions = [Function(name=name, own=own[name], total=total[name]) for name in total]
    return sorted(functions, key=lambda each: (-each.own, -each.total, each.name))
