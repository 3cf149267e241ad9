"""What the application gets, as an echo path shows it: the identity that Gatekey gave, and no credentials."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from service.doctor.messages import Ask, Reply
from service.doctor.probe import Need, Probe
from service.doctor.probes.credentials import FORGED_IDENTITY
from service.doctor.probes.keyed import key_lines
from service.doctor.verdicts import describe, failed, is_refusal, passed, skipped, worst

if TYPE_CHECKING:
    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["PROBES"]

_IDENTITY: Final = b"x-gatekey-organization"


def _identity(situation: Situation, send: Send) -> Verdict:
    """Forged identity headers, in every spelling, carry the run's marker; the echo must not."""
    marker = situation.marker
    names = [f"X-Gatekey-{name}" for name in (*FORGED_IDENTITY, "Denial")]
    spellings = (names, *([name.replace("-", other) for name in names] for other in "_."))
    asks = [
        Ask(target=situation.echo_path, headers=(*key_lines(situation), *((name, marker) for name in spelled)))
        for spelled in spellings
    ]

    def judge(_: Ask, seen: Seen) -> Verdict:
        if isinstance(seen, Reply) and marker.encode() in seen.body:
            return failed(f"{describe(seen)}, and a forged value reached the application")
        return _echoed(seen)

    return worst(asks, send, judge)


def _credentials(situation: Situation, send: Send) -> Verdict:
    """The key in each form that the policy takes; neither it nor its secret may be in the echo."""
    key = situation.valid_key
    secret = key.secret.reveal()
    basic = base64.b64encode(f"{key.api_key}:{secret}".encode()).decode()
    hidden = tuple(text.encode() for text in (secret, basic, key.api_key))
    forms = (
        key_lines(situation),
        (*key_lines(situation), ("Connection", "close, X-Api-Key, X-Secret-Token")),
        (("Authorization", f"Basic {basic}"),),
        (("Authorization", f"Bearer {key.api_key}.{secret}"),),
    )

    def judge(_: Ask, seen: Seen) -> Verdict:
        if isinstance(seen, Reply) and any(text in seen.body for text in hidden):
            return failed(f"{describe(seen)}, and the application got a credential")
        return _echoed(seen)

    return worst((Ask(target=situation.echo_path, headers=lines) for lines in forms), send, judge)


def _kept_identity(situation: Situation, send: Send) -> Verdict:
    """A client must not be able to take the identity away that Gatekey gave it."""
    plain = send(Ask(target=situation.echo_path, headers=key_lines(situation)))
    if not _shows_identity(plain):
        return skipped("the application gets no identity headers, or does not echo them")
    names = ", ".join(f"X-Gatekey-{name}" for name in FORGED_IDENTITY)
    seen = send(
        Ask(target=situation.echo_path, headers=(*key_lines(situation), ("Connection", f"close, {names}"))),
    )
    if isinstance(seen, Reply) and seen.status < 300 and not _shows_identity(seen):  # noqa: PLR2004 - HTTP
        return failed(f"{describe(seen)}, and the identity was gone")
    return _echoed(seen)


def _shows_identity(seen: Seen) -> bool:
    return isinstance(seen, Reply) and _IDENTITY in seen.body.lower()


def _echoed(seen: Seen) -> Verdict:
    """Echoed or refused; a server error tells nothing and is no good answer."""
    sound = is_refusal(seen) or (isinstance(seen, Reply) and seen.status < 300)  # noqa: PLR2004 - HTTP
    return passed(describe(seen)) if sound else failed(describe(seen), "give in --echo-path a path that echoes headers")


PROBES: Final = (
    Probe(
        name="forged-identity-with-key",
        title="the valid key, and forged X-Gatekey-* and X_Gatekey_* headers, to the echo path",
        hint=(
            "remove every X-Gatekey-* and X_Gatekey_* header of the client before the sub-request, then set "
            "those that the door gave"
        ),
        check=_identity,
        needs=Need.ECHO,
    ),
    Probe(
        name="credentials-stay-out",
        title="the valid key as headers, Basic and Bearer, to the echo path",
        hint="remove X-Api-Key, X-Secret-Token and a consumed Authorization from the request to the application",
        check=_credentials,
        needs=Need.ECHO,
    ),
    Probe(
        name="identity-stays-in",
        title="the valid key, with Connection: close, X-Gatekey-Organization and its kin, to the echo path",
        hint=(
            "a client can have its identity headers removed: blank the client's Connection header before the "
            "proxy adds them"
        ),
        check=_kept_identity,
        needs=Need.ECHO,
    ),
)
