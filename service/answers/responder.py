"""The shared handler of contract 4: one place that turns a refusal or an error into JSON, a page or a redirect."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import orjson

from service.answers.answer import Answer
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
_DETAILS: Final = {
    400: "The request is malformed.",
    403: "This is not allowed.",
    404: "There is nothing at this address.",
    405: "This address does not take that method; see the Allow header.",
    408: "The request did not arrive in time.",
    409: "The request contradicts the current state.",
    412: "The resource has changed meanwhile.",
    413: "The request body is too large; at most 1 MiB is taken.",
    415: "The request body has a media type that is not understood here.",
    422: "The request was understood, but its content cannot be used.",
    429: "Too many requests; try again after the time in Retry-After.",
    431: "The request's headers are too large; at most 16 KiB are taken.",
    500: "Something went wrong here; the request id helps to find out what.",
    503: "The service cannot answer at the moment; try again after the time in Retry-After.",
}
_CHALLENGE: Final = 'Bearer realm="gatekey"'


class Responder:
    """Renders. Everything it says is fixed text, a code or an id; nothing of a request is repeated."""

    def __init__(self) -> None:
        self._pages = Pages()

    def denial(self, denial: Denial) -> Answer:
        """The answer to a refused request."""
        info = REASONS[denial.reason]
        if denial.browser and info.status == HTTPStatus.UNAUTHORIZED and denial.login_location:
            return self._redirect(denial)
        headers = _common(denial.request_id)
        if info.status == HTTPStatus.UNAUTHORIZED:
            error = ', error="invalid_token"' if denial.credential_presented else ""
            headers.append(("www-authenticate", _CHALLENGE + error))
        elif denial.reason is Reason.INSUFFICIENT_SCOPE:
            headers.append(("www-authenticate", f'{_CHALLENGE}, error="insufficient_scope"'))
        if denial.cors_origin:
            headers += [
                ("access-control-allow-origin", denial.cors_origin),
                ("access-control-expose-headers", "Retry-After, WWW-Authenticate, X-Request-Id"),
            ]
        return self._rendered(
            info.status, info.title, info.detail, info.code, headers, denial.request_id, browser=denial.browser
        )

    def http_error(
        self,
        status: int,
        *,
        browser: bool,
        request_id: str,
        detail: str = "",
        code: str = "",
        extra: list[tuple[str, str]] | None = None,
    ) -> Answer:
        """The answer to any other failed request; ``detail`` is our own text, never the caller's."""
        title = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
        code = code or title.lower().replace(" ", "_").replace("-", "_")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            code = "temporarily_unavailable"
        headers = [*_common(request_id), *((name.lower(), value) for name, value in extra or [])]
        detail = detail or _DETAILS.get(status, title + ".")
        return self._rendered(status, title, detail, code, headers, request_id, browser=browser)

    def login_page(self, request_id: str) -> Answer:
        """The login page of a version that has no sign-in yet."""
        return self._page(200, self._pages.login(), _common(request_id))

    def _redirect(self, denial: Denial) -> Answer:
        status = HTTPStatus.SEE_OTHER if denial.form_post else HTTPStatus.FOUND
        return Answer(status.value, [*_common(denial.request_id), ("location", denial.login_location)])

    def _rendered(  # noqa: PLR0917 - private, called twice
        self,
        status: int,
        title: str,
        detail: str,
        code: str,
        headers: list[tuple[str, str]],
        request_id: str,
        *,
        browser: bool,
    ) -> Answer:
        if status in RETRY_AFTER and not any(name == "retry-after" for name, _ in headers):
            headers.append(("retry-after", RETRY_AFTER[status]))
        if browser:
            return self._page(status, self._pages.error(status, title, detail, request_id), headers)
        body = orjson.dumps(
            {
                "type": "about:blank",
                "title": title,
                "status": status,
                "detail": detail,
                "code": code,
                "request_id": request_id,
                "message": detail,
            }
        )
        headers.append(("content-type", "application/problem+json"))
        return Answer(status, headers, body)

    def _page(self, status: int, html: str, headers: list[tuple[str, str]]) -> Answer:
        headers += [
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", self._pages.content_security_policy),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
        ]
        return Answer(status, headers, html.encode())


def _common(request_id: str) -> list[tuple[str, str]]:
    return [("x-request-id", request_id), ("cache-control", "no-store"), ("vary", _VARY)]
