"""Browser or API client? One pure function behind the doors, the decorator and every error page (contract 4).

The order of the questions is the contract's. A browser is whoever shows a person a page it navigated to; whatever a
script, an image or a frame asked for must not be answered with a redirect to a login page.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_browser", "is_form_post"]

_HTML: Final = ("text/html", "application/xhtml+xml")
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


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
    """Whether a browser sent a form, whose body a redirect would lose."""
    return method not in ("GET", "HEAD") and _media_type(header("content-type")) in _FORMS


def _is_prefetch(header: Callable[[str], str]) -> bool:
    return "prefetch" in header("sec-purpose").lower() or "prefetch" in header("purpose").lower()


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


@lru_cache(maxsize=1024)
def _wants_page(accept: str, *, unsure: str) -> bool:
    """What ``Accept`` (RFC 9110 12.5.1) says; remembered, because there are few different ones."""
    html = json = -1.0
    concrete = False
    for item in accept.split(","):
        media_type = _media_type(item)
        if media_type in _HTML:
            html = max(html, _quality(item))
        elif _is_json(media_type):
            json = max(json, _quality(item))
        elif media_type and media_type != "*/*":
            concrete = True
    if html > 0 and html >= json:
        return True
    if html >= 0 or json >= 0 or concrete:
        return False
    return unsure == "browser"


def _quality(item: str) -> float:
    """The weight of an element of ``Accept``; 1 where it is missing or makes no sense."""
    for parameter in item.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = float(value.strip())
            except ValueError:
                return 1.0
            return quality if 0 <= quality <= 1 else 1.0
    return 1.0
