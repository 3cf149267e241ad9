"""Browser or API client? One pure function behind the doors, the decorator and every error page (contract 4).

The order of the questions is the contract's. A browser is whoever shows a person a page it navigated to; whatever a
script, an image or a frame asked for must not be answered with a redirect to a login page.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_browser", "is_form_post"]

_HTML: Final = ("text/html", "application/xhtml+xml")
_COVERS_HTML: Final = ("*/*", "*", "text/*")
"""Ranges that name no type and take HTML like anything else; what accepts nothing but them says nothing about itself."""
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_WEIGHT: Final = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?", re.ASCII)  # RFC 9110 12.4.2


def is_browser(
    *,
    method: str,
    header: Callable[[str], str],
    credential_presented: bool,
    client: str,
    unsure: str,
) -> bool:
    """Whether to answer with a page or a redirect instead of JSON.

    ``method`` is the client's (at the doors the forwarded one), ``header(name)`` gives a header's value (name in lower
    case) or ``""``, ``client`` is the policy's or route's word (``auto``, ``api``, ``browser``), ``unsure`` what to
    think of a client that says nothing about itself (``api`` or ``browser``).
    """
    if credential_presented:
        return False
    if client != "auto":
        return client == "browser"
    if method == "OPTIONS" or "websocket" in header("upgrade").lower() or _is_prefetch(header):
        return False
    content_type = _media_type(header("content-type"))
    if _is_json(content_type):
        return False
    mode = header("sec-fetch-mode")
    if mode:
        return mode == "navigate" and header("sec-fetch-dest") == "document"
    if header("x-requested-with") or header("hx-request"):
        return False
    if method not in ("GET", "HEAD") and content_type not in _FORMS:
        return False
    return _wants_page(header("accept"), unsure=unsure)


def is_form_post(method: str, header: Callable[[str], str]) -> bool:
    """Whether a browser (as ``is_browser`` tells) sent a form: all that it sends by navigating, even an empty one.

    The redirect to the login page loses its body, so nobody may be sent back to where the form went.
    """
    return method not in ("GET", "HEAD", "OPTIONS") and not _is_json(_media_type(header("content-type")))


def _is_prefetch(header: Callable[[str], str]) -> bool:
    return "prefetch" in header("sec-purpose").lower() or "prefetch" in header("purpose").lower()


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    """A JSON MIME type as the WHATWG defines it (``application/problem+json`` is one)."""
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")


@lru_cache(maxsize=1024)
def _wants_page(accept: str, *, unsure: str) -> bool:
    """What ``Accept`` (RFC 9110 12.5.1) says; remembered, because there are few different ones."""
    html = json = 0.0
    says_nothing = True
    for item in accept.split(","):
        media_type, quality = _media_type(item), _quality(item)
        if media_type in _HTML:
            html = max(html, quality)
        elif _is_json(media_type):
            json = max(json, quality)
        if media_type and not (media_type in _COVERS_HTML and quality > 0):
            says_nothing = False
    if html > 0 and html >= json:
        return True
    return says_nothing and unsure == "browser"


def _quality(item: str) -> float:
    """The weight of an element of ``Accept``; 1 where it is missing or makes no sense."""
    for parameter in item.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return float(value) if _WEIGHT.fullmatch(value.strip()) else 1.0
    return 1.0
