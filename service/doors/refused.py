"""The log's one word about a request that never became a decision, because its headers, body or path are not usable.

A decision has a line of its own (``auth.decision``); between the two, every refusal stands in the log exactly once.
"""

from __future__ import annotations

from typing import Final

import structlog

from service.observe.text import printable

__all__ = ["log_refused"]

_TEXT: Final = 256  # characters of a client's text
_SERVER_ERROR: Final = 500

_log = structlog.get_logger(__name__)


def log_refused(status: int, *, method: str, path: str, client_ip: str, request_id: str) -> None:
    """One line; a client's mistake is nothing to wake somebody for, a refusal for our own sake is a warning."""
    log = _log.info if status < _SERVER_ERROR else _log.warning
    log(
        "request_refused",
        status=status,
        method=printable(method, _TEXT),
        path=printable(path, _TEXT),
        client_ip=client_ip,
        request_id=request_id,
    )
