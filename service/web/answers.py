"""From the framework-neutral answers to Flask's responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import quote

import orjson
from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from service.answers.client_kind import is_browser, is_form_post
from service.answers.denial import Denial
from service.auth.credentials import Form
from service.auth.reasons import REASONS
from service.doors.attempt import credentials_of
from service.web.wsgi_request import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.answers.answer import Answer
    from service.auth.reasons import Reason
    from service.runtime import Gatekey

__all__ = ["ApiError", "flask_response", "render_denial", "render_error"]

UNAUTHORIZED: Final = 401
_URL_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "\\")


class ApiError(HTTPException):
    """A failed request to Gatekey's own API, with our own words about it (those of the status without ``detail``).

    ``members`` are further members of the JSON form, ``headers`` further headers.
    """

    def __init__(
        self,
        code: int,
        *,
        detail: str = "",
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = self.status = code
        self.detail = detail
        self.members = members or {}
        self.headers = headers or {}


def flask_response(answer: Answer) -> Response:
    """The same answer as a Flask response."""
    response = Response(answer.body, status=answer.status)
    response.headers.clear()
    response.headers.extend(answer.headers)
    response.headers["Content-Length"] = str(len(answer.body))
    return response


def render_denial(gatekey: Gatekey, reason: Reason, *, presented: bool, client: str) -> Answer:
    """The answer to the current request, refused for ``reason``, outside the proxy doors."""
    caller = _Caller.of_request(gatekey, presented=presented, client=client)
    denial = Denial(
        reason,
        browser=caller.browser,
        form_post=caller.form_post,
        request_id=g.gatekey_request_id,
        credential_presented=presented,
        login_location=caller.login_location(gatekey) if REASONS[reason].status == UNAUTHORIZED else "",
    )
    return gatekey.responder.denial(denial)


def render_error(
    gatekey: Gatekey,
    status: int,
    *,
    detail: str = "",
    extra: list[tuple[str, str]] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Answer:
    """The answer to the current request, failed with ``status``; a view's own 401 is answered like a refusal."""
    _, presented = credentials_of(WsgiRequest(request.environ), frozenset(Form))
    caller = _Caller.of_request(gatekey, presented=presented, client="auto")
    answer = gatekey.responder.http_error(
        status,
        browser=caller.browser,
        request_id=g.gatekey_request_id,
        detail=detail,
        extra=extra,
        credential_presented=presented,
        login_location=caller.login_location(gatekey) if status == UNAUTHORIZED else "",
        form_post=caller.form_post,
    )
    if members and ("content-type", "application/problem+json") in answer.headers:
        answer.body = orjson.dumps({**orjson.loads(answer.body), **members}, option=orjson.OPT_APPEND_NEWLINE)
    return answer


class _Caller(NamedTuple):
    """Who sent the current request, as far as the form of an answer depends on it."""

    raw: WsgiRequest
    browser: bool
    form_post: bool

    @classmethod
    def of_request(cls, gatekey: Gatekey, *, presented: bool, client: str) -> Self:
        raw = WsgiRequest(request.environ)
        browser = is_browser(
            method=raw.method,
            header=raw.header,
            credential_presented=presented,
            client=client,
            unsure=gatekey.settings.unsure_client,
        )
        return cls(raw, browser, form_post=browser and is_form_post(raw.method, raw.header))

    def login_location(self, gatekey: Gatekey) -> str:
        """The login page's address for a browser, with where to go afterwards (never back into a lost form post)."""
        if not self.browser:
            return ""
        scheme, _ = gatekey.proxies.scheme_and_client(self.raw)
        origin = f"{scheme}://{self.raw.host}"
        destination = f"{origin}/" if self.form_post else origin + _path_and_query(self.raw)
        return gatekey.next_urls.login_location(base="", destination=destination)


def _path_and_query(raw: WsgiRequest) -> str:
    query = _as_in_url(request.environ.get("QUERY_STRING", ""))
    return _as_in_url(raw.path) + (f"?{query}" if query else "")


def _as_in_url(text: str) -> str:
    """Raw bytes of a request line (which PEP 3333 gives as Latin-1) as a URL may hold them; escapes stay as they are."""
    return quote(text.encode("latin-1", "replace"), safe=_URL_SAFE)
