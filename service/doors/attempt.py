"""What every door shares: reading credentials, the shadow mode, and counting a decision once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.auth.credentials import Form, read_credentials
from service.auth.decision import Decision
from service.auth.reasons import Reason
from service.doors.raw import UNREADABLE

if TYPE_CHECKING:
    from service.auth.credentials import Credentials
    from service.doors.raw import RawRequest

__all__ = ["credentials_from_values", "credentials_of", "shadowed"]

_IN_AUTHORIZATION: Final = frozenset({Form.BASIC, Form.BEARER})


def credentials_of(raw: RawRequest, forms: frozenset[Form]) -> tuple[Credentials | Reason, bool]:
    """The presented credentials (or why there are none that count), and whether any were presented at all."""
    authorizations = raw.headers("authorization")
    if UNREADABLE in authorizations and forms & _IN_AUTHORIZATION:  # of which scheme, not every server tells
        return Reason.MALFORMED_KEY, True
    return read_credentials(raw.headers("x-api-key"), raw.headers("x-secret-token"), authorizations, forms)


def credentials_from_values(api_key: str, secret_token: str) -> Credentials | Reason:
    """The same for a pair that came in a JSON body."""
    return read_credentials([api_key], [secret_token], [], frozenset({Form.HEADERS}))[0]


def shadowed(decision: Decision) -> Decision:
    """The decision as shadow mode answers it: marked, and what would not have been allowed is, without a key's identity."""
    decision.in_shadow = True
    if decision.allowed:
        return decision
    shadow = Decision(Reason.SHADOW, source=decision.source, key=decision.key, store_seconds=decision.store_seconds)
    shadow.in_shadow = True
    shadow.shadowed = decision.reason
    return shadow
