"""Forged, doubled and missing context: what a client says about its own request must not reach the door.

The trick that makes this visible from outside: a value that no proxy would ever send. If it reaches the door, the
answer is ``bad_context`` (403) instead of the usual 401.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.doctor.messages import Ask
from service.doctor.probe import Probe
from service.doctor.probes.credentials import refused
from service.doctor.verdicts import code_of, describe, failed, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["CONTEXT", "PROBES"]

CONTEXT: Final = ("X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-For")

_PREFLIGHT: Final = (("Origin", "https://doctor.invalid"), ("Access-Control-Request-Method", "GET"))


def _unmoved(situation: Situation, send: Send, asks: Iterable[Ask]) -> Verdict:
    """Refused, and not because of what was forged: the context is no better and no worse than without."""
    usual = code_of(send(Ask(target=situation.site.path)))

    def judge(ask: Ask, seen: Seen) -> Verdict:
        code = code_of(seen)
        if code and usual and (code == "bad_context") != (usual == "bad_context"):
            return failed(f"{describe(seen)} instead of {usual}: the client's value reached the door")
        return refused(ask, seen)

    return worst(asks, send, judge)


def _forged(name: str, *values: str) -> Callable[[Situation, Send], Verdict]:
    """A check that sends each value of the header, alone and as an underscore alias."""

    def check(situation: Situation, send: Send) -> Verdict:
        path = situation.site.path
        asks = [Ask(target=path, headers=((name, value), *_PREFLIGHT)) for value in values]
        asks.append(Ask(target=path, headers=((name, values[0]), (name, values[-1]))))
        return _unmoved(situation, send, asks)

    return check


def _aliases(situation: Situation, send: Send) -> Verdict:
    path = situation.site.path
    asks = [Ask(target=path, headers=((name.replace("-", "_"), "(doctor)"),)) for name in CONTEXT]
    return _unmoved(situation, send, asks)


def _hop_by_hop(situation: Situation, send: Send) -> Verdict:
    path = situation.site.path
    asks = [Ask(target=path, headers=(("Connection", f"close, {name}"),)) for name in CONTEXT]
    asks.append(Ask(target=path, headers=(("Connection", ", ".join(("close", *CONTEXT))),)))
    return worst(asks, send, refused)


def _other_contracts(situation: Situation, send: Send) -> Verdict:
    login = f"{situation.site.origin}/login"
    asks = [
        Ask(target=situation.site.path, headers=(header, *_PREFLIGHT))
        for header in (
            ("X-Original-URL", login),
            ("X-Original-URI", "/login"),
            ("X-Original-Method", "OPTIONS"),
            ("X-Rewrite-Url", "/login"),
            ("X-HTTP-Method-Override", "OPTIONS"),
            ("X-Forwarded-Prefix", "/login"),
            ("Forwarded", "for=127.0.0.1;host=doctor.invalid;proto=https"),
            ("X-Real-IP", "127.0.0.1"),
        )
    ]
    return worst(asks, send, refused)


def _proxy_hint(name: str, traefik: str, nginx: str) -> str:
    return (
        f"set {name} to the proxy's own view in the sub-request and drop the client's (nginx: proxy_set_header {name} {nginx};"
        f" Traefik: {traefik}; Envoy: headers_to_add; HAProxy: http-request set-header; Caddy: header_up)"
    )


_TRAEFIK: Final = "trustForwardHeader: false"

PROBES: Final = (
    Probe(
        name="forged-x-forwarded-method",
        title="X-Forwarded-Method: a preflight's, one that is none, and both",
        hint=_proxy_hint("X-Forwarded-Method", _TRAEFIK, "$request_method"),
        check=_forged("X-Forwarded-Method", "(doctor)", "OPTIONS"),
    ),
    Probe(
        name="forged-x-forwarded-proto",
        title="X-Forwarded-Proto: one that is none, https, and both",
        hint=_proxy_hint("X-Forwarded-Proto", _TRAEFIK, "$scheme"),
        check=_forged("X-Forwarded-Proto", "doctor", "https"),
    ),
    Probe(
        name="forged-x-forwarded-host",
        title="X-Forwarded-Host: one that is none, another host, and both",
        hint=_proxy_hint("X-Forwarded-Host", _TRAEFIK, "$gatekey_host, the map of deploy/proxies/nginx"),
        check=_forged("X-Forwarded-Host", "doctor.invalid, doctor.invalid", "doctor.invalid"),
    ),
    Probe(
        name="forged-x-forwarded-uri",
        title="X-Forwarded-Uri: one that is none, the login page's, and both",
        hint=_proxy_hint("X-Forwarded-Uri", _TRAEFIK, "$request_uri"),
        check=_forged("X-Forwarded-Uri", "doctor", "/login"),
    ),
    Probe(
        name="forged-x-forwarded-for",
        title="X-Forwarded-For: one that is no address, loopback, and both",
        hint=_proxy_hint("X-Forwarded-For", _TRAEFIK, "$remote_addr"),
        check=_forged("X-Forwarded-For", "doctor", "127.0.0.1"),
    ),
    Probe(
        name="underscored-context",
        title="X_Forwarded_Method and its four kin",
        hint="drop header names with underscores before the sub-request, as for underscored-key",
        check=_aliases,
    ),
    Probe(
        name="missing-context",
        title="Connection: close, X-Forwarded-Host (and its kin), which makes some proxies remove them",
        hint=(
            "a context header that the client had removed must end in a refusal: update the proxy, and do not "
            "trust a forwarded header that may be missing"
        ),
        check=_hop_by_hop,
    ),
    Probe(
        name="other-contracts",
        title="X-Original-URL, X-Original-Method, X-Rewrite-Url, Forwarded and others",
        hint="take no part of the decision from these headers; blank them in the proxy",
        check=_other_contracts,
    ),
)
