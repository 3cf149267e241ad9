"""Made-up credentials in every odd form: none may pass, and what is no credential must not be read as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.doctor.messages import Ask, Reply
from service.doctor.probe import Probe
from service.doctor.verdicts import code_of, describe, failed, is_refusal, passed, worst

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.doctor.messages import Lines
    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["FORGED_IDENTITY", "PROBES", "refused"]

_KEY: Final = (("X-Api-Key", "doctor-made-up"), ("X-Secret-Token", "doctor-made-up"))
FORGED_IDENTITY: Final = ("Organization", "Key-Id", "Scopes", "Subject", "Method")
"""What follows ``X-Gatekey-``."""


def refused(_: Ask, seen: Seen) -> Verdict:
    """Any refusal is good."""
    return passed(describe(seen)) if is_refusal(seen) else failed(describe(seen))


def _unread(_: Ask, seen: Seen) -> Verdict:
    """Refused, and as one without credentials: the proxy did not turn this into one."""
    challenge = seen.header("www-authenticate") if isinstance(seen, Reply) else ""
    if code_of(seen) == "invalid_credentials" or "invalid_token" in challenge:
        return failed(f"{describe(seen)}: it was read as a credential")
    return refused(_, seen)


def _each(*lines: Lines, judge: Callable[[Ask, Seen], Verdict] = refused) -> Callable[[Situation, Send], Verdict]:
    """A check that sends the path with each set of header lines."""

    def check(situation: Situation, send: Send) -> Verdict:
        return worst((Ask(target=situation.site.path, headers=headers) for headers in lines), send, judge)

    return check


def _in_query(situation: Situation, send: Send) -> Verdict:
    query = "x-api-key=doctor-made-up&x-secret-token=doctor-made-up&api_key=doctor-made-up&secret_token=doctor-made-up"
    return worst([Ask(target=f"{situation.site.path}?{query}")], send, _unread)


PROBES: Final = (
    Probe(
        name="made-up-key",
        title="a key that does not exist",
        hint="the door must get x-api-key and x-secret-token, and its refusal must end the request",
        check=_each(_KEY),
    ),
    Probe(
        name="doubled-key",
        title="two X-Api-Key lines, two X-Secret-Token lines, two Authorization lines",
        hint=(
            "pass every line of a credential header on to the door, or refuse such a request in the proxy; "
            "never pick one"
        ),
        check=_each(
            (("X-Api-Key", "doctor-a"), *_KEY),
            (*_KEY, ("X-Secret-Token", "doctor-b")),
            (("Authorization", "Bearer doctor.a"), ("Authorization", "Bearer doctor.b")),
        ),
    ),
    Probe(
        name="underscored-key",
        title="X_Api_Key and X_Secret_Token instead of the real headers",
        hint=(
            "drop header names with underscores (nginx: underscores_in_headers off; Traefik: "
            "aliasHeadersStrategy: delete; Envoy: headers_with_underscores_action; HAProxy: "
            "http-restrict-req-hdr-names delete)"
        ),
        check=_each((("X_Api_Key", "doctor-made-up"), ("X_Secret_Token", "doctor-made-up")), judge=_unread),
    ),
    Probe(
        name="key-in-query",
        title="a made-up key and secret in the query string",
        hint="do not turn query parameters into credential headers: addresses end up in logs",
        check=_in_query,
    ),
    Probe(
        name="malformed-credentials",
        title="an empty key, a key outside ASCII, broken Basic, Bearer without a dot",
        hint="let the door decide about every value; a proxy must not drop what it cannot read and go on",
        check=_each(
            (("X-Api-Key", ""), ("X-Secret-Token", "")),
            (("X-Api-Key", "caf\xe9"), ("X-Secret-Token", "caf\xe9")),
            (("Authorization", "Basic ####"),),
            (("Authorization", "Bearer doctor"),),
        ),
    ),
    Probe(
        name="garbage-cookie",
        title="cookies that no program can read",
        hint="a session that cannot be read is no session: the request must be refused",
        check=_each((("Cookie", 'session=%00; ;;=; gatekey="unterminated; a=b=c; __Host-session=\xff'),)),
    ),
    Probe(
        name="forged-identity",
        title="X-Gatekey-* identity headers and a made-up denial ticket, without credentials",
        hint=(
            "nobody may be let in for headers that Gatekey gives; remove every X-Gatekey-* of a client before "
            "the sub-request"
        ),
        check=_each(
            tuple((f"X-Gatekey-{name}", "doctor") for name in FORGED_IDENTITY),
            tuple((f"X_Gatekey_{name.replace('-', '_')}", "doctor") for name in FORGED_IDENTITY),
            (("X-Gatekey-Denial", "doctor"),),
        ),
    ),
    Probe(
        name="health-check-agent",
        title="the user agents of health checks",
        hint="do not exempt a user agent from the sub-request: anybody can send it",
        check=_each((("User-Agent", "kube-probe/1.29"),), (("User-Agent", "GoogleHC/1.0"),)),
    ),
)
