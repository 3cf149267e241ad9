"""``/v1/organizations``: tenants."""

from __future__ import annotations

from flask import Blueprint, request

from backends.errors import Conflict
from service.web.answers import ApiError
from service.web.management_operation import READ, WRITE, Call, operation
from service.web.management_reply import Reply
from service.web.schemas.answers import OrganizationPage, OrganizationView, WrittenOrganization
from service.web.schemas.bodies import ChangeOrganization, CreateOrganization
from service.web.schemas.queries import NoQuery, OrganizationsQuery, WriteQuery
from service.web.schemas.reading import NoBody

__all__ = ["blueprint"]

TAG = "Organizations"

blueprint = Blueprint("organizations", __name__, url_prefix="/organizations")


@blueprint.post("")
@operation(
    WRITE,
    tag=TAG,
    answers={201: WrittenOrganization},
    query=WriteQuery,
    body=CreateOrganization,
    once=True,
    refusals=(409,),
)
async def create_organization(call: Call[WriteQuery, CreateOrganization]) -> Reply:
    """Make an organization. Only keys of the reserved organization `gatekey` may."""
    try:
        made = await call.manager.create_organization(call.actor, call.body.organization_id, name=call.body.name)
    except Conflict:
        if not call.attempt.repeated:
            raise
        made = await call.manager.get_organization(call.actor, call.body.organization_id)  # by the run that was cut off
    answer = WrittenOrganization.after(made, await call.in_force())
    return Reply(answer, 201, {"Location": f"/v1/organizations/{made.organization_id}"})


@blueprint.get("")
@operation(READ, tag=TAG, answers={200: OrganizationPage}, query=OrganizationsQuery, body=NoBody)
async def list_organizations(call: Call[OrganizationsQuery, NoBody]) -> Reply:
    """List the organizations that the caller reaches, by identifier."""
    page = await call.manager.list_organizations(call.actor, after=call.query.cursor or "", limit=call.query.limit)
    items = tuple(OrganizationView.of(item) for item in page.items)
    return Reply(OrganizationPage(items=items, next_cursor=page.next_after))


@blueprint.get("/<slug:organization_id>")
@operation(READ, tag=TAG, answers={200: OrganizationView}, query=NoQuery, body=NoBody, refusals=(404,))
async def show_organization(call: Call[NoQuery, NoBody], organization_id: str) -> Reply:
    """Show an organization."""
    return Reply(OrganizationView.of(await call.manager.get_organization(call.actor, organization_id)))


@blueprint.patch("/<slug:organization_id>")
@operation(
    WRITE,
    tag=TAG,
    answers={200: WrittenOrganization},
    query=WriteQuery,
    body=ChangeOrganization,
    refusals=(404, 412),
)
async def change_organization(call: Call[WriteQuery, ChangeOrganization], organization_id: str) -> Reply:
    """Disable or enable an organization. None of a disabled one's keys is valid. Only keys of `gatekey` may."""
    if "If-Match" in request.headers and not request.if_match.star_tag:
        raise ApiError(412)  # an organization has no version, so no tag can match
    changed = await call.manager.set_organization_active(call.actor, organization_id, call.body.is_active)
    return Reply(WrittenOrganization.after(changed, await call.in_force()))
