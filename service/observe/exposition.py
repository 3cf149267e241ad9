"""Metrics as the text of a scrape, in the form that ``Accept`` asks for; no form, however odd, is an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["Unanswered", "exposition"]

_ODD_VERSION: Final = re.compile(r"version=(?!\d{1,3}(?:\.\d{1,3}){2}\s*(?:[;,]|$))", re.ASCII)
"""What the library raises on, or would repeat to the client in the content type."""


class Unanswered(Exception):
    """The whole service cannot be told now; a part of it would look as if its counters had been reset."""


def exposition(collector: Collector, accept: str) -> tuple[bytes, str]:
    """Return the scrape and its content type: OpenMetrics or text, as ``Accept`` asks (text for an odd one)."""
    if _ODD_VERSION.search(accept):
        return generate_latest(collector), CONTENT_TYPE_PLAIN_0_0_4
    encode, content_type = choose_encoder(accept)
    return encode(collector), content_type
