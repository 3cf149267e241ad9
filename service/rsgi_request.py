"""An RSGI request as a door sees it: repeated headers stay apart, ``x_api_key`` is not ``x-api-key``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.doors.raw import UNREADABLE

if TYPE_CHECKING:
    from granian.rsgi import Scope

__all__ = ["RsgiRequest"]


class RsgiRequest:
    """A ``RawRequest`` over Granian's scope.

    Granian leaves values that are not ASCII out of ``get_all`` and ``items`` but not out of ``in`` and ``len``, which
    counts names. Where there are as many lines as names, none is repeated or unreadable, and one dictionary has them
    all: it costs as much as three questions to Granian, and a door asks a dozen.
    """

    __slots__ = ("_headers", "_lines", "_single", "method", "peer", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.method = scope.method
        self._headers = headers = scope.headers
        self._lines = lines = headers.items()
        single = dict(lines)
        self._single: dict[str, str] | None = single if len(lines) == len(single) == len(headers) else None  # type: ignore[arg-type]  # missing from Granian's stubs
        client = scope.client  # made anew by Granian each time that it is asked for
        self.peer = "" if not client or client.startswith("unix:") else client.rpartition(":")[0].strip("[]")

    @property
    def scheme(self) -> str:
        """See ``RawRequest``."""
        return self.scope.scheme

    @property
    def host(self) -> str:
        """See ``RawRequest``."""
        return self.header("host")

    def header(self, name: str) -> str:
        """See ``RawRequest``."""
        if self._single is not None:
            return self._single.get(name, "")
        return ",".join(self._headers.get_all(name))  # type: ignore[attr-defined]  # as above

    def single(self, name: str) -> str:
        """See ``RawRequest``."""
        if self._single is not None:
            return self._single.get(name, "")
        lines: list[str] = self._headers.get_all(name)  # type: ignore[attr-defined]  # as above
        return lines[0] if len(lines) == 1 else ""

    def headers(self, name: str) -> list[str]:
        """See ``RawRequest``."""
        if self._single is not None:
            value = self._single.get(name)
            return [] if value is None else [value]
        lines: list[str] = self._headers.get_all(name)  # type: ignore[attr-defined]  # as above
        if not lines and name in self._headers:
            return [UNREADABLE]
        return lines

    def size(self) -> int:
        """Bytes of all header lines (those with values outside ASCII not counted)."""
        if self._single is not None:
            return sum(map(len, self._single)) + sum(map(len, self._single.values())) + 4 * len(self._single)
        return sum(len(name) + len(value) + 4 for name, value in self._lines)
