"""Running the probes, one after the other, each on connections of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.doctor.probe import unmet_need
from service.doctor.probes import PROBES
from service.doctor.verdicts import Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.doctor.probe import Probe, Send
    from service.doctor.site import Situation

__all__ = ["Finding", "examine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A probe's result in words; ``hint`` is empty unless it failed."""

    name: str
    result: Result
    seen: str
    hint: str = ""


def examine(situation: Situation, send: Send, probes: Sequence[Probe] = PROBES) -> Iterator[Finding]:
    """A finding for every probe, each made when it is asked for."""
    for probe in probes:
        verdict = unmet_need(probe, situation) or probe.check(situation, send)
        hint = (verdict.advice or probe.hint) if verdict.result is Result.FAIL else ""
        yield Finding(name=probe.name, result=verdict.result, seen=verdict.seen, hint=hint)
