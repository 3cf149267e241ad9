"""``/v1/keys/<key_id>/usage`` and ``/v1/audit``: what keys did, and what was done to them."""

from __future__ import annotations

from flask import Blueprint

from service.web.management_operation import READ, Call, operation
from service.web.management_reply import Reply
from service.web.schemas.queries import AuditQuery, UsageQuery
from service.web.schemas.reading import NoBody, invalid
from service.web.schemas.report_answers import AuditEntryView, AuditPage, UsageView

__all__ = ["blueprint"]

TAG = "Usage and audit"

blueprint = Blueprint("audit", __name__)


@blueprint.get("/keys/<key:key_id>/usage")
@operation(READ, tag=TAG, answers={200: UsageView}, query=UsageQuery, body=NoBody, refusals=(404,))
async def show_usage(call: Call[UsageQuery, NoBody], key_id: str) -> Reply:
    """Count a key's allowed requests by hour or by day (UTC)."""
    try:
        since, until = call.query.span(call.now)
    except ValueError as error:
        raise invalid([("since", str(error))]) from None
    counts = await call.manager.usage(call.actor, key_id, since=since, until=until, by=call.query.by)
    return Reply(UsageView.of(counts, key_id=key_id, by=call.query.by, since=since, until=until))


@blueprint.get("/audit")
@operation(READ, tag=TAG, answers={200: AuditPage}, query=AuditQuery, body=NoBody, refusals=(404,))
async def list_audit(call: Call[AuditQuery, NoBody]) -> Reply:
    """List what was done to an organization and its keys, newest first."""
    query = call.query
    page = await call.manager.list_audit(call.actor, query.organization_id, after=query.cursor or "", limit=query.limit)
    items = tuple(AuditEntryView.of(entry) for entry in page.items)
    return Reply(AuditPage(items=items, next_cursor=page.next_after))
