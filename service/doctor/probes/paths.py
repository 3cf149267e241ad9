"""Odd targets, methods, hosts and upgrades: whatever way the path is written, it must be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.doctor.messages import Ask, Reply
from service.doctor.probe import Probe
from service.doctor.probes.credentials import refused
from service.doctor.verdicts import code_of, describe, failed, is_gatekeys, is_open, is_refusal, passed, skipped, worst

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["OTHER_HOST", "PROBES"]

OTHER_HOST: Final = "doctor.invalid"
"""A host that nobody serves (RFC 2606)."""

_PREFLIGHT: Final = (("Origin", "https://doctor.invalid"), ("Access-Control-Request-Method", "GET"))


def _targets(*patterns: str) -> Callable[[Situation, Send], Verdict]:
    """A check of request targets; ``{path}`` is the probed path, ``{rest}`` the same without its first slash."""

    def check(situation: Situation, send: Send) -> Verdict:
        path = situation.site.path
        targets = (pattern.format(path=path, rest=path[1:], site=situation.site.origin) for pattern in patterns)
        return worst((Ask(target=target) for target in targets), send, _refused_at)

    return check


def _refused_at(ask: Ask, seen: Seen) -> Verdict:
    verdict = refused(ask, seen)
    return verdict if is_refusal(seen) else failed(f"{verdict.seen} at {ask.target}")


def _methods(*methods: str) -> Callable[[Situation, Send], Verdict]:
    def check(situation: Situation, send: Send) -> Verdict:
        return worst((Ask(target=situation.site.path, method=method) for method in methods), send, judge)

    def judge(ask: Ask, seen: Seen) -> Verdict:
        verdict = refused(ask, seen)
        return verdict if is_refusal(seen) else failed(f"{verdict.seen} to {ask.method}")

    return check


def _head(situation: Situation, send: Send) -> Verdict:
    return worst([Ask(target=situation.site.path, method="HEAD")], send, refused)


def _preflight(situation: Situation, send: Send) -> Verdict:
    """A policy may pass a preflight on purpose, so an answer of the application is no failure here."""
    seen = send(Ask(target=situation.site.path, method="OPTIONS", headers=_PREFLIGHT))
    if is_refusal(seen):
        return passed(describe(seen))
    if isinstance(seen, Reply) and seen.status < 500:  # noqa: PLR2004 - HTTP
        return passed(f'{describe(seen)} from the application, as with preflight = "pass" in the policy')
    return failed(describe(seen))


def _body(situation: Situation, send: Send) -> Verdict:
    path = situation.site.path
    if is_open(send(Ask(target=path))):
        return skipped("the path is open, and a POST might change something there")
    kind = ("Content-Type", "application/x-gatekey-doctor")  # no application takes that for an order
    asks = [
        Ask(target=path, method="POST", body=b"x", headers=(kind,)),
        Ask(target=path, method="POST", body=b"1\r\nx\r\n0\r\n\r\n", headers=(kind, ("Transfer-Encoding", "chunked"))),
    ]
    return worst(asks, send, _body_refused)


def _body_refused(ask: Ask, seen: Seen) -> Verdict:
    if code_of(seen) == "bad_request":
        return failed(f"{describe(seen)}: the door was told of the body, so that nobody can POST")
    return refused(ask, seen)


def _upgrades(situation: Situation, send: Send) -> Verdict:
    websocket = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "ZG9jdG9yZG9jdG9yZG9jdA=="),
    )
    h2c = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__"))
    asks = [Ask(target=situation.site.path, headers=headers) for headers in (websocket, h2c)]
    return worst(asks, send, refused)


def _unserved_host(situation: Situation, send: Send) -> Verdict:
    return worst([Ask(target=situation.site.path, hosts=(OTHER_HOST,))], send, _host_refused)


def _host_refused(_: Ask, seen: Seen) -> Verdict:
    """Turned away by the proxy itself, before Gatekey is asked about a host that nobody serves."""
    if is_gatekeys(seen):
        return failed(f"{describe(seen)} from Gatekey, so the proxy takes any Host")
    if is_refusal(seen) or (isinstance(seen, Reply) and 300 <= seen.status < 500):  # noqa: PLR2004 - HTTP
        return passed(describe(seen))
    return failed(describe(seen))


def _two_hosts(situation: Situation, send: Send) -> Verdict:
    own = situation.site.authority
    asks = [
        Ask(target=situation.site.path, hosts=hosts) for hosts in ((own, OTHER_HOST), (OTHER_HOST, own), (own, own))
    ]
    asks.append(Ask(target=situation.site.path, hosts=(f"{own}, {OTHER_HOST}",)))
    return worst(asks, send, _nothing_served)


def _absolute_form(situation: Situation, send: Send) -> Verdict:
    ask = Ask(target=f"{situation.site.scheme}://{OTHER_HOST}{situation.site.path}")
    return worst([ask], send, _nothing_served)


def _nothing_served(ask: Ask, seen: Seen) -> Verdict:
    """Refused, or (a 404 of the proxy for a host that it does not serve) not found."""
    if isinstance(seen, Reply) and seen.status == 404:  # noqa: PLR2004 - HTTP
        return passed(describe(seen))
    return refused(ask, seen)


PROBES: Final = (
    Probe(
        name="dot-segments",
        title="/x/../, /./, %2e%2e, %2f, //, ; and backslashes around the path, also after /login",
        hint=(
            "normalize the path before routing, and protect the whole site rather than a list of prefixes "
            "(Envoy: normalize_path, merge_slashes, path_with_escaped_slashes_action)"
        ),
        check=_targets(
            "/doctor/..{path}",
            "/./{rest}",
            "/doctor/%2e%2e{path}",
            "/doctor/%2E%2E{path}",
            "/doctor%2f..%2f{rest}",
            "/%2e/{rest}",
            "//{rest}",
            "/doctor/..;{path}",
            "{path};doctor=1",
            "/doctor/..%5c{rest}",
            "/login/..{path}",
            "/login/%2e%2e{path}",
            "/login%2f..%2f{rest}",
            "/login/..;{path}",
            "/login/..%2f{rest}",
        ),
    ),
    Probe(
        name="odd-targets",
        title="a fragment, a query that looks like a public path, an encoded one, a very long one",
        hint="decide about the path alone, after decoding it once",
        check=_targets(
            "{path}#/login",
            "{path}%23/login",
            "{path}?/login",
            "{path}?path=/livez&x=%00",
            "{path}%00",
            "{path}?" + "x" * 4000,
        ),
    ),
    Probe(
        name="odd-methods",
        title="PROPFIND, BREW, TRACE, a lower-case get, OPTIONS without being a preflight",
        hint=(
            "protect the path whatever the method (nginx: no limit_except around auth_request; no method "
            "matcher on the route)"
        ),
        check=_methods("PROPFIND", "BREW", "TRACE", "get", "OPTIONS"),
    ),
    Probe(
        name="head",
        title="HEAD",
        hint="protect the path whatever the method",
        check=_head,
    ),
    Probe(
        name="preflight",
        title="a CORS preflight",
        hint="the proxy or the application fails on OPTIONS: let the door decide",
        check=_preflight,
    ),
    Probe(
        name="body",
        title="POST with a body, by Content-Length and chunked",
        hint=(
            "blank the body's framing in the sub-request (nginx: proxy_pass_request_body off; "
            'proxy_set_header Content-Length "")'
        ),
        check=_body,
    ),
    Probe(
        name="upgrade",
        title="an upgrade to websocket and to h2c",
        hint="decide before upgrading, and do not pass Upgrade: h2c on",
        check=_upgrades,
    ),
    Probe(
        name="unserved-host",
        title="a Host that nobody serves",
        hint=(
            "serve your host names only, and answer others with 421 or 404 in the proxy: a catch-all lets a "
            "key of another domain in"
        ),
        check=_unserved_host,
    ),
    Probe(
        name="two-hosts",
        title="two Host lines, and one with a comma",
        hint="refuse a request with more than one Host with 400",
        check=_two_hosts,
    ),
    Probe(
        name="absolute-form",
        title="a request target that names another host than Host",
        hint=(
            "use the same host everywhere (nginx: $gatekey_host, the map of deploy/proxies/nginx); an absolute target's host "
            "wins over Host"
        ),
        check=_absolute_form,
    ),
)
