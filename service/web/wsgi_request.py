"""A WSGI request as a door or the decorator sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from service.doors.raw import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WsgiRequest"]

_WITHOUT_PREFIX: Final = {"content-length": "CONTENT_LENGTH", "content-type": "CONTENT_TYPE"}
_DOUBLED_URI: Final = re.compile(r",(?=\s*/)")


class WsgiRequest:
    """A ``RawRequest`` over a PEP 3333 environ.

    WSGI joins the lines of a header with commas. Values are single by contract except ``X-Forwarded-For``, so a comma
    in them is refused by whoever reads them; a URI may hold a comma, but ``,/`` is what two joined URIs look like.
    """

    __slots__ = ("_environ",)

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    @property
    def method(self) -> str:
        """See ``RawRequest``."""
        return str(self._environ["REQUEST_METHOD"])

    @property
    def peer(self) -> str:
        """See ``RawRequest``."""
        return str(self._environ.get("REMOTE_ADDR") or "")

    @property
    def scheme(self) -> str:
        """See ``RawRequest``."""
        return str(self._environ["wsgi.url_scheme"])

    @property
    def host(self) -> str:
        """See ``RawRequest``."""
        return self.header("host")

    @property
    def path(self) -> str:
        """The path as it was sent where the server tells it (``RAW_URI``, ``REQUEST_URI``), else encoded again."""
        for name in ("RAW_URI", "REQUEST_URI"):
            raw = self._environ.get(name)
            if isinstance(raw, str) and raw.startswith("/"):
                return raw.partition("?")[0]
        return quote(self._environ.get("PATH_INFO", "").encode("latin-1"), safe="/:@!$&'()*+,;=~-._")

    def header(self, name: str) -> str:
        """See ``RawRequest``."""
        value = self._value(name)
        return "" if value is None or not value.isascii() else value

    def single(self, name: str) -> str:
        """See ``RawRequest``."""
        lines = self.headers(name)
        return lines[0] if len(lines) == 1 else ""

    def headers(self, name: str) -> list[str]:
        """See ``RawRequest``."""
        value = self._value(name)
        if value is None:
            return []
        if not value.isascii():
            return [UNREADABLE]
        return _DOUBLED_URI.split(value) if name == "x-forwarded-uri" else [value]

    def _value(self, name: str) -> str | None:
        key = _WITHOUT_PREFIX.get(name) or "HTTP_" + name.upper().replace("-", "_")
        value: str | None = self._environ.get(key)
        return value
