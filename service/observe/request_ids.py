"""Identifiers that tie a request's log lines together and to the caller's own."""

from __future__ import annotations

import os
import re
from typing import Final

__all__ = ["request_id_for", "trace_id_of"]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def request_id_for(header: str | None) -> str:
    """The caller's ``X-Request-Id`` if it is 1 to 128 of ``[A-Za-z0-9._-]``, else a new one (32 hex digits)."""
    if header and _REQUEST_ID.fullmatch(header):
        return header
    return os.urandom(16).hex()


def trace_id_of(traceparent: str | None) -> str:
    """The trace id of a W3C ``traceparent`` header (Trace Context 3.2), ``""`` when there is none that is valid."""
    if not traceparent:
        return ""
    match = _TRACEPARENT.fullmatch(traceparent)
    return "" if match is None else match[1]
