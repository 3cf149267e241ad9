"""What comes through the announcing connection, turned into what a listener is told.

Whatever cannot be read may have been any change, so it counts as every change.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from backends.records import Origin
from backends.redis_keys import address_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.contract import ChangeListener
    from backends.redis_keys import Names

__all__ = ["Announcements"]

_MANY: Final = 1_000
"""More keys than this in one push of the server are told as one change of everything."""
_MESSAGE: Final = 3
_CHANNELS: Final = 2


class Announcements:
    """The state of one connection: nothing outlives it."""

    def __init__(self, listener: ChangeListener, names: Names, alive: bytes) -> None:
        self.tracking = False
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listener = listener
        self._names = names
        self._alive = alive
        self._channels = 0
        self._started = False
        self._heartbeat: tuple[bytes, float, Callable[[], float], asyncio.Future[None]] | None = None
        self._announced: set[bytes] = set()  # entries of the log that were announced since it was last looked through
        # What the next push of the server's tracking need not tell again. That push comes at the end of the very turn of
        # the server's loop in which a script ran, so nothing that happens later can be taken for the script's.
        self._quiet: set[bytes] = set()
        self._lists_are_told = False

    def start(self) -> None:
        """From now on the listener is told; what came until now is part of its first ``everything_changed``."""
        self._started = True
        self._listener.everything_changed(origin=Origin.RECONNECT)

    def expect(self, sent: float, clock: Callable[[], float]) -> asyncio.Future[None]:
        """Done when the heartbeat that is sent now has come back."""
        back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heartbeat = (b"%r" % sent, sent, clock, back)
        return back

    def take(self, push: list[Any]) -> None:
        """One push, in whatever form."""
        match push:
            case [b"message", self._alive, bytes(text)]:
                self._take_heartbeat(text)
            case [b"message", self._names.changes, bytes(text)]:
                self._take_message(text)
            case [b"invalidate", [*names]] if all(isinstance(name, bytes) for name in names):
                self._take_names(names)
            case [b"subscribe", *_]:
                self._channels += 1
                if self._channels == _CHANNELS and not self.subscribed.done():
                    self.subscribed.set_result(None)
            case _:  # a FLUSHALL (a push without names), or one that nobody knows
                self._everything()

    def logged(self, entry_id: bytes, fields: list[bytes]) -> None:
        """An entry of the log: news where its announcement has not come."""
        if entry_id in self._announced:
            return
        match fields:
            case [b"k", api_key, b"at", at] if (text := _text(api_key)) is not None:
                self._key(text, _seconds(at), Origin.CHANGE_LOG)
            case _:
                self._everything(origin=Origin.CHANGE_LOG)

    def forget(self) -> None:
        """The log was looked through."""
        self._announced.clear()

    def _take_heartbeat(self, text: bytes) -> None:
        if self._heartbeat is not None and self._heartbeat[0] == text:
            _, sent, clock, back = self._heartbeat
            self._heartbeat = None
            self._listener.heartbeat(delay=max(0.0, clock() - sent))
            if not back.done():
                back.set_result(None)

    def _take_message(self, text: bytes) -> None:
        match text.split(b" ", _MESSAGE):
            case [b"q", *_]:
                self._take_quiet(text[2:].split(b" "))
            case [b"k", at, entry_id, name] if (api_key := _text(name)) is not None:
                self._announced.add(entry_id)
                self._take_quiet([self._names.record(address_of(api_key))])
                self._key(api_key, _seconds(at))
            case [b"a", at, entry_id, b""]:
                self._announced.add(entry_id)
                self._lists_are_told = True
                self._everything(at=_seconds(at))
            case _:
                self._everything()

    def _take_quiet(self, names: list[bytes]) -> None:
        if self.tracking:
            self._lists_are_told = self._lists_are_told or names == [b"*"]
            self._quiet.update(names)

    def _take_names(self, names: list[bytes]) -> None:
        quiet, self._quiet = self._quiet, set()
        lists_are_told, self._lists_are_told = self._lists_are_told, False
        news = [name for name in names if name not in quiet]
        keys = [self._names.api_key(name) for name in news if not (lists_are_told and name.endswith(b"}:disabled"))]
        texts = [_text(key) if key is not None else None for key in keys]
        if None in texts or len(texts) > _MANY:
            self._everything()
            return
        for text in texts:
            if text is not None:
                self._key(text)

    def _key(self, api_key: str, at: float | None = None, origin: Origin = Origin.KEY) -> None:
        if self._started:
            self._listener.key_changed(api_key, at=at, origin=origin)

    def _everything(self, *, at: float | None = None, origin: Origin = Origin.BULK) -> None:
        if self._started:
            self._listener.everything_changed(at=at, origin=origin)


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _seconds(micros: bytes) -> float | None:
    return int(micros) / 1_000_000 if micros.isdigit() else None
