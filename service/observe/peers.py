"""A worker's part in a scrape of the whole service: it tells the parent its numbers, and asks it for everybody's.

A thread of its own answers the parent, so that neither waits for the other's loop. See ``peers_hub`` for the other side.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

from service.observe.exposition import Unanswered
from service.observe.peers_wire import encode_shape, encode_snapshot, read_page

if TYPE_CHECKING:
    from service.observe.peers_wire import Link
    from service.observe.snapshot import Reader

__all__ = ["Peer"]

_PATIENCE: Final = 1.0  # seconds that a scrape waits for the parent, which waits for workers much shorter
_MAX_QUESTIONS: Final = 4096  # at once; one answer is enough for them
_MAX_ACCEPT: Final = 1024  # bytes
_CHUNK: Final = 1 << 16

_log = structlog.get_logger(__name__)


class Peer:
    """Of one worker, while it serves. ``page`` may be called by any thread."""

    def __init__(self, link: Link, reader: Reader) -> None:
        self._questions = link.questions
        self._entrance = link.entrance
        self._reader = reader
        self._speaking = threading.Lock()
        self._thread = threading.Thread(target=self._answer, name="gatekey-metrics", daemon=True)

    def start(self) -> None:
        """From now on this worker is a part of every scrape."""
        self._thread.start()

    def close(self) -> None:
        """Say the last word, so that nothing counted is lost; never waits for the parent."""
        if not self._speaking.acquire(timeout=_PATIENCE):
            return
        try:
            self._questions.send(encode_snapshot(self._reader.read(), answers=0), socket.MSG_DONTWAIT)
            self._questions.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("metrics_last_word_lost", error_type=type(error).__name__)
        finally:
            self._speaking.release()

    def page(self, accept: str) -> tuple[bytes, str]:
        """The scrape of the whole service and its content type; raises ``Unanswered``."""
        mine, for_parent = socket.socketpair()
        with mine:
            with for_parent:
                self._ask(accept, for_parent)
            return _receive(mine)

    def _ask(self, accept: str, for_parent: socket.socket) -> None:
        """Hand the parent a socket for the answer; a parent that takes none any more is not waited for."""
        wanted = accept.encode("latin-1", "replace")[:_MAX_ACCEPT] or b"*/*"
        try:
            socket.send_fds(self._entrance, [wanted], [for_parent.fileno()], socket.MSG_DONTWAIT)
        except OSError as error:
            raise Unanswered("the parent takes no question") from error

    def _answer(self) -> None:
        try:
            self._say(encode_shape(self._reader.shape))
            self._say(encode_snapshot(self._reader.read(), answers=0))
            while asked := len(self._questions.recv(_MAX_QUESTIONS)):
                self._say(encode_snapshot(self._reader.read(), answers=asked))
        except OSError as error:  # the parent is gone, and this worker will soon be
            _log.debug("metrics_peer_ended", error_type=type(error).__name__)

    def _say(self, line: bytes) -> None:
        with self._speaking:
            self._questions.sendall(line)


def _receive(mine: socket.socket) -> tuple[bytes, str]:
    """Read the answer, which ends with its length: other processes may hold copies of the sending end for a while."""
    until = time.monotonic() + _PATIENCE
    answer = bytearray()
    while (page := read_page(answer)) is None:
        mine.settimeout(max(0.001, until - time.monotonic()))
        try:
            chunk = mine.recv(_CHUNK)
        except OSError as error:
            raise Unanswered("the parent does not answer") from error
        if not chunk:
            raise Unanswered("the parent gave no answer")
        answer += chunk
    return page
