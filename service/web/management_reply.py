"""A management view's answer before it is a response: kept so, it can be stored and given again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response

from service.web.schemas.answers import AnswerModel

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reply", "private", "rendered"]


@dataclass(frozen=True, slots=True)
class Reply:
    """``body`` is what is shown, or the same as it was stored; ``None`` for a 304."""

    body: AnswerModel | Mapping[str, Any] | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def rendered(reply: Reply | Response) -> Response:
    """As a response; one that a view has made itself passes."""
    if isinstance(reply, Response):
        return private(reply)
    if reply.body is None:
        response = Response(status=reply.status)
    else:
        text = reply.body.model_dump_json() if isinstance(reply.body, AnswerModel) else orjson.dumps(reply.body)
        response = Response(text, status=reply.status, mimetype="application/json")
    response.headers.update(reply.headers)
    return private(response)


def private(response: Response) -> Response:
    """The response as it concerns one caller only: nobody may keep it for another."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Authorization, X-Api-Key, X-Secret-Token"
    return response
