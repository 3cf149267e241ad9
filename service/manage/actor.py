"""Who does something to a key, and whom that may concern (contract 1 and 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.auth.rules import RESERVED_SCOPES

__all__ = ["OPERATORS", "Actor"]

OPERATORS: Final = "gatekey"
"""The reserved organization of the installation's operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody who was let in already; ``name`` is ``key:<key_id>`` or ``command:<user of the machine>``."""

    organization_id: str
    name: str
    scopes: tuple[str, ...]
    client_ip: str = ""
    request_id: str = ""
    unlimited: bool = False
    """A command on the machine itself: whoever can reach the store directly may grant anything."""

    @property
    def reaches_everything(self) -> bool:
        """Whether every organization is this actor's affair."""
        return self.organization_id == OPERATORS

    def reaches(self, organization_id: str) -> bool:
        """Whether the organization and its keys exist for this actor."""
        return self.reaches_everything or organization_id == self.organization_id

    def ungrantable(self, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``scopes`` that this actor must not give to a key: ``gatekey:`` scopes that it has not itself."""
        if self.unlimited:
            return ()
        return tuple(scope for scope in scopes if scope.startswith(RESERVED_SCOPES) and scope not in self.scopes)
