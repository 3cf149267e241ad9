"""The pure rules of a decision: no I/O, no clock, no state. The order is the contract's and decides which reason is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.auth.reasons import Reason
from service.auth.rules import missing_scopes

if TYPE_CHECKING:
    from service.auth.decision import AccessRequest
    from service.auth.loaded import LoadedKey

__all__ = ["evaluate"]


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
    terms = loaded.terms
    owner, rules = loaded.organization_id, terms.rules
    if (request.organization_id and owner != request.organization_id) or (
        only_organization and owner != only_organization
    ):
        return Reason.WRONG_ORGANIZATION
    if not secret_matches:
        return Reason.BAD_SECRET
    if not rules.domains.match(request.target, own_path=request.own_path):
        return Reason.WRONG_DOMAIN
    if not terms.is_active:
        return Reason.INACTIVE
    if loaded.has_expired(wall):
        return Reason.EXPIRED
    if not rules.origin_allowed(request.origin):
        return Reason.ORIGIN_NOT_ALLOWED
    if not rules.network_allowed(request.client_ip):
        return Reason.NETWORK_NOT_ALLOWED
    if request.required_scopes and missing_scopes(terms.scopes, request.required_scopes):
        return Reason.INSUFFICIENT_SCOPE
    return Reason.OK
