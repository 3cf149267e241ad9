"""The Flask application around one ``Gatekey``: request ids, limits and roles before a view, one error handler after it."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import structlog
from flask import Flask, Response, abort, g, request
from werkzeug.exceptions import HTTPException

from service.doors.refused import log_refused
from service.observe.request_ids import request_id_for
from service.portal import DeadlineExceeded, PortalClosed, PortalFlask
from service.web import api, health, login, openapi_page
from service.web.answers import ApiError, flask_response, render_error
from service.web.doors import add_doors
from service.web.management import add_management
from service.web.protect import gatekey_of_app, is_decided
from service.web.wsgi_request import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.runtime import Gatekey

__all__ = ["make_flask_app"]

MAX_BODY: Final = 1024 * 1024
MAX_HEADERS: Final = 16 * 1024

_log = structlog.get_logger(__name__)

_HEALTH: Final = ("/livez", "/readyz", "/metrics")
_ROUTE_GROUPS: Final = {
    "gatekey.door": "other",  # for what is refused before a door sees it; a door counts itself
    "gatekey_api.verify": "verify",
    "gatekey_api.whoami": "whoami",
    "gatekey_login.login": "login",
    "gatekey_health.livez": "health",
    "gatekey_health.readyz": "health",
    "gatekey_health.metrics": "metrics",
}
_BLUEPRINT_GROUPS: Final = {"gatekey_management": "management", "gatekey_docs": "docs"}


def make_flask_app(gatekey: Gatekey) -> Flask:
    """The application. Views of the embedding program may be added to it; the routes here are Gatekey's own."""
    app = PortalFlask("service.web", gatekey.portal, static_folder=None)
    app.extensions["gatekey"] = gatekey
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.url_map.merge_slashes = False  # a door matches its path exactly and never redirects
    app.register_blueprint(api.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(login.blueprint)
    app.register_blueprint(openapi_page.blueprint)
    add_management(app)
    add_doors(app)
    if gatekey.observer.tracing is not None:
        app.teardown_request(gatekey.observer.tracing.leave)
    app.before_request(_begin)
    app.after_request(_finish)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(DeadlineExceeded, _too_slow)
    app.register_error_handler(PortalClosed, _too_slow)
    app.register_error_handler(Exception, _defect)
    return app


def _begin() -> None:
    """Give the request its id, and refuse what no view should see (a door itself says what it thinks of a body)."""
    g.gatekey_started = perf_counter()
    g.gatekey_request_id = request_id_for(request.environ.get("HTTP_X_REQUEST_ID"))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.gatekey_request_id)
    if _header_bytes() > MAX_HEADERS:
        abort(431)
    if request.environ.get("PATH_INFO", "").startswith("//") or not _served(
        gatekey_of_app().settings.role, request.path
    ):
        abort(404)  # werkzeug would take //console for /console, which a proxy's rules may not
    if request.endpoint != "gatekey.door" and (request.content_length or 0) > MAX_BODY:
        abort(413)


def _finish(response: Response) -> Response:
    group = _route_group(request.endpoint)
    if not g.get("gatekey_counted", False):
        elapsed = perf_counter() - g.gatekey_started
        gatekey_of_app().metrics.http_request(group, response.status_code, elapsed)
    response.headers.setdefault("X-Request-Id", g.gatekey_request_id)
    if "Allow" in response.headers:  # made of a set, which each process orders anew
        response.headers["Allow"] = ", ".join(sorted(response.allow))
    return response


def _route_group(endpoint: str | None) -> str:
    """The metrics' label: for our own routes what they are for, ``app`` for those of an embedding program."""
    if endpoint is None:
        return "other"
    return _ROUTE_GROUPS.get(endpoint) or _BLUEPRINT_GROUPS.get(endpoint.partition(".")[0], "app")


def _http_error(error: HTTPException) -> Response:
    """Every error that has a status: Flask's own, and those that views raise."""
    if isinstance(error, ApiError):
        return _refused(error.status, detail=error.detail, extra=list(error.headers.items()), members=error.members)
    if error.response is not None:  # a view aborted with a response of its own making
        return error.get_response()  # type: ignore[return-value]  # werkzeug types it more loosely than Flask uses it
    code = error.code or 500
    if code < 400:  # noqa: PLR2004 - a redirect that routing raised
        return error.get_response()  # type: ignore[return-value]  # as above
    return _refused(code, extra=_kept_headers(error))


def _refused(
    status: int,
    *,
    detail: str = "",
    extra: list[tuple[str, str]] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """The answer to a request that cannot be served; with a log line where no decision has left one."""
    gatekey = gatekey_of_app()
    if not is_decided():
        raw = WsgiRequest(request.environ)
        client_ip = gatekey.proxies.scheme_and_client(raw)[1]
        log_refused(status, method=raw.method, path=request.path, client_ip=client_ip, request_id=g.gatekey_request_id)
    return flask_response(render_error(gatekey, status, detail=detail, extra=extra, members=members))


def _too_slow(error: Exception) -> Response:
    """A view outlived its deadline, or the process is stopping."""
    _log.error("view_abandoned", error_type=type(error).__name__)
    return flask_response(render_error(gatekey_of_app(), 503))


def _defect(error: Exception) -> Response:
    """A bug: logged with its traceback (without local variables), answered without a word about it."""
    _log.error("request_failed", error_type=type(error).__name__, exc_info=error)
    return flask_response(render_error(gatekey_of_app(), 500))


def _kept_headers(error: HTTPException) -> list[tuple[str, str]]:
    """Headers that belong to a status (Allow with 405, Retry-After with 429 and 503)."""
    kept = ("allow", "retry-after", "content-range")
    return [(name, value) for name, value in error.get_headers() if name.lower() in kept]


def _served(role: str, path: str) -> bool:
    """Whether a process of this role serves the path; health and metrics are everywhere."""
    if role == "all" or path in _HEALTH:
        return True
    return path.startswith("/auth/") == (role == "doors")


def _header_bytes() -> int:
    return sum(len(name) - 5 + len(value) + 4 for name, value in request.environ.items() if name.startswith("HTTP_"))
