"""One line for every decision, whatever the log level, with exactly the fields of contract 7 and nothing secret.

What a line may hold is an allow-list: it is made field by field from the request and the decision, never from headers.
"""

from __future__ import annotations

import itertools
import os
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import orjson

from service.auth.reasons import FLOOD_REASONS, REASONS, Outcome, Reason
from service.observe.console import decision_line, notice_line
from service.observe.floods import network_of
from service.observe.lines import MAX_LINE, DecisionLine
from service.observe.text import printable, timestamp

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
_REMEMBERED: Final = 2048  # fragments of each kind, of less than a line each
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LEVELS: Final = {Outcome.ALLOW: ("info", "info"), Outcome.DENY: ("info", "warning"), Outcome.ERROR: ("error", "error")}
"""By outcome: of a stranger, and of a known key, whose refusal may be a customer in trouble."""
_HEADS: Final = {
    (reason, known): (
        f'"level":"{_LEVELS[row.outcome][known]}","event":"auth.decision","schema_version":{SCHEMA_VERSION},'
    )
    for reason, row in REASONS.items()
    for known in (False, True)
}
_REASONS: Final = {
    reason: f'"outcome":"{row.outcome.value}","reason":"{reason.value}",' for reason, row in REASONS.items()
}


class DecisionLog:
    """Renders decisions and hands them to the writer. ``console`` is for people, ``color`` for their terminals.

    Every request pays for it, so it goes past structlog, whose call alone costs half as much as all of this, and what
    many lines have in common is rendered once and remembered.
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
        """Write one line; never waits for its reader. ``status`` is what was answered."""
        seq, at = next(self._seq), request.started + decision.duration
        reason = decision.shadowed or decision.reason
        network = network_of(request.client_ip) if reason in FLOOD_REASONS else None
        if network is not None and self._writer.is_flooded(network, at):
            line = b""
        else:
            line = self._line(request, decision, status, seq, _TEXT)
            if len(line) > MAX_LINE:
                line = self._line(request, decision, status, seq, _SHORT)
            if self._console:
                line = decision_line(orjson.loads(line), color=self._color)[: MAX_LINE - 1] + b"\n"
        self._writer.put(DecisionLine(line, network, reason, seq, at))

    def _restart(self) -> None:
        self._seq = itertools.count(1)  # the writer has a new ``boot_id``

    def _line(self, request: AccessRequest, decision: Decision, status: int, seq: int, limit: int) -> bytes:
        """The line as JSON, each text in it cut to ``limit`` characters."""
        key, reason = decision.key, decision.reason
        # A key's own part is not remembered: a million keys would each find another's in their place.
        who = (
            self._stranger(request)
            if key is None
            else f'{_owner(key.organization_id, limit)}"key_id":{_text(key.key_id, limit)},"key_fingerprint":"",'
        )
        store_ms = f"{decision.store_seconds * 1000:.4f}" if decision.store_seconds else "0.0"
        rest = _shadow(decision) if decision.in_shadow else ""
        if request.span is not None and request.span.sampled:
            rest = f',"span_id":"{request.span.span_id}"{rest}'
        path = request.path.partition("?")[0] if "?" in request.path else request.path
        return (
            f'{{"timestamp":"{timestamp(self._clock.wall())}",{_HEADS[reason, key is not None]}'
            f'"boot_id":"{self._writer.boot_id}","seq":{seq},{_REASONS[reason]}"source":"{decision.source}",'
            f"{who}{_where(_domain(request.target), request.client_ip[:_TEXT], request.method[:_TEXT], limit)}"
            f'"path":{_text(path, limit)},"status":{status},"duration_ms":{decision.duration * 1000:.4f},'
            f'"store_ms":{store_ms},{_how(request.user_agent[:_AGENT], request.policy[:_TEXT], request.door, limit)}'
            f'"request_id":"{request.request_id}","trace_id":"{request.trace_id}"{rest}}}\n'
        ).encode()

    def _stranger(self, request: AccessRequest) -> str:
        credentials = request.credentials
        fingerprint = "" if isinstance(credentials, Reason) else self._peppers.fingerprint(credentials.api_key)
        return f'"organization_id":"","key_id":"","key_fingerprint":"{fingerprint}",'


def _text(text: str, limit: int) -> str:
    """The text as a string of JSON."""
    if len(text) <= limit and text.isprintable() and '"' not in text and "\\" not in text:  # nearly always
        return f'"{text}"'
    return orjson.dumps(printable(text, limit)).decode()


@lru_cache(_REMEMBERED)
def _owner(organization_id: str, limit: int) -> str:
    return f'"organization_id":{_text(organization_id, limit)},'


@lru_cache(_REMEMBERED)
def _where(domain: str, client_ip: str, method: str, limit: int) -> str:
    return f'"domain":{_text(domain, limit)},"client_ip":{_text(client_ip, limit)},"method":{_text(method, limit)},'


@lru_cache(_REMEMBERED)
def _how(user_agent: str, policy: str, door: str, limit: int) -> str:
    agent = _text(user_agent, min(limit, _AGENT))
    return f'"user_agent":{agent},"policy":{_text(policy, limit)},"door":"{door}",'


def _domain(target: Target | None) -> str:
    """Name the host, and the port where it is not the scheme's own (a key's rules look at it)."""
    if target is None:
        return ""
    return target.host if target.port == _DEFAULT_PORTS.get(target.scheme) else f"{target.host}:{target.port}"


def _shadow(decision: Decision) -> str:
    if decision.shadowed is None:
        return ',"mode":"shadow"'
    outcome, reason = REASONS[decision.shadowed].outcome.value, decision.shadowed.value
    return f',"mode":"shadow","shadow_outcome":"{outcome}","shadow_reason":"{reason}"'


_alive: weakref.WeakSet[DecisionLog] = weakref.WeakSet()


def _restart_in_child() -> None:
    for log in list(_alive):
        log._restart()  # noqa: SLF001 - same module


os.register_at_fork(after_in_child=_restart_in_child)
