"""Decisions for people: one line with what one looks for first; for machines there is the JSON form.

The fields come from ``decision_log`` and are printable already, so a line cannot be forged from within.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["decision_line", "notice_line"]

_COLORS: Final = {"allow": "\x1b[32m", "deny": "\x1b[33m", "error": "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"
_TIME: Final = slice(11, 23)  # of the timestamp: hours to milliseconds


def decision_line(fields: dict[str, Any], *, color: bool) -> bytes:
    """Return one line without its newline, coloured by outcome for a terminal."""
    outcome = f"{fields['outcome']:5}"
    if color:
        outcome = f"{_COLORS[fields['outcome']]}{outcome}{_PLAIN}"
    key = fields["key_id"] or fields["key_fingerprint"] or "-"
    shadow = f" would-be={fields['shadow_reason']}" if "shadow_reason" in fields else ""
    text = (
        f"{fields['timestamp'][_TIME]} {outcome} {fields['status']} {fields['reason']:20} {fields['method']} "
        f"{fields['domain']}{fields['path']} key={key} from={fields['client_ip'] or '-'} door={fields['door']} "
        f"source={fields['source']}{shadow} {fields['duration_ms']:.2f}ms id={fields['request_id']}"
    )
    return text.encode()


def notice_line(event: dict[str, Any]) -> bytes:
    """Return what the log says about itself as one line with its newline."""
    rest = " ".join(f"{name}={value}" for name, value in event.items() if name not in _HEAD)
    return f"{event['timestamp'][_TIME]} {event['level']} {event['event']} {rest}\n".encode()


_HEAD: Final = ("timestamp", "level", "event", "boot_id")
