"""What a failed request is told by its status: our own fixed words, so that no error repeats what somebody sent.

Titles and codes are those of RFC 9110 and 6585; the standard library's change between versions of Python.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["HTTP_ERRORS", "HttpError", "http_error"]


class HttpError(NamedTuple):
    """``code`` is for programs, ``title`` and ``detail`` are for people."""

    code: str
    title: str
    detail: str


HTTP_ERRORS: Final[dict[int, HttpError]] = {
    400: HttpError("bad_request", "Bad request", "The request is malformed."),
    401: HttpError("unauthorized", "Unauthorized", "This needs valid credentials."),
    403: HttpError("forbidden", "Forbidden", "This is not allowed."),
    404: HttpError("not_found", "Not found", "There is nothing at this address."),
    405: HttpError(
        "method_not_allowed", "Method not allowed", "This address does not take that method; see the Allow header."
    ),
    406: HttpError("not_acceptable", "Not acceptable", "There is no form of the answer that the request accepts."),
    408: HttpError("request_timeout", "Request timeout", "The request did not arrive in time."),
    409: HttpError("conflict", "Conflict", "The request contradicts the current state."),
    410: HttpError("gone", "Gone", "What was at this address is no longer there."),
    411: HttpError("length_required", "Length required", "The request must tell the length of its body."),
    412: HttpError("precondition_failed", "Precondition failed", "The resource has changed meanwhile."),
    413: HttpError("content_too_large", "Content too large", "The request body is too large; at most 1 MiB is taken."),
    414: HttpError("uri_too_long", "URI too long", "The address is too long."),
    415: HttpError(
        "unsupported_media_type",
        "Unsupported media type",
        "The request body has a media type that is not understood here.",
    ),
    416: HttpError("range_not_satisfiable", "Range not satisfiable", "The requested range does not exist."),
    422: HttpError(
        "unprocessable_content",
        "Unprocessable content",
        "The request was understood, but its content cannot be used.",
    ),
    428: HttpError("precondition_required", "Precondition required", "The request must say which version it means."),
    429: HttpError(
        "too_many_requests",
        "Too many requests",
        "There were too many requests. Try again in a moment.",
    ),
    431: HttpError(
        "request_header_fields_too_large",
        "Request header fields too large",
        "The request's headers are too large; at most 16 KiB are taken.",
    ),
    500: HttpError(
        "internal_server_error",
        "Internal server error",
        "Something went wrong here; the request id helps to find out what.",
    ),
    501: HttpError("not_implemented", "Not implemented", "This is not supported here."),
    502: HttpError("bad_gateway", "Bad gateway", "A service behind this one gave no usable answer."),
    503: HttpError(
        "temporarily_unavailable",
        "Temporarily unavailable",
        "The service cannot answer at the moment. Try again shortly.",
    ),
    504: HttpError("gateway_timeout", "Gateway timeout", "A service behind this one did not answer in time."),
}
_OTHER: Final = HttpError("error", "Error", "The request cannot be answered.")


def http_error(status: int) -> HttpError:
    """The words for a status; general ones where it has none of its own."""
    return HTTP_ERRORS.get(status, _OTHER)
