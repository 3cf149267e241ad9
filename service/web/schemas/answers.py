"""The bodies of answers. No hash of a secret has a place in them, and a secret only where it was made in this moment."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from backends.records import Organization
    from service.manage.manager import InForce

__all__ = [
    "AnswerModel",
    "InForceView",
    "OrganizationPage",
    "OrganizationView",
    "Verdict",
    "Whoami",
    "WrittenOrganization",
    "view_of_in_force",
]


class AnswerModel(BaseModel):
    """What every answer has in common: nothing can be changed once it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class InForceView(AnswerModel):
    """When a change counts."""

    here: Annotated[
        bool | None, Field(description="In the process that answers; null where nobody waited (see `wait`).")
    ]
    everywhere_by: Annotated[datetime, Field(description="In every process at the latest, whatever fails.")]
    durable: Annotated[bool, Field(description="false: fewer copies of the store confirmed it than it has.")]


class OrganizationView(AnswerModel):
    """A tenant."""

    organization_id: str
    name: str
    is_active: bool
    created_at: datetime

    @classmethod
    def of(cls, organization: Organization) -> Self:
        """As it is shown."""
        return cls(**_organization(organization))


class WrittenOrganization(OrganizationView):
    """A tenant that was changed."""

    in_force: InForceView

    @classmethod
    def after(cls, organization: Organization, in_force: InForce) -> Self:
        """As it is shown to whoever changed it."""
        return cls(**_organization(organization), in_force=view_of_in_force(in_force))


class OrganizationPage(AnswerModel):
    """A page of tenants."""

    items: tuple[OrganizationView, ...]
    next_cursor: str | None


class Whoami(AnswerModel):
    """Who the credentials belong to."""

    key_id: str
    method: str
    name: str
    organization_id: str
    scopes: tuple[str, ...]


class Verdict(AnswerModel):
    """Whether somebody's credentials are valid; ``code`` only if they are not, the others only if they are."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    code: str | None = None
    expires_at: datetime | None = None
    key_id: str | None = None
    organization_id: str | None = None
    scopes: tuple[str, ...] | None = None
    valid: bool


def view_of_in_force(in_force: InForce) -> InForceView:
    """As it is shown."""
    return InForceView(here=in_force.here, everywhere_by=in_force.everywhere_by, durable=in_force.durable)


def _organization(organization: Organization) -> dict[str, Any]:
    return {name: getattr(organization, name) for name in ("organization_id", "name", "is_active", "created_at")}
