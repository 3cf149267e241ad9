"""Gatekey's doors are for the proxy alone: from outside they must look like any other path of the site.

A door betrays itself: it refuses a body with ``bad_request`` and a policy that it does not know with ``unknown_policy``,
where a protected path says ``missing_credentials``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.doctor.messages import Ask, Reply
from service.doctor.probe import Probe
from service.doctor.probes.context import CONTEXT
from service.doctor.verdicts import code_of, describe, failed, is_open, is_refusal, passed, skipped, worst

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["PROBES"]

_DOOR_CODES: Final = frozenset({"bad_request", "bad_context", "untrusted_peer", "unknown_policy"})
_FORGED: Final = tuple(zip(CONTEXT, ("GET", "https", "doctor.invalid", "/", "127.0.0.1"), strict=True))
_HINT: Final = (
    "route nothing below /auth/ to Gatekey from outside (nginx: internal; elsewhere let the sub-request alone "
    "know the address), or listen for the doors on an address of their own"
)


def _closed(_: Ask, seen: Seen) -> Verdict:
    if not isinstance(seen, Reply) or seen.status >= 500:  # noqa: PLR2004 - HTTP
        return passed(describe(seen)) if is_refusal(seen) else failed(describe(seen))
    if seen.status < 300 or any(name.startswith("x-gatekey-") for name, _ in seen.headers):  # noqa: PLR2004 - HTTP
        return failed(f"{describe(seen)} from a door")
    if code_of(seen) in _DOOR_CODES:
        return failed(f"{describe(seen)}, which only a door answers")
    return passed(describe(seen))


def _door(*paths: str) -> Callable[[Situation, Send], Verdict]:
    def check(situation: Situation, send: Send) -> Verdict:
        if _is_answered_as_by_a_door(situation.site.path, send):
            return skipped("the path itself is answered as by a door; mend what failed above first")
        return worst((ask for path in paths for ask in _questions(path)), send, _closed)

    return check


def _is_answered_as_by_a_door(path: str, send: Send) -> bool:
    if is_open(send(Ask(target=path))):
        return False  # and no POST for it, which might change something
    return bool(_DOOR_CODES & {code_of(send(ask)) for ask in _questions(path)})


def _questions(path: str) -> tuple[Ask, ...]:
    """What a door answers in its own way; the protected path itself must not, or nothing can be told about doors."""
    return Ask(target=path), Ask(target=path, headers=_FORGED), Ask(target=path, method="POST", body=b"x")


def _denied(_: Situation, send: Send) -> Verdict:
    path = "/auth/nginx/default/denied"
    asks = [Ask(target=path), Ask(target=path, headers=(("X-Gatekey-Denial", "doctor"),))]
    return worst(asks, send, _not_rendered)


def _not_rendered(_: Ask, seen: Seen) -> Verdict:
    """That door renders tickets; without a valid one it answers 503, which no protected path does."""
    good = isinstance(seen, Reply) and (is_refusal(seen) or seen.status == 404)  # noqa: PLR2004 - HTTP
    return passed(describe(seen)) if good else failed(describe(seen))


PROBES: Final = (
    Probe(
        name="forward-door",
        title="/auth/forward/…, with a forged context, with a body, with an unknown policy",
        hint=_HINT,
        check=_door("/auth/forward/default", "/auth/forward/doctor-unknown"),
    ),
    Probe(
        name="nginx-door",
        title="/auth/nginx/… likewise",
        hint=_HINT,
        check=_door("/auth/nginx/default", "/auth/nginx/doctor-unknown"),
    ),
    Probe(
        name="nginx-denied-door",
        title="/auth/nginx/default/denied, without and with a forged ticket",
        hint=_HINT,
        check=_denied,
    ),
    Probe(
        name="envoy-door",
        title="/auth/envoy/…/x likewise",
        hint=_HINT,
        check=_door("/auth/envoy/default/x", "/auth/envoy/doctor-unknown/x"),
    ),
)
