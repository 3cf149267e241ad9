"""Who may give what to a key (contract 3); the one place of these rules.

Taking power away from a key (disable, revoke, delete, cut its old secret, remove a scope) is for everybody who reaches it.
Giving it any, or taking it over, is only for those who hold its ``gatekey:`` scopes themselves: else a key that may
write keys could make itself whatever another one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backends.records import KeyState
from service.manage.errors import Forbidden

if TYPE_CHECKING:
    from backends.records import KeyRecord
    from service.manage.actor import Actor

__all__ = ["CANNOT_GRANT", "check_grant", "check_operator", "check_update"]

CANNOT_GRANT: Final = "a gatekey: scope can be granted only by whoever holds it"
_POWER: Final = ("domains", "origins", "networks", "expires_at", "critical", "secret")


def check_operator(actor: Actor) -> None:
    """Raises ``Forbidden`` for everybody but the installation's operators."""
    if not actor.reaches_everything:
        raise Forbidden("organizations are made and switched by operators of the installation only")


def check_grant(actor: Actor, scopes: tuple[str, ...]) -> None:
    """Raises ``Forbidden`` when one of the scopes is not the actor's to give."""
    if actor.ungrantable(scopes):
        raise Forbidden(CANNOT_GRANT)


def _check_empower(actor: Actor, record: KeyRecord) -> None:
    """Raises ``Forbidden`` when the key holds what the actor does not, so that it must not gain from the key."""
    if actor.ungrantable(record.scopes):
        raise Forbidden("this key holds a gatekey: scope that you do not hold")


def check_update(actor: Actor, before: KeyRecord, after: KeyRecord) -> None:
    """Raises ``Forbidden`` when the change gives the key, or the actor, what the actor may not give.

    A new secret is such a gift: whoever makes it knows it.
    """
    check_grant(actor, tuple(scope for scope in after.scopes if scope not in before.scopes))
    enabled = after.state is KeyState.ACTIVE and before.state is not KeyState.ACTIVE
    if enabled or any(getattr(before, field) != getattr(after, field) for field in _POWER):
        _check_empower(actor, after)
