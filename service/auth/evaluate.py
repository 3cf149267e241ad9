"""The pure rules of a decision: no I/O, no clock, no state. The order is the contract's and decides which reason is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.errors import StoreCorrupt
from backends.records import KeyState
from service.auth.reasons import Reason
from service.auth.rules import KeyRules, missing_scopes

if TYPE_CHECKING:
    from backends.records import FoundKey, KeyRecord, SecretHash
    from service.auth.decision import AccessRequest

__all__ = ["LoadedKey", "evaluate"]


class LoadedKey:
    """A record as this process uses it: checked and compiled once, when it was loaded, then only read."""

    __slots__ = ("_previous_expires_at", "expires_at", "is_active", "record", "rules")

    def __init__(self, found: FoundKey) -> None:
        """Compile ``found``; raises ``StoreCorrupt`` when a stored rule is not in canonical form."""
        record = found.key
        self.record: KeyRecord = record
        try:
            self.rules = KeyRules.compile(record)
        except ValueError as error:
            raise StoreCorrupt("a rule of the stored key is not in canonical form") from error
        self.is_active = record.state is KeyState.ACTIVE and found.organization_is_active
        """Both the key and its organization."""
        self.expires_at = None if record.expires_at is None else record.expires_at.timestamp()
        """Seconds since the Unix epoch, ``None`` for a key that does not expire."""
        previous = record.previous_expires_at
        self._previous_expires_at = None if previous is None else previous.timestamp()

    def previous_secret(self, wall: float) -> SecretHash | None:
        """The secret from before a rotation while it is accepted; without an end, for as long as it is stored."""
        end = self._previous_expires_at
        return None if end is not None and wall >= end else self.record.previous_secret


def evaluate(
    request: AccessRequest,
    loaded: LoadedKey,
    *,
    secret_matches: bool,
    only_organization: str,
    wall: float,
) -> Reason:
    """Why ``request`` may pass (``Reason.OK``) or not, given the record behind its key.

    ``secret_matches`` is computed by the caller, always, so that every refusal costs the same work;
    ``only_organization`` is the installation's own restriction (``""`` for none); ``wall`` is seconds since the epoch.
    """
    record, rules = loaded.record, loaded.rules
    owner = record.organization_id
    if (request.organization_id and owner != request.organization_id) or (
        only_organization and owner != only_organization
    ):
        return Reason.WRONG_ORGANIZATION
    if not secret_matches:
        return Reason.BAD_SECRET
    if not rules.domains.match(request.target, own_path=request.own_path):
        return Reason.WRONG_DOMAIN
    if not loaded.is_active:
        return Reason.INACTIVE
    if loaded.expires_at is not None and wall >= loaded.expires_at:
        return Reason.EXPIRED
    if not rules.origin_allowed(request.origin):
        return Reason.ORIGIN_NOT_ALLOWED
    if not rules.network_allowed(request.client_ip):
        return Reason.NETWORK_NOT_ALLOWED
    if request.required_scopes and missing_scopes(record.scopes, request.required_scopes):
        return Reason.INSUFFICIENT_SCOPE
    return Reason.OK
