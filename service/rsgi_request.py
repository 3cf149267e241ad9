"""An RSGI request as a door sees it: repeated headers stay apart, ``x_api_key`` is not ``x-api-key``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.doors.raw import UNREADABLE

if TYPE_CHECKING:
    from granian.rsgi import Scope

__all__ = ["RsgiRequest"]


class RsgiRequest:
    """A ``RawRequest`` over Granian's scope.

    Granian leaves values that are not ASCII out of ``get_all`` and ``items`` but not out of ``in``.
    """

    __slots__ = ("_headers", "method", "peer", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.method = scope.method
        self._headers = scope.headers
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
        lines = self._headers.get_all(name)  # type: ignore[attr-defined]  # missing from Granian's stubs
        return lines[0] if len(lines) == 1 else ",".join(lines)

    def single(self, name: str) -> str:
        """See ``RawRequest``."""
        lines: list[str] = self._headers.get_all(name)  # type: ignore[attr-defined]  # as above
        return lines[0] if len(lines) == 1 else ""

    def headers(self, name: str) -> list[str]:
        """See ``RawRequest``."""
        lines: list[str] = self._headers.get_all(name)  # type: ignore[attr-defined]  # as above
        if not lines and name in self._headers:
            return [UNREADABLE]
        return lines

    def size(self) -> int:
        """Bytes of all header lines (those with values outside ASCII not counted)."""
        total = 0
        for (
            name,
            value,
        ) in self._headers.items():  # a loop: on the way of every request, a generator costs half as much again
            total += len(name) + len(value) + 4
        return total
