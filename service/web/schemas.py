"""The bodies of Gatekey's own API, checked as a whole; a problem names the field and never its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.auth.domains import Target, parse_target_url
from service.auth.rules import canonical_scope
from service.doors.peers import parse_address
from service.web.answers import ApiError

if TYPE_CHECKING:
    from flask import Request

__all__ = ["VerifyRequest", "parse_body"]

_Model = TypeVar("_Model", bound=BaseModel)


class VerifyRequest(BaseModel):
    """Body of ``POST /v1/keys/verify`` (contract 3). Unknown fields are refused: a typo must not widen a check."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    api_key: Annotated[str, Field(max_length=4096, repr=False)]
    secret_token: Annotated[str, Field(max_length=4096, repr=False)]
    domain: Annotated[str, Field(max_length=8192)]
    scopes: tuple[str, ...] = ()
    client_ip: Annotated[str, Field(max_length=64)] | None = None
    origin: Annotated[str, Field(max_length=1024)] | None = None

    @field_validator("domain")
    @classmethod
    def _domain_is_addressable(cls, value: str) -> str:
        if parse_target_url(value) is None:
            raise ValueError("must be a host name, host:port or an http(s) URL")
        return value

    @field_validator("scopes", mode="before")
    @classmethod
    def _scopes_are_scopes(cls, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > 32 or not all(isinstance(item, str) for item in value):  # noqa: PLR2004 - contract 3
            raise ValueError("must be a list of at most 32 scopes")
        return tuple(canonical_scope(item) for item in value)

    @field_validator("client_ip")
    @classmethod
    def _client_ip_is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = parse_address(value)
        if address is None:
            raise ValueError("must be an IP address")
        return str(address)

    @property
    def target(self) -> Target | None:
        """What the key would be used for."""
        return parse_target_url(self.domain)


def parse_body(model: type[_Model], request: Request) -> _Model:
    """The request's JSON body as ``model``; raises ``ApiError`` 415, 400 or 422."""
    if request.mimetype != "application/json":
        raise ApiError(415, detail="Send the body as application/json.")
    try:
        data = orjson.loads(request.get_data(cache=False))
    except orjson.JSONDecodeError:
        raise ApiError(400, detail="The body is not JSON.") from None
    if not isinstance(data, dict):
        raise ApiError(422, detail="The body must be a JSON object.")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ApiError(422, detail=_told(error)) from None


def _told(error: ValidationError) -> str:
    problems = []
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        field = ".".join(str(part) for part in item["loc"])[:64]
        problems.append(f"{field}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
