"""Two ways of serving, asked alike: the Flask views as under any WSGI server, and the RSGI front in a real process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from service.observe.logs import configure_logging
from tests.support import raw_http
from tests.support.in_process import LoggedGatekey, ask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.raw_http import RawResponse
    from tests.support.serving import Front


class Side(Protocol):
    """One way of serving."""

    def send(
        self, method: str, target: str, lines: Iterable[tuple[str, str | bytes]] = (), body: bytes = b""
    ) -> RawResponse:
        """The answer to one request."""

    def events(self) -> list[dict[str, Any]]:
        """What was logged since this was last called."""

    def forget(self) -> None:
        """Let ``events`` begin here."""


class FlaskSide:
    def __init__(self, logged: LoggedGatekey) -> None:
        self.logged = logged

    def send(
        self, method: str, target: str, lines: Iterable[tuple[str, str | bytes]] = (), body: bytes = b""
    ) -> RawResponse:
        return ask(self.logged.app, method, target, lines, body)

    def events(self) -> list[dict[str, Any]]:
        return self.logged.events()

    def forget(self) -> None:
        configure_logging(self.logged.gatekey.writer, console=False, level="info")  # another test may have had it
        self.logged.events()


class FrontSide:
    def __init__(self, front: Front) -> None:
        self.front = front

    def send(
        self, method: str, target: str, lines: Iterable[tuple[str, str | bytes]] = (), body: bytes = b""
    ) -> RawResponse:
        return raw_http.request(self.front.port, method, target, lines, body)

    def events(self) -> list[dict[str, Any]]:
        return self.front.events()

    def forget(self) -> None:
        self.front.forget()
