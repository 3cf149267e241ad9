"""What the operator reads: a line for each probe and one at the end, or one JSON document."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from service.doctor.verdicts import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.doctor.run import Finding

__all__ = ["as_json", "line", "summary"]


def line(finding: Finding) -> str:
    """One line: the result, the name, what was seen, and after a failure what to do."""
    hint = f"; {finding.hint}" if finding.hint else ""
    return f"{finding.result} {finding.name}: {finding.seen}{hint}"


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    counts = Counter(finding.result for finding in findings)
    return f"{counts[Result.PASS]} passed, {counts[Result.FAIL]} failed, {counts[Result.SKIP]} skipped"


def as_json(url: str, findings: Sequence[Finding]) -> str:
    """The whole report as a document."""
    counts = Counter(finding.result for finding in findings)
    document = {
        "url": url,
        "passed": counts[Result.PASS],
        "failed": counts[Result.FAIL],
        "skipped": counts[Result.SKIP],
        "probes": [
            {
                "name": finding.name,
                "result": str(finding.result),
                "seen": finding.seen,
                **({"hint": finding.hint} if finding.hint else {}),
            }
            for finding in findings
        ],
    }
    return json.dumps(document, indent=2)
