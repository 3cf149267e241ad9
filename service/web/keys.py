"""``/v1/organizations/<id>/keys`` and ``/v1/keys/<key_id>``: keys, one by one and in lists."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from flask import Blueprint, request

from backends.errors import Conflict, StoreError
from backends.records import KeyState
from service.manage.manager import IssuedKey
from service.web.management_operation import READ, WRITE, Call, operation
from service.web.management_reply import Reply
from service.web.schemas.answers import view_of_in_force
from service.web.schemas.bodies import ChangeKey, CreateKey
from service.web.schemas.key_answers import DeletedKey, IssuedKeyView, KeyPage, KeyView, WrittenKey
from service.web.schemas.queries import KeysQuery, NoQuery, OrganizationKeysQuery, WriteQuery
from service.web.schemas.reading import NoBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from backends.journal import LastUse
    from backends.records import KeyRecord

__all__ = ["TAG", "blueprint", "issued"]

TAG = "Keys"

_Q = TypeVar("_Q", bound="BaseModel")
_B = TypeVar("_B", bound="BaseModel")

blueprint = Blueprint("keys", __name__)


@blueprint.post("/organizations/<slug:organization_id>/keys")
@operation(
    WRITE, tag=TAG, answers={201: IssuedKeyView}, query=WriteQuery, body=CreateKey, once=True, refusals=(404, 409)
)
async def create_key(call: Call[WriteQuery, CreateKey], organization_id: str) -> Reply:
    """Make a key. Its `secret_token` is in this answer and nowhere else, ever."""
    draft = call.body.draft(organization_id, now=call.now, key_id=call.attempt.key_id)
    made: IssuedKey | KeyRecord
    try:
        made = await call.manager.create_key(call.actor, draft)
    except Conflict:
        if not call.attempt.repeated or draft.key_id is None:
            raise
        made = await call.manager.get_key(call.actor, draft.key_id)  # made by the run that was cut off
    return await issued(call, made, status=201)


@blueprint.get("/organizations/<slug:organization_id>/keys")
@operation(READ, tag=TAG, answers={200: KeyPage}, query=OrganizationKeysQuery, body=NoBody, refusals=(404,))
async def list_organization_keys(call: Call[OrganizationKeysQuery, NoBody], organization_id: str) -> Reply:
    """List an organization's keys by identifier, all or those that match."""
    return await _page(call, organization_id)


@blueprint.get("/keys")
@operation(READ, tag=TAG, answers={200: KeyPage}, query=KeysQuery, body=NoBody, refusals=(404,))
async def list_keys(call: Call[KeysQuery, NoBody]) -> Reply:
    """List the keys of every organization that the caller reaches, or of one, all or those that match."""
    return await _page(call, call.query.organization_id)


@blueprint.get("/keys/<key:key_id>")
@operation(READ, tag=TAG, answers={200: KeyView, 304: None}, query=NoQuery, body=NoBody, refusals=(404,))
async def show_key(call: Call[NoQuery, NoBody], key_id: str) -> Reply:
    """Show a key."""
    record = await call.manager.get_key(call.actor, key_id)
    if request.if_none_match.contains_weak(str(record.version)):
        return Reply(None, 304, _etag(record))
    last = await call.manager.last_use(call.actor, [record])
    return Reply(KeyView.of(record, last.get(key_id), now=call.now), headers=_etag(record))


@blueprint.patch("/keys/<key:key_id>")
@operation(
    WRITE,
    tag=TAG,
    answers={200: WrittenKey},
    query=WriteQuery,
    body=ChangeKey,
    versioned=True,
    refusals=(409,),
)
async def change_key(call: Call[WriteQuery, ChangeKey], key_id: str) -> Reply:
    """Change some of a key's fields."""
    version = await call.expected_version(key_id)
    changes = call.body.changes(call.now)
    return await _written(call, await call.manager.update_key(call.actor, key_id, changes, expected_version=version))


@blueprint.delete("/keys/<key:key_id>")
@operation(
    WRITE,
    tag=TAG,
    answers={200: DeletedKey},
    query=WriteQuery,
    body=NoBody,
    versioned=True,
)
async def delete_key(call: Call[WriteQuery, NoBody], key_id: str) -> Reply:
    """Forget a key. Its entries in the audit trail stay."""
    version = await call.expected_version(key_id)
    await call.manager.delete_key(call.actor, key_id, expected_version=version)
    return Reply(DeletedKey(key_id=key_id, in_force=view_of_in_force(await call.in_force())))


@blueprint.post("/keys/<key:key_id>/revoke")
@operation(
    WRITE,
    tag=TAG,
    answers={200: WrittenKey},
    query=WriteQuery,
    body=NoBody,
    versioned=True,
    once=True,
    refusals=(409,),
)
async def revoke_key(call: Call[WriteQuery, NoBody], key_id: str) -> Reply:
    """Revoke a key, for good; doing so again changes nothing."""
    version = await call.expected_version(key_id)
    revoked = await call.manager.set_state(call.actor, key_id, KeyState.REVOKED, expected_version=version)
    return await _written(call, revoked)


def _etag(record: KeyRecord) -> dict[str, str]:
    """A strong tag, of the version alone: use of a key does not change it."""
    return {"ETag": f'"{record.version}"'}


async def _written(call: Call[_Q, _B], record: KeyRecord) -> Reply:
    """The answer to a change of a key."""
    return Reply(await _view(call, record), headers=_etag(record))


async def issued(call: Call[_Q, _B], made: IssuedKey | KeyRecord, *, status: int = 200) -> Reply:
    """The answer with a secret that was made now; of a record alone nobody knows the secret any more."""
    record, secret = (made.record, made.secret.reveal()) if isinstance(made, IssuedKey) else (made, None)
    answer = IssuedKeyView(**dict(await _view(call, record)), secret_token=secret)
    return Reply(answer, status, {**_etag(record), "Location": f"/v1/keys/{record.key_id}"})


async def _view(call: Call[_Q, _B], record: KeyRecord) -> WrittenKey:
    """The key as changed; that its last use cannot be read must not lose the answer, which may hold the only secret."""
    last: Mapping[str, LastUse] = {}
    with suppress(StoreError):
        last = await call.manager.last_use(call.actor, [record])
    return WrittenKey.after(record, last.get(record.key_id), await call.in_force(), now=call.now)


async def _page(call: Call[OrganizationKeysQuery, NoBody] | Call[KeysQuery, NoBody], organization: str | None) -> Reply:
    where = call.query.where(organization)
    page = await call.manager.list_keys(call.actor, where, after=call.query.cursor or "", limit=call.query.limit)
    last = await call.manager.last_use(call.actor, page.items)
    items = tuple(KeyView.of(item, last.get(item.key_id), now=call.now) for item in page.items)
    return Reply(KeyPage(items=items, next_cursor=page.next_after))
