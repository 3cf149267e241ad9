"""Identifiers that tie a request's log lines together; a client's own passes only in a safe form."""

from __future__ import annotations

import os
import re
from typing import Final

__all__ = ["parent_of", "request_id_for", "trace_id_of"]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def request_id_for(header: str | None) -> str:
    """Return the caller's ``X-Request-Id`` if it is 1 to 128 of ``[A-Za-z0-9._-]``, else a new one (32 hex digits)."""
    if header and _REQUEST_ID.fullmatch(header):
        return header
    return os.urandom(16).hex()


def trace_id_of(traceparent: str | None) -> str:
    """Return the trace id of a ``traceparent`` header (W3C Trace Context 3.2), ``""`` when there is no valid one."""
    if not traceparent:
        return ""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == "00" and match[3] is not None):  # only a later version may append to it
        return ""
    return match[2]


def parent_of(traceparent: str | None) -> tuple[str, str, int] | None:
    """Return trace id, span id and flags of a ``traceparent`` header, ``None`` when there is no valid one."""
    if not traceparent or not trace_id_of(traceparent):
        return None
    _, trace_id, span_id, flags = traceparent.split("-")[:4]
    return trace_id, span_id, int(flags, 16)
