"""``/v1/keys/<key_id>/rotate``: a new secret under the same ``key_id``, and what becomes of the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

from service.web.keys import TAG, issued
from service.web.management_operation import WRITE, Call, operation
from service.web.schemas.bodies import RotateKey
from service.web.schemas.key_answers import IssuedKeyView
from service.web.schemas.queries import WriteQuery

if TYPE_CHECKING:
    from service.web.management_reply import Reply

__all__ = ["blueprint"]

blueprint = Blueprint("rotation", __name__, url_prefix="/keys")


@blueprint.post("/<key:key_id>/rotate")
@operation(
    WRITE,
    tag=TAG,
    answers={200: IssuedKeyView},
    query=WriteQuery,
    body=RotateKey,
    versioned=True,
    once=True,
    repeatable=False,  # a second rotation would end the secret that clients still use
    refusals=(409,),
)
async def rotate_key(call: Call[WriteQuery, RotateKey], key_id: str) -> Reply:
    """Give a key a new secret, or undo that. With `cancel` the old secret is the only one again, with `cut` it ends now."""
    version = await call.expected_version(key_id)
    if call.body.cancel:
        return await issued(call, await call.manager.cancel_rotation(call.actor, key_id, expected_version=version))
    if call.body.cut:
        return await issued(call, await call.manager.cut_previous(call.actor, key_id, expected_version=version))
    made = await call.manager.rotate(
        call.actor, key_id, grace=call.body.grace, limit=call.body.limit, expected_version=version
    )
    return await issued(call, made)
