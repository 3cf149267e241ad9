"""A probe: what it is called, what it needs, what to do when it fails, and how it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from service.doctor.messages import Ask
from service.doctor.verdicts import Seen, Verdict, skipped

if TYPE_CHECKING:
    from service.doctor.site import Situation

__all__ = ["Need", "Probe", "Send", "unmet_need"]

Send = Callable[[Ask], Seen]


class Need(StrEnum):
    """What a probe cannot do without."""

    NOTHING = "nothing"
    KEY = "a valid key"
    ECHO = "a valid key and an echo path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """``title`` says what is sent, ``hint`` what to do when it fails; both are one line and stand in the documentation."""

    name: str
    title: str
    hint: str
    check: Callable[[Situation, Send], Verdict]
    needs: Need = Need.NOTHING


def unmet_need(probe: Probe, situation: Situation) -> Verdict | None:
    """Why the probe is skipped, ``None`` when it can run."""
    if probe.needs is not Need.NOTHING and situation.key is None:
        return skipped("needs a valid key: --api-key, and the secret in --secret-token-file")
    if probe.needs is Need.ECHO and not situation.echo_path:
        return skipped("needs --echo-path, a path of the application that answers with the headers it got")
    return None
