"""One line for every decision, whatever the log level, with exactly the fields of contract 7 and nothing secret.

What a line may hold is an allow-list: it is made field by field from the request and the decision, never from headers.
"""

from __future__ import annotations

import itertools
import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from service.auth.reasons import FLOOD_REASONS, REASONS, Outcome, Reason
from service.observe.console import decision_line, notice_line
from service.observe.floods import network_of
from service.observe.lines import MAX_LINE, DecisionLine
from service.observe.text import json_line, printable, timestamp

if TYPE_CHECKING:
    from service.auth.clock import Clock
    from service.auth.decision import AccessRequest, Decision
    from service.auth.domains import Target
    from service.auth.peppers import Peppers
    from service.observe.writer import LineWriter

__all__ = ["DecisionLog"]

SCHEMA_VERSION: Final = 1
_TEXT: Final = 256  # characters of a client's text
_AGENT: Final = 128
_SHORT: Final = 48  # characters of each text in a line that would be too long otherwise
_WHOLE: Final = ("request_id", "trace_id")  # plain ASCII, bounded, and useless when cut
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NAMES: Final = {reason: (row.outcome.value, reason.value) for reason, row in REASONS.items()}
_LEVELS: Final = {Outcome.ALLOW: ("info", "info"), Outcome.DENY: ("info", "warning"), Outcome.ERROR: ("error", "error")}
"""By outcome: of a stranger, and of a known key, whose refusal may be a customer in trouble."""
_HEADS: Final = {
    (
        reason,
        known,
    ): f'"level":"{_LEVELS[row.outcome][known]}","event":"auth.decision","schema_version":{SCHEMA_VERSION},'
    for reason, row in REASONS.items()
    for known in (False, True)
}
_ENDINGS: Final = {reason: f'"outcome":"{outcome}","reason":"{value}",' for reason, (outcome, value) in _NAMES.items()}


class DecisionLog:
    """Renders decisions and hands them to the writer. ``console`` is for people, ``color`` for their terminals.

    Every request pays for it, so it goes past structlog, whose call alone costs half as much as all of this.
    """

    def __init__(
        self, writer: LineWriter, *, clock: Clock, peppers: Peppers, console: bool = False, color: bool = False
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._peppers = peppers
        self._console = console
        self._color = color
        self._seq = itertools.count(1)
        if console:
            writer.render_notice = notice_line
        _alive.add(self)

    def write(self, request: AccessRequest, decision: Decision, status: int) -> None:
        """Write one line; never waits. ``status`` is what was answered."""
        seq = next(self._seq)
        line = None if self._console else self._plain(request, decision, status, seq)
        if line is None:
            line = self._line(self._fields(request, decision, status, seq))
        reason = decision.shadowed or decision.reason
        network = network_of(request.client_ip) if reason in FLOOD_REASONS else None
        self._writer.put(DecisionLine(line, network, reason, seq, request.started + decision.duration))

    def _restart(self) -> None:
        self._seq = itertools.count(1)  # the writer has a new ``boot_id``

    def _plain(self, request: AccessRequest, decision: Decision, status: int, seq: int) -> bytes | None:
        """The line of ``_fields`` where no text in it has to be cut or escaped, which is nearly always; else ``None``.

        It costs much less than a dictionary of two dozen fields and its encoding, which were a fifth of a decision.
        """
        key, target, path, agent = decision.key, request.target, request.path, request.user_agent
        organization_id, key_id = ("", "") if key is None else (key.organization_id, key.key_id)
        host = "" if target is None else target.host
        texts = f"{path}{agent}{host}{organization_id}{key_id}{request.policy}{request.method}{request.client_ip}"
        if (
            decision.in_shadow
            or len(path) > _TEXT
            or len(agent) > _AGENT
            or len(texts) - len(path) - len(agent) > _TEXT  # so each of the others is shorter, too
            or not texts.isprintable()
            or '"' in texts
            or "\\" in texts
            or "?" in path
        ):
            return None
        known = key is not None
        if target is not None and target.port != _DEFAULT_PORTS.get(target.scheme):
            host = f"{host}:{target.port}"
        return (
            f'{{"timestamp":"{timestamp(self._clock.wall())}",{_HEADS[decision.reason, known]}'
            f'"boot_id":"{self._writer.boot_id}","seq":{seq},{_ENDINGS[decision.reason]}"source":"{decision.source}",'
            f'"organization_id":"{organization_id}","key_id":"{key_id}",'
            f'"key_fingerprint":"{"" if known else self._fingerprint(request)}",'
            f'"domain":"{host}","client_ip":"{request.client_ip}","method":"{request.method}","path":"{path}",'
            f'"status":{status},"duration_ms":{round(decision.duration * 1000, 4)},'
            f'"store_ms":{round(decision.store_seconds * 1000, 4)},'
            f'"user_agent":"{agent}","policy":"{request.policy}","door":"{request.door}",'
            f'"request_id":"{request.request_id}","trace_id":"{request.trace_id}"}}\n'
        ).encode()

    def _line(self, fields: dict[str, Any]) -> bytes:
        if self._console:
            return decision_line(fields, color=self._color)[: MAX_LINE - 1] + b"\n"
        line = json_line(fields)
        if len(line) > MAX_LINE:
            line = json_line({name: _shortened(name, value) for name, value in fields.items()})
        return line

    def _fields(self, request: AccessRequest, decision: Decision, status: int, seq: int) -> dict[str, Any]:
        key = decision.key
        outcome, reason = _NAMES[decision.reason]
        fields: dict[str, Any] = {
            "timestamp": timestamp(self._clock.wall()),
            "level": _LEVELS[decision.outcome][key is not None],
            "event": "auth.decision",
            "schema_version": SCHEMA_VERSION,
            "boot_id": self._writer.boot_id,
            "seq": seq,
            "outcome": outcome,
            "reason": reason,
            "source": decision.source.value,
            "organization_id": "" if key is None else key.organization_id,
            "key_id": "" if key is None else printable(key.key_id, _TEXT),
            "key_fingerprint": "" if key is not None else self._fingerprint(request),
            "domain": "" if request.target is None else _domain(request.target),
            "client_ip": printable(request.client_ip, _TEXT),
            "method": printable(request.method, _TEXT),
            "path": printable(request.path.partition("?")[0], _TEXT),
            "status": status,
            "duration_ms": round(decision.duration * 1000, 4),
            "store_ms": round(decision.store_seconds * 1000, 4),
            "user_agent": printable(request.user_agent, _AGENT),
            "policy": printable(request.policy, _TEXT),
            "door": request.door.value,
            "request_id": request.request_id,
            "trace_id": request.trace_id,
        }
        if decision.in_shadow:
            fields["mode"] = "shadow"
        if decision.shadowed is not None:
            fields["shadow_outcome"], fields["shadow_reason"] = _NAMES[decision.shadowed]
        return fields

    def _fingerprint(self, request: AccessRequest) -> str:
        credentials = request.credentials
        return "" if isinstance(credentials, Reason) else self._peppers.fingerprint(credentials.api_key)


def _domain(target: Target) -> str:
    """Name the host, and the port where it is not the scheme's own (a key's rules look at it)."""
    host = printable(target.host, _TEXT)
    return host if target.port == _DEFAULT_PORTS.get(target.scheme) else f"{host}:{target.port}"


def _shortened(name: str, value: Any) -> Any:
    return value[:_SHORT] if isinstance(value, str) and name not in _WHOLE else value


_alive: weakref.WeakSet[DecisionLog] = weakref.WeakSet()


def _restart_in_child() -> None:
    for log in list(_alive):
        log._restart()  # noqa: SLF001 - same module


os.register_at_fork(after_in_child=_restart_in_child)
