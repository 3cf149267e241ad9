"""``operation``: what stands around every management view, so that a view only parses, makes one call and renders.

In this order: the caller's key and scope, an idempotent request's answer from before, query and body, the view, and
errors as HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from flask import Response, g, request
from pydantic import BaseModel

from service.manage.actor import Actor
from service.web.answers import ApiError
from service.web.idempotency import Attempt, answered_once
from service.web.management_errors import told_as_http
from service.web.management_reply import Reply, rendered
from service.web.openapi_operation import Operation, describe
from service.web.protect import api_key_required, current_key, gatekey_of_app
from service.web.schemas.queries import WriteQuery
from service.web.schemas.reading import parse_body, parse_query
from service.web.wsgi_request import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from service.manage.manager import InForce, KeyManager
    from service.runtime import Gatekey

__all__ = ["READ", "WRITE", "Call", "operation"]

READ: Final = "gatekey:read"
WRITE: Final = "gatekey:write"

_Q = TypeVar("_Q", bound=BaseModel)
_B = TypeVar("_B", bound=BaseModel)
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Call(Generic[_Q, _B]):
    """One request as a view sees it."""

    gatekey: Gatekey
    actor: Actor
    query: _Q
    body: _B
    attempt: Attempt

    @property
    def manager(self) -> KeyManager:
        """What does it."""
        return self.gatekey.manager

    @property
    def now(self) -> datetime:
        """The time."""
        return self.gatekey.clock.now()

    async def expected_version(self, key_id: str) -> int | None:
        """The version that ``If-Match`` asks for, ``None`` where any will do; raises ``ApiError`` 412, ``NotFound``."""
        if "If-Match" not in request.headers or request.if_match.star_tag:
            return None
        version = (await self.manager.get_key(self.actor, key_id)).version
        if not request.if_match.contains(str(version)):
            raise ApiError(412)
        return version

    async def in_force(self) -> InForce:
        """When the change that was made now counts."""
        return await self.manager.in_force(wait=isinstance(self.query, WriteQuery) and self.query.wait)


def operation(
    scope: str,
    *,
    tag: str,
    answers: dict[int, type[BaseModel] | str | None],
    query: type[_Q],
    body: type[_B],
    media_type: str = "",
    versioned: bool = False,
    once: bool = False,
    repeatable: bool = True,
    refusals: tuple[int, ...] = (),
) -> Callable[
    [Callable[Concatenate[Call[_Q, _B], _P], Awaitable[Reply | Response]]], Callable[_P, Awaitable[Response]]
]:
    """A management view for callers with ``scope``.

    ``media_type`` is that of a body which the view reads itself. ``once``: it takes ``Idempotency-Key``, and a run that
    was cut off may be repeated unless not ``repeatable``.
    """
    described = Operation(
        tag=tag,
        scope=scope,
        answers=answers,
        query=query,
        body=media_type or body,
        versioned=versioned,
        idempotent=once,
        refusals=refusals,
    )

    def decorate(
        view: Callable[Concatenate[Call[_Q, _B], _P], Awaitable[Reply | Response]],
    ) -> Callable[_P, Awaitable[Response]]:
        @describe(described)
        @api_key_required(scopes=[scope], client="api", own_path=True)
        @wraps(view)
        async def run(*args: _P.args, **kwargs: _P.kwargs) -> Response:
            gatekey, actor = gatekey_of_app(), _actor(gatekey_of_app())

            async def carry_out(attempt: Attempt) -> Any:
                found = parse_query(query, request)
                is_read_here = not media_type and request.method not in _BODILESS
                read = parse_body(body, request, optional=not described.body_is_required) if is_read_here else body()
                return await view(Call(gatekey, actor, found, read, attempt), *args, **kwargs)

            with told_as_http():
                if not once:
                    return rendered(await carry_out(Attempt()))
                return rendered(
                    await answered_once(
                        carry_out,
                        actor=actor,
                        journal=gatekey.store.journal,
                        peppers=gatekey.settings.make_peppers,
                        now=gatekey.clock.now(),
                        repeatable=repeatable,
                    )
                )

        return run

    return decorate


_BODILESS: Final = ("GET", "HEAD", "DELETE")


def _actor(gatekey: Gatekey) -> Actor:
    """Who asks, as the management and its audit trail know them."""
    return Actor(
        organization_id=current_key.organization_id,
        name=f"key:{current_key.key_id}",
        scopes=current_key.scopes,
        client_ip=gatekey.proxies.scheme_and_client(WsgiRequest(request.environ))[1],
        request_id=g.gatekey_request_id,
    )
