"""Gatekey's other pages that are not for the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.doctor.messages import Ask, Reply
from service.doctor.probe import Probe
from service.doctor.verdicts import describe, failed, is_refusal, passed, worst

if TYPE_CHECKING:
    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["PROBES"]


def _metrics(_: Situation, send: Send) -> Verdict:
    asks = [Ask(target="/metrics"), Ask(target="/metrics", headers=(("Connection", "close, X-Forwarded-For, Via"),))]
    return worst(asks, send, _hidden)


def _hidden(_: Ask, seen: Seen) -> Verdict:
    if is_refusal(seen) or (isinstance(seen, Reply) and seen.status == 404):  # noqa: PLR2004 - HTTP
        return passed(describe(seen))
    whose = "Gatekey's" if isinstance(seen, Reply) and b"gatekey_" in seen.body else "no refusal"
    return failed(f"{describe(seen)}, {whose}")


PROBES: Final = (
    Probe(
        name="metrics",
        title="/metrics, also with Connection: close, X-Forwarded-For",
        hint="route /metrics to the application or nowhere; scrape Gatekey directly, or on GATEKEY_ADMIN_LISTEN",
        check=_metrics,
    ),
)
