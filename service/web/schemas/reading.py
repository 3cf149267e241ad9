"""From a request to a checked model, or to the ``ApiError`` that says what is wrong with it.

A problem names the field and never its value; a name that is none of ours is told only if it looks like a mistyped one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from service.auth.key_fields import read_json
from service.web.answers import ApiError

if TYPE_CHECKING:
    from flask import Request

__all__ = ["Body", "NoBody", "Query", "invalid", "parse_body", "parse_query"]

_Model = TypeVar("_Model", bound=BaseModel)
_NAME: Final = re.compile(r"[A-Za-z_]{1,30}")
_MAX_TOLD: Final = 20
_WORDS: Final = {"extra_forbidden": "is not known here", "missing": "is missing"}


class Body(BaseModel):
    """A JSON object. Unknown fields are refused: a typo must not widen what was meant."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class NoBody(Body):
    """Nothing, or ``{}``."""


class Query(BaseModel):
    """The parameters of an address, each at most once; unknown ones are refused for the same reason."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def parse_body(model: type[_Model], request: Request, *, optional: bool = False) -> _Model:
    """The request's JSON body as ``model``; raises ``ApiError`` 415, 400 or 422. ``optional``: no body means ``{}``."""
    data = request.get_data(cache=False)
    if optional and not data:
        return _checked(model, {}, whole="body")
    if request.mimetype != "application/json":
        raise ApiError(415, detail="Send the body as application/json.")
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ApiError(400, detail="The body is not JSON.") from None
    if not isinstance(found, dict):
        raise ApiError(422, detail="The body must be a JSON object.")
    try:
        found = read_json(data.decode())  # knows what stands twice, and whole numbers of any size
    except ValueError as error:
        raise invalid([("body", str(error))]) from None
    return _checked(model, found, whole="body")


def parse_query(model: type[_Model], request: Request) -> _Model:
    """The query as ``model``; raises ``ApiError`` 422."""
    found: dict[str, Any] = {}
    for name, values in request.args.lists():
        if len(values) != 1:
            raise invalid([(_told_name(name), "is given more than once")])
        found[name] = values[0]
    return _checked(model, found, whole="query")


def invalid(problems: list[tuple[str, str]]) -> ApiError:
    """422 for fields with their problems: in words, and as ``errors`` for programs."""
    return ApiError(
        422,
        detail="; ".join(f"{field}: {problem}" for field, problem in problems),
        members={"errors": [{"field": field, "problem": problem} for field, problem in problems]},
    )


def _checked(model: type[_Model], data: dict[str, Any], *, whole: str) -> _Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid(_problems(error, whole)) from None


def _problems(error: ValidationError, whole: str) -> list[tuple[str, str]]:
    """Each with its field; ``whole`` stands for what is wrong with all of them together."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_TOLD]
    return [
        (
            ".".join(_told_name(part) for part in item["loc"]) or whole,
            _WORDS.get(item["type"]) or item["msg"].removeprefix("Value error, "),
        )
        for item in found
    ]


def _told_name(name: str | int) -> str:
    text = str(name)
    return text if isinstance(name, int) or _NAME.fullmatch(text) else "(a name that is none)"
