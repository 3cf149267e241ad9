"""The shared handler of contract 4: one place that turns a refusal or an error into JSON, a page or a redirect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from service.answers.answer import Answer
from service.answers.http_errors import HttpError, http_error
from service.answers.pages import Pages
from service.auth.reasons import REASONS, Reason

if TYPE_CHECKING:
    from service.answers.denial import Denial

__all__ = ["Responder"]

RETRY_AFTER: Final = {429: "10", 503: "1"}  # seconds
_VARY: Final = (
    "Accept, Authorization, Content-Type, Cookie, HX-Request, Origin, Purpose, Sec-Fetch-Dest, Sec-Fetch-Mode, "
    "Sec-Purpose, Upgrade, X-Api-Key, X-Requested-With, X-Secret-Token"
)
_CHALLENGE: Final = 'Bearer realm="gatekey"'  # never Basic: browsers would pop up a dialog
_UNAUTHORIZED: Final = 401

Headers = list[tuple[str, str]]


class Responder:
    """Renders. Everything it says is fixed text, a code or an id; nothing of a request is repeated."""

    def __init__(self) -> None:
        self._pages = Pages()

    def denial(self, denial: Denial) -> Answer:
        """The answer to a refused request."""
        info = REASONS[denial.reason]
        headers: Headers = []
        if denial.reason is Reason.INSUFFICIENT_SCOPE:
            headers.append(("www-authenticate", f'{_CHALLENGE}, error="insufficient_scope"'))
        if denial.cors_origin:
            headers += [
                ("access-control-allow-origin", denial.cors_origin),
                ("access-control-expose-headers", "Retry-After, WWW-Authenticate, X-Request-Id"),
            ]
        return self._failed(
            info.status,
            HttpError(info.code, info.title, info.detail),
            headers,
            request_id=denial.request_id,
            browser=denial.browser,
            credential_presented=denial.credential_presented,
            login_location=denial.login_location,
            form_post=denial.form_post,
        )

    def http_error(
        self,
        status: int,
        *,
        browser: bool,
        request_id: str,
        detail: str = "",
        extra: Headers | None = None,
        credential_presented: bool = False,
        login_location: str = "",
        form_post: bool = False,
    ) -> Answer:
        """The answer to any other failed request; ``detail`` is our own text, never the caller's.

        The last three count for a 401 that a view raised: it is answered like a refusal.
        """
        said = http_error(status)
        return self._failed(
            status,
            said._replace(detail=detail) if detail else said,
            [(name.lower(), value) for name, value in extra or []],
            request_id=request_id,
            browser=browser,
            credential_presented=credential_presented,
            login_location=login_location,
            form_post=form_post,
        )

    def login_page(self, request_id: str) -> Answer:
        """The login page of a version that has no sign-in yet."""
        return self._page(200, self._pages.login(), _common(request_id))

    def _failed(
        self,
        status: int,
        said: HttpError,
        headers: Headers,
        *,
        request_id: str,
        browser: bool,
        credential_presented: bool,
        login_location: str,
        form_post: bool,
    ) -> Answer:
        headers = [*_common(request_id), *headers]
        if status == _UNAUTHORIZED:
            if browser and login_location:
                return Answer(303 if form_post else 302, [*headers, ("location", login_location)])
            error = ', error="invalid_token"' if credential_presented else ""
            headers.append(("www-authenticate", _CHALLENGE + error))
        if status in RETRY_AFTER and not any(name == "retry-after" for name, _ in headers):
            headers.append(("retry-after", RETRY_AFTER[status]))
        if browser:
            return self._page(status, self._pages.error(status, said, request_id), headers)
        return _problem(status, said, headers, request_id)

    def _page(self, status: int, html: str, headers: Headers) -> Answer:
        headers += [
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", self._pages.content_security_policy),
            ("referrer-policy", "same-origin"),
        ]
        return Answer(status, headers, html.encode())


def _common(request_id: str) -> Headers:
    return [
        ("x-request-id", request_id),
        ("cache-control", "no-store"),
        ("vary", _VARY),
        ("x-content-type-options", "nosniff"),
    ]


def _problem(status: int, said: HttpError, headers: Headers, request_id: str) -> Answer:
    """RFC 9457, with ``message`` for clients of older handlers."""
    body = {
        "type": "about:blank",
        "title": said.title,
        "status": status,
        "detail": said.detail,
        "code": said.code,
        "request_id": request_id,
        "message": said.detail,
    }
    headers.append(("content-type", "application/problem+json"))
    return Answer(status, headers, orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))
