"""An answer on its way out, the same for every server: whoever sends it adds Date, Server and framing."""

from __future__ import annotations

__all__ = ["Answer"]


class Answer:
    """Status, headers (names in lower case, values ASCII) and body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body
