"""A request as a door sees it, whichever server delivered it."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["UNREADABLE", "RawRequest"]

UNREADABLE: Final = "\x80"
"""A line whose value is not ASCII. Not every server tells what it was; no grammar of ours accepts this."""


class RawRequest(Protocol):
    """What a door reads. Header names are given in lower case."""

    @property
    def method(self) -> str:
        """The request's own method (the proxy's), not the forwarded one."""

    @property
    def peer(self) -> str:
        """The IP address of the connection's other end as text; ``""`` for a Unix socket."""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``, of the connection itself."""

    @property
    def host(self) -> str:
        """The ``Host`` header (or ``:authority``); ``""`` when there is none."""

    def header(self, name: str) -> str:
        """All lines of a header joined with ``,``; ``""`` when absent or not ASCII."""

    def single(self, name: str) -> str:
        """The value of a header that has one line; ``""`` (or what no grammar accepts) when absent, repeated or not ASCII."""

    def headers(self, name: str) -> list[str]:
        """The lines of a header, as far as the server tells them apart; ``UNREADABLE`` for one that is not ASCII."""
