"""What a valid key shows: it passes, alone and once, whatever else the client forges, and on this host only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.doctor.messages import Ask, Reply
from service.doctor.probe import Need, Probe
from service.doctor.probes.credentials import refused
from service.doctor.probes.paths import OTHER_HOST
from service.doctor.verdicts import code_of, describe, failed, is_gatekeys, is_refusal, passed, skipped, worst

if TYPE_CHECKING:
    from service.doctor.messages import Lines
    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["PROBES", "key_lines"]


def key_lines(situation: Situation) -> Lines:
    """The operator's key as headers."""
    return (_api_key(situation), _secret(situation))


def _api_key(situation: Situation, name: str = "X-Api-Key") -> tuple[str, str]:
    return name, situation.valid_key.api_key


def _secret(situation: Situation, name: str = "X-Secret-Token") -> tuple[str, str]:
    return name, situation.valid_key.secret.reveal()


def _valid_key(situation: Situation, send: Send) -> Verdict:
    seen = send(Ask(target=situation.site.path, headers=key_lines(situation)))
    if isinstance(seen, Reply) and 200 <= seen.status < 300:  # noqa: PLR2004 - HTTP
        return passed(describe(seen))
    if is_gatekeys(seen) and code_of(seen) in _KEY_ADVICE:
        return failed(describe(seen), _KEY_ADVICE[code_of(seen)])
    if isinstance(seen, Reply) and not is_gatekeys(seen):
        return failed(describe(seen), "give in --url a path that the application answers with 2xx")
    return failed(describe(seen))


_KEY_ADVICE: Final = {
    "missing_credentials": (
        "pass x-api-key and x-secret-token to the door (Envoy: allowed_headers; Traefik: authRequestHeaders)"
    ),
    "domain_not_allowed": (
        "the key is not valid for this host, or the proxy forwards another Host, scheme or port than the client's"
    ),
    "insufficient_scope": "use a key with the scopes that the policy demands",
}


def _wrong_secret(situation: Situation, send: Send) -> Verdict:
    headers = (_api_key(situation), ("X-Secret-Token", "doctor-made-up"))
    return worst([Ask(target=situation.site.path, headers=headers)], send, refused)


def _doubled(situation: Situation, send: Send) -> Verdict:
    good, secret, bad = _api_key(situation), _secret(situation), ("X-Api-Key", "doctor-made-up")
    variants = (
        (good, bad, secret),
        (bad, good, secret),
        (good, good, secret),
        (good, secret, ("X-Secret-Token", "doctor-made-up")),
        (good, ("X-Secret-Token", "doctor-made-up"), secret),
    )
    return worst((Ask(target=situation.site.path, headers=headers) for headers in variants), send, refused)


def _alias_alone(situation: Situation, send: Send) -> Verdict:
    variants = (
        (_api_key(situation, "X_Api_Key"), _secret(situation, "X_Secret_Token")),
        (_api_key(situation, "X_Api_Key"), _secret(situation)),
        (_api_key(situation), _secret(situation, "X_Secret_Token")),
    )
    return worst((Ask(target=situation.site.path, headers=headers) for headers in variants), send, refused)


def _alias_beside(situation: Situation, send: Send) -> Verdict:
    headers = (*key_lines(situation), ("X_Api_Key", "doctor-made-up"), ("X_Secret_Token", "doctor-made-up"))
    return worst([Ask(target=situation.site.path, headers=headers)], send, _alias_ignored)


def _alias_ignored(_: Ask, seen: Seen) -> Verdict:
    if code_of(seen) == "invalid_credentials":
        return failed(f"{describe(seen)}: the alias was read as the header")
    return _served_or_refused(_, seen)


def _forged_context(situation: Situation, send: Send) -> Verdict:
    other = "http" if situation.site.scheme == "https" else "https"
    variants: tuple[Lines, ...] = (
        (("X-Forwarded-Host", OTHER_HOST),),
        (("X-Forwarded-Proto", other), ("X-Forwarded-Port", "1")),
        (("X-Forwarded-Uri", "/doctor"), ("X-Forwarded-Method", "DELETE")),
        (("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.1")),
        (("X-Original-URL", f"https://{OTHER_HOST}/doctor"), ("Forwarded", f"host={OTHER_HOST};for=192.0.2.1")),
        (("Connection", "close, X-Forwarded-Host"), ("X-Forwarded-Host", OTHER_HOST)),
    )
    if is_gatekeys(send(Ask(target=situation.site.path, headers=key_lines(situation)))):
        return skipped("the key does not pass without them either; mend valid-key first")
    asks = (Ask(target=situation.site.path, headers=(*key_lines(situation), *headers)) for headers in variants)
    return worst(asks, send, _context_ignored)


def _context_ignored(ask: Ask, seen: Seen) -> Verdict:
    hop_by_hop = any(name == "Connection" for name, _ in ask.headers)
    if is_gatekeys(seen) and not (hop_by_hop and code_of(seen) == "bad_context"):
        name = next(name for name, _ in ask.headers if name not in ("X-Api-Key", "X-Secret-Token"))
        return failed(f"{describe(seen)} with {name}: the client's value counted")
    return _served_or_refused(ask, seen)


def _hop_by_hop_key(situation: Situation, send: Send) -> Verdict:
    headers = (*key_lines(situation), ("Connection", "close, X-Api-Key, X-Secret-Token"))
    return worst([Ask(target=situation.site.path, headers=headers)], send, _served_or_refused)


def _served_or_refused(_: Ask, seen: Seen) -> Verdict:
    """Both are sound; a server error is not."""
    sound = is_refusal(seen) or (isinstance(seen, Reply) and seen.status < 500)  # noqa: PLR2004 - HTTP
    return passed(describe(seen)) if sound else failed(describe(seen))


def _other_hosts(situation: Situation, send: Send) -> Verdict:
    site, headers = situation.site, key_lines(situation)
    asks = (
        Ask(target=site.path, hosts=(OTHER_HOST,), headers=headers),
        Ask(target=site.path, hosts=(site.authority, OTHER_HOST), headers=headers),
        Ask(target=site.path, hosts=(OTHER_HOST, site.authority), headers=headers),
        Ask(target=f"{site.scheme}://{OTHER_HOST}{site.path}", headers=headers),
    )
    return worst(asks, send, _not_served)


def _not_served(_: Ask, seen: Seen) -> Verdict:
    """Anything but a success: the proxy's 404 for a host that it does not know, its 400, or Gatekey's refusal."""
    good = is_refusal(seen) or (isinstance(seen, Reply) and 300 <= seen.status < 500)  # noqa: PLR2004 - HTTP
    return passed(describe(seen)) if good else failed(describe(seen))


PROBES: Final = (
    Probe(
        name="valid-key",
        title="the valid key",
        hint="the door must get the credentials and the host that the client used",
        check=_valid_key,
        needs=Need.KEY,
    ),
    Probe(
        name="wrong-secret",
        title="the valid key with a made-up secret",
        hint="do not cache decisions in the proxy by the key alone",
        check=_wrong_secret,
        needs=Need.KEY,
    ),
    Probe(
        name="doubled-valid-key",
        title="the valid key and a second one, before or after; likewise the secret",
        hint="pass every line on to the door, or refuse such a request in the proxy; never pick one",
        check=_doubled,
        needs=Need.KEY,
    ),
    Probe(
        name="underscored-valid-key",
        title="the valid key as X_Api_Key, its secret as X_Secret_Token",
        hint="drop header names with underscores, as for underscored-key",
        check=_alias_alone,
        needs=Need.KEY,
    ),
    Probe(
        name="alias-beside-key",
        title="the valid key, and X_Api_Key with another value",
        hint="drop header names with underscores, as for underscored-key",
        check=_alias_beside,
        needs=Need.KEY,
    ),
    Probe(
        name="forged-context-with-key",
        title="the valid key, and a forged host, scheme, path, method and address",
        hint="send the five X-Forwarded-* headers to the door from the proxy's own view, and drop the client's",
        check=_forged_context,
        needs=Need.KEY,
    ),
    Probe(
        name="hop-by-hop-key",
        title="the valid key, with Connection: close, X-Api-Key",
        hint="the proxy fails on it; passing or refusing it are both fine",
        check=_hop_by_hop_key,
        needs=Need.KEY,
    ),
    Probe(
        name="other-host-with-key",
        title="the valid key with another Host, with two, and with another host in the request target",
        hint="serve your host names only, and use the same host for the decision and for the application",
        check=_other_hosts,
        needs=Need.KEY,
    ),
)
