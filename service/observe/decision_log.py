"""One line for every decision, whatever the log level, with exactly the fields of contract 7 and nothing secret.

What a line may hold is an allow-list: it is made field by field from the request and the decision, never from headers.
"""

from __future__ import annotations

import itertools
import os
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any, Final

import orjson

from service.auth.reasons import FLOOD_REASONS, Outcome, Reason
from service.observe.floods import network_of
from service.observe.writer import MAX_LINE, DecisionLine

if TYPE_CHECKING:
    from service.auth.clock import Clock
    from service.auth.decision import AccessRequest, Decision
    from service.auth.peppers import Peppers
    from service.observe.writer import LineWriter

__all__ = ["DecisionLog"]

SCHEMA_VERSION: Final = 1
_TEXT: Final = 256  # characters of a client's text
_AGENT: Final = 128
_SHORT: Final = 48  # characters of each text in a line that would be too long otherwise
_COLORS: Final = {Outcome.ALLOW: "32", Outcome.DENY: "33", Outcome.ERROR: "31"}


class DecisionLog:
    """Renders decisions and hands them to the writer. ``console`` is for people, ``color`` for their terminals."""

    def __init__(
        self, writer: LineWriter, *, clock: Clock, peppers: Peppers, console: bool = False, color: bool = False
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._peppers = peppers
        self._render = self._person if console else self._json
        self._color = color
        self._seq = itertools.count(1)
        self._boot_id = os.urandom(8).hex()
        self._second = (0, "")
        os.register_at_fork(after_in_child=self._after_fork)

    def write(self, request: AccessRequest, decision: Decision, status: int) -> None:
        """Write one line; never waits."""
        seq = next(self._seq)
        reason = decision.shadowed or decision.reason
        network = network_of(request.client_ip) if reason in FLOOD_REASONS else None
        line = self._render(self._fields(request, decision, status, seq))
        self._writer.put(DecisionLine(line, network, reason, seq, self._clock.age()))

    def _after_fork(self) -> None:
        self._seq = itertools.count(1)
        self._boot_id = os.urandom(8).hex()

    def _fields(self, request: AccessRequest, decision: Decision, status: int, seq: int) -> dict[str, Any]:
        key = decision.key
        outcome = decision.outcome
        fields: dict[str, Any] = {
            "timestamp": self._timestamp(),
            "level": _level(outcome, known=key is not None),
            "event": "auth.decision",
            "schema_version": SCHEMA_VERSION,
            "boot_id": self._boot_id,
            "seq": seq,
            "outcome": outcome.value,
            "reason": decision.reason.value,
            "source": decision.source.value,
            "organization_id": "" if key is None else key.organization_id,
            "key_id": "" if key is None else key.key_id,
            "key_fingerprint": "" if key is not None else self._fingerprint(request),
            "domain": "" if request.target is None else request.target.host[:_TEXT],
            "client_ip": request.client_ip[:64],
            "method": request.method[:32],
            "path": request.path.partition("?")[0][:_TEXT],
            "status": status,
            "duration_ms": round(decision.duration * 1000, 4),
            "store_ms": round(decision.store_seconds * 1000, 4),
            "user_agent": request.user_agent[:_AGENT],
            "policy": request.policy[:64],
            "door": request.door.value,
            "request_id": request.request_id,
            "trace_id": request.trace_id,
        }
        if decision.shadowed is not None:
            fields["mode"] = "shadow"
            fields["shadow_reason"] = decision.shadowed.value
        return fields

    def _fingerprint(self, request: AccessRequest) -> str:
        credentials = request.credentials
        return "" if isinstance(credentials, Reason) else self._peppers.fingerprint(credentials.api_key)

    def _timestamp(self) -> str:
        """RFC 3339 in UTC with microseconds; the part up to the second is made once a second."""
        wall = self._clock.wall()
        second = int(wall)
        known, text = self._second
        if known != second:
            text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
            self._second = (second, text)
        return f"{text}.{int((wall - second) * 1_000_000):06d}Z"

    def _json(self, fields: dict[str, Any]) -> bytes:
        line = _dumped(fields)
        if len(line) > MAX_LINE:
            short = {name: value[:_SHORT] if isinstance(value, str) else value for name, value in fields.items()}
            line = _dumped(short)
        return line

    def _person(self, fields: dict[str, Any]) -> bytes:
        outcome = fields["outcome"]
        word = f"{outcome:5}"
        if self._color:
            word = f"\x1b[{_COLORS[Outcome(outcome)]}m{word}\x1b[0m"
        who = fields["key_id"] or fields["key_fingerprint"] or "-"
        text = (
            f"{fields['timestamp'][11:23]} {word} {fields['status']} {fields['reason']:20} {fields['method']} "
            f"{fields['domain']}{fields['path']} key={who} from={fields['client_ip'] or '-'} door={fields['door']} "
            f"source={fields['source']} {fields['duration_ms']:.2f}ms id={fields['request_id']}"
        )
        printable = text if text.isprintable() else "".join(c if c.isprintable() or c == "\x1b" else "?" for c in text)
        return printable.encode("utf-8", "replace")[: MAX_LINE - 1] + b"\n"


def _dumped(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a lone surrogate, which no encoding can carry
        clean = {
            name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return orjson.dumps(clean, option=orjson.OPT_APPEND_NEWLINE)


def _level(outcome: Outcome, *, known: bool) -> str:
    """Noise of strangers is information, a known key that is refused may be a customer in trouble."""
    if outcome is Outcome.ERROR:
        return "error"
    return "warning" if outcome is Outcome.DENY and known else "info"
