"""``api_key_required`` and ``current_key``: Gatekey's decision in front of a Flask view or a whole blueprint."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from flask import Blueprint, after_this_request, current_app, g, has_request_context, request
from werkzeug.local import LocalProxy

from service.answers.identity import rotation_headers
from service.auth.credentials import Form
from service.auth.decision import AccessRequest, Decision, Door
from service.auth.domains import parse_target
from service.auth.reasons import Reason
from service.doors.attempt import credentials_of, shadowed
from service.observe.request_ids import trace_id_of
from service.portal import guard_before_the_hop
from service.web.answers import flask_response, render_denial
from service.web.wsgi_request import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Response

    from service.auth.loaded import LoadedKey
    from service.runtime import Gatekey

__all__ = [
    "Principal",
    "api_key_required",
    "authorize",
    "authorize_waiting",
    "current_key",
    "gatekey_of_app",
    "is_decided",
]

_ALL_FORMS: Final = frozenset(Form)
_View = TypeVar("_View", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who passed: the key's organization, identifier, name and scopes. All empty where shadow mode let a stranger pass."""

    organization_id: str = ""
    key_id: str = ""
    name: str = ""
    scopes: tuple[str, ...] = ()
    method: str = ""
    """``api-key``, or ``""`` for nobody."""


_NOBODY: Final = Principal()


def _current() -> Principal:
    principal: Principal | None = g.get("gatekey_principal") if has_request_context() else None
    if principal is None:
        raise RuntimeError("current_key is set only inside a view that api_key_required protects")
    return principal


current_key: Principal = cast("Principal", LocalProxy(_current))
"""The principal of the current request; only inside a protected view."""


def gatekey_of_app() -> Gatekey:
    """The running service behind the current application."""
    gatekey: Gatekey = current_app.extensions["gatekey"]
    return gatekey


def is_decided() -> bool:
    """Whether a decision about the current request was made (and so counted and logged)."""
    return "gatekey_decided" in g


@overload
def api_key_required(target: _View, /) -> _View: ...


@overload
def api_key_required(
    target: Blueprint, /, *, scopes: Iterable[str] = (), client: str = "auto", own_path: bool = False
) -> Blueprint: ...


@overload
def api_key_required(
    *, scopes: Iterable[str] = (), client: str = "auto", own_path: bool = False
) -> Callable[[_View], _View]: ...


def api_key_required(
    target: Any = None, /, *, scopes: Iterable[str] = (), client: str = "auto", own_path: bool = False
) -> Any:
    """Let only callers with a valid API key reach a view; works on sync and async views and on whole blueprints.

    ::

        @app.get("/orders")
        @api_key_required(scopes=["orders:read"])
        async def orders(): ...

        api_key_required(blueprint, scopes=["orders:read"])

    ``scopes`` must all be granted to the key. ``client`` says who gets the redirect to the login page instead of JSON:
    ``auto`` (by the request's headers), ``api`` or ``browser``. ``own_path`` is for Gatekey's own routes, where the
    domain ``@gatekey`` matches and shadow mode does not apply.
    """
    required = tuple(scopes)
    if client not in ("auto", "api", "browser"):
        raise ValueError("client is auto, api or browser")

    def guard() -> Response | None:
        return authorize(required, client=client, own_path=own_path)

    async def guard_async() -> Response | None:
        return await authorize_waiting(required, client=client, own_path=own_path)

    def protect(view: _View) -> _View:
        if inspect.iscoroutinefunction(view):

            @wraps(view)
            async def protected_async(*args: Any, **kwargs: Any) -> Any:
                refusal = await guard_async()
                return refusal if refusal is not None else await view(*args, **kwargs)

            guard_before_the_hop(protected_async, guard, view)
            return cast("_View", protected_async)

        @wraps(view)
        def protected(*args: Any, **kwargs: Any) -> Any:
            refusal = guard()
            return refusal if refusal is not None else view(*args, **kwargs)

        return cast("_View", protected)

    if isinstance(target, Blueprint):
        target.before_request(guard)
        return target
    return protect if target is None else protect(target)


def authorize(scopes: tuple[str, ...], *, client: str, own_path: bool) -> Response | None:
    """Decide about the current request on a worker thread: ``None`` when it may pass, else the answer.

    A decision that the cache can make costs no hop to the event loop.
    """
    gatekey = gatekey_of_app()
    question, presented = _question(gatekey, scopes, own_path=own_path)
    decision = gatekey.authenticator.decide_cached(question)
    if decision is None:
        decision = gatekey.portal.run(gatekey.authenticator.decide, question)
    return _conclude(gatekey, question, decision, presented=presented, client=client)


async def authorize_waiting(scopes: tuple[str, ...], *, client: str, own_path: bool) -> Response | None:
    """The same on the event loop."""
    gatekey = gatekey_of_app()
    question, presented = _question(gatekey, scopes, own_path=own_path)
    decision = await gatekey.authenticator.decide(question)
    return _conclude(gatekey, question, decision, presented=presented, client=client)


def _question(gatekey: Gatekey, scopes: tuple[str, ...], *, own_path: bool) -> tuple[AccessRequest, bool]:
    started = gatekey.clock.age()
    raw = WsgiRequest(request.environ)
    credentials, presented = credentials_of(raw, _ALL_FORMS)
    scheme, client_ip = gatekey.proxies.scheme_and_client(raw)
    path = raw.path
    question = AccessRequest(
        credentials=credentials,
        target=parse_target(raw.host, scheme, path),
        own_path=own_path,
        required_scopes=scopes,
        origin=raw.header("origin") or None,
        client_ip=client_ip,
        door=Door.API if own_path else Door.APP,
        started=started,
        method=raw.method,
        path=path,
        user_agent=raw.header("user-agent"),
        request_id=g.gatekey_request_id,
        trace_id=trace_id_of(raw.header("traceparent")),
    )
    tracing = gatekey.observer.tracing
    if tracing is not None:
        tracing.begin(question, raw.header("traceparent"))
    return question, presented


def _conclude(
    gatekey: Gatekey, question: AccessRequest, decision: Decision, *, presented: bool, client: str
) -> Response | None:
    if not question.own_path and gatekey.settings.mode == "shadow":
        decision = shadowed(decision)
    gatekey.observer.decided(question, decision, decision.status)
    g.gatekey_decided = True
    if gatekey.observer.tracing is not None:
        gatekey.observer.tracing.enter(question.span)
    if decision.allowed:
        key = decision.key if decision.reason is Reason.OK else None
        g.gatekey_principal = (
            _NOBODY if key is None else Principal(key.organization_id, key.key_id, key.name, key.scopes, "api-key")
        )
        if key is not None and decision.used_previous:
            _tell_of_rotation(key)
        return None
    return flask_response(render_denial(gatekey, decision.reason, presented=presented, client=client))


def _tell_of_rotation(key: LoadedKey) -> None:
    @after_this_request
    def tell(response: Response) -> Response:
        response.headers.extend(rotation_headers(key))
        return response
