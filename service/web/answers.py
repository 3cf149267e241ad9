"""From the framework-neutral answers to Flask's responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from service.answers.client_kind import is_browser, is_form_post
from service.answers.denial import Denial
from service.auth.reasons import REASONS
from service.web.wsgi_request import WsgiRequest

if TYPE_CHECKING:
    from service.answers.answer import Answer
    from service.auth.reasons import Reason
    from service.runtime import Gatekey

__all__ = ["ApiError", "flask_response", "render_denial", "render_error"]


class ApiError(HTTPException):
    """A failed request to Gatekey's own API, with our own words about it."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(detail)
        self.code = self.status = code
        self.detail = detail


def flask_response(answer: Answer) -> Response:
    """The same answer as a Flask response."""
    response = Response(answer.body, status=answer.status)
    response.headers.clear()
    response.headers.extend(answer.headers)
    response.headers["Content-Length"] = str(len(answer.body))
    return response


def render_denial(gatekey: Gatekey, reason: Reason, *, presented: bool, client: str) -> Answer:
    """The answer to the current request, refused for ``reason``, outside the proxy doors."""
    raw = WsgiRequest(request.environ)
    browser = _browser(gatekey, raw, presented=presented, client=client)
    form_post = browser and is_form_post(raw.method, raw.header)
    login_location = ""
    if browser and REASONS[reason].status == 401:  # noqa: PLR2004 - HTTP
        scheme, _ = gatekey.proxies.scheme_and_client(raw)
        origin = f"{scheme}://{raw.host}"
        destination = f"{origin}/" if form_post else origin + _path_and_query(raw)
        login_location = gatekey.next_urls.login_location(base="", destination=destination)
    denial = Denial(
        reason,
        browser=browser,
        form_post=form_post,
        request_id=g.gatekey_request_id,
        credential_presented=presented,
        login_location=login_location,
    )
    return gatekey.responder.denial(denial)


def render_error(
    gatekey: Gatekey, status: int, *, detail: str = "", extra: list[tuple[str, str]] | None = None
) -> Answer:
    """The answer to the current request, failed with ``status``."""
    raw = WsgiRequest(request.environ)
    presented = any(raw.header(name) for name in ("x-api-key", "x-secret-token", "authorization"))
    return gatekey.responder.http_error(
        status,
        browser=_browser(gatekey, raw, presented=presented, client="auto"),
        request_id=g.gatekey_request_id,
        detail=detail,
        extra=extra,
    )


def _browser(gatekey: Gatekey, raw: WsgiRequest, *, presented: bool, client: str) -> bool:
    return is_browser(
        method=raw.method,
        header=raw.header,
        credential_presented=presented,
        client=client,
        unsure=gatekey.settings.unsure_client,
    )


def _path_and_query(raw: WsgiRequest) -> str:
    query = request.environ.get("QUERY_STRING", "")
    return raw.path + (f"?{query}" if query else "")
