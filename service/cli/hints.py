"""What an operator can do about a denial: a sentence for each reason that `gatekey explain` can find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backends.records import KeyState
from service.auth.reasons import Reason

if TYPE_CHECKING:
    from service.manage.explain import Explanation

__all__ = ["hint_for"]

_HINTS: Final = {
    Reason.MISSING_CREDENTIALS: "send the api_key and its secret",
    Reason.MALFORMED_KEY: "copy the key and the secret again, whole and without anything around them",
    Reason.UNKNOWN_KEY: "no key has this api_key: `gatekey keys list` shows those that there are",
    Reason.BAD_SECRET: "use the secret shown when {key} was made or rotated; `gatekey keys rotate {key}` gives a new one",
    Reason.WRONG_ORGANIZATION: "use a key of the organization that the policy or GATEKEY_ORGANIZATION_ID names",
    Reason.WRONG_DOMAIN: "make a key for this domain, or add it to the domains of {key}: PATCH /v1/keys/{key}",
    Reason.EXPIRED: "move its expires_at, PATCH /v1/keys/{key}, or make a new key",
    Reason.ORIGIN_NOT_ALLOWED: "add the page's origin to {key}, PATCH /v1/keys/{key}; without --origin none was sent",
    Reason.NETWORK_NOT_ALLOWED: "add the client's network to {key}, PATCH /v1/keys/{key}; without --client-ip it is unknown",
    Reason.INSUFFICIENT_SCOPE: "add the scope to {key}, PATCH /v1/keys/{key}, or use another key",
    Reason.STORE_UNAVAILABLE: "look after the store; known keys still pass for a while",
    Reason.STORE_CORRUPT: "put right what is stored for this key, or give back its pepper (`gatekey pepper status`)",
}


def hint_for(found: Explanation) -> str:
    """One sentence; empty where the request is allowed."""
    key = "KEY_ID" if found.record is None else found.record.key_id
    if found.reason is Reason.INACTIVE:
        state = None if found.record is None else found.record.state
        if state is KeyState.REVOKED:
            return "a revoked key stays revoked: make a new one"
        if state is KeyState.DISABLED:
            return f"`gatekey keys enable {key}`"
        owner = "ORG" if found.record is None else found.record.organization_id
        return f"`gatekey orgs enable {owner}`"
    return _HINTS.get(found.reason, "").format(key=key)
