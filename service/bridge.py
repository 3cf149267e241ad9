"""From RSGI to WSGI: everything that is no proxy door goes to Flask on a small, bounded pool of threads.

Bodies are read here, on the loop, under a deadline and bounds of our own, so that a half-sent body holds neither a
thread nor a place in the queue.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import structlog
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # exported without saying so

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

    from service.rsgi_request import RsgiRequest

__all__ = ["Bridge", "Refused"]

MAX_BODY: Final = 1024 * 1024
MAX_HELD: Final = 64 * MAX_BODY
"""Bytes of all bodies that are held at one time."""

_SMALL_BODY: Final = (
    64 * 1024
)  # bytes; larger ones share half of the room, so that a few of them leave room for all others

_SEND_DEADLINE: Final = 30.0  # seconds that a client may take for one piece of an answer
_BODILESS: Final = (204, 304)

_log = structlog.get_logger(__name__)


class Refused(Exception):
    """Flask did not answer, and nothing was sent; ``status`` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _ClientGone(Exception):
    """The client does not take its answer."""


class Bridge:
    """Runs a WSGI application for RSGI requests on ``threads`` threads, with at most ``queued`` more waiting.

    ``body_deadline`` is the seconds that a client may take for its whole body.
    """

    def __init__(
        self, application: WSGIApplication, *, threads: int = 8, queued: int = 256, body_deadline: float = 10.0
    ) -> None:
        self._application = application
        self._limit = threads + queued
        self._body_deadline = body_deadline
        self._in_flight = 0
        self._held = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gatekey-view")

    async def handle(self, raw: RsgiRequest, protocol: HTTPProtocol) -> None:
        """Answer one request, or raise ``Refused``: 400, 408, 413 or 503 before the application ran, 500 when it failed."""
        body = bytearray()
        try:
            await self._read_body(raw, protocol, body)
            if self._in_flight >= self._limit:
                raise Refused(503)
            self._in_flight += 1
            try:
                loop = asyncio.get_running_loop()
                environ = _environ(raw, bytes(body))
                answer = await loop.run_in_executor(self._pool, self._run, environ, protocol, loop)
            finally:
                self._in_flight -= 1
        finally:
            self._held -= len(body)
        answer.end()
        if not answer.begun:
            raise Refused(500)

    def close(self) -> None:
        """Take no more; what runs goes on, and whoever stops the process bounds that."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _read_body(self, raw: RsgiRequest, protocol: HTTPProtocol, body: bytearray) -> None:
        announced = raw.header("content-length")
        if not announced and not raw.header("transfer-encoding"):
            return
        if announced.isdecimal() and int(announced) > MAX_BODY:
            raise Refused(413)
        try:
            async with asyncio.timeout(self._body_deadline):
                async for chunk in protocol:
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > MAX_BODY:
                        raise Refused(413)
                    if self._held > (MAX_HELD if len(body) <= _SMALL_BODY else MAX_HELD // 2):
                        raise Refused(503)
        except TimeoutError:
            raise Refused(408) from None
        if announced and announced != str(len(body)):
            raise Refused(400)  # the client left or closed its side in the middle; half a body is none

    def _run(self, environ: WSGIEnvironment, protocol: HTTPProtocol, loop: asyncio.AbstractEventLoop) -> _Answer:
        """Call the application (a thread of the pool); what is not sent by then is for the loop to send."""
        answer = _Answer(protocol, loop, is_head=environ["REQUEST_METHOD"] == "HEAD")
        try:
            chunks = self._application(environ, answer.start)
            try:
                answer.take(iter(chunks))
            finally:
                close = getattr(chunks, "close", None)
                if close is not None:
                    close()
        except (ProtocolClosed, _ClientGone):
            _log.debug("client_left")
        except (SystemExit, KeyboardInterrupt) as error:  # a view's own; it must not end everybody's loop
            _log.error("application_failed", error_type=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the last resort of an application
            _log.exception("application_failed", error_type=type(error).__name__)
        return answer


class _Answer:
    """The WSGI side of one answer, on a thread of the pool; everything is sent from the loop.

    A whole answer goes there with the thread's end (and so after the application's ``close``), so that the thread waits for
    nothing. ``begun`` says that there is an answer.
    """

    def __init__(self, protocol: HTTPProtocol, loop: asyncio.AbstractEventLoop, *, is_head: bool) -> None:
        self._protocol = protocol
        self._loop = loop
        self._is_head = is_head
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._body: bytes | None = None
        """Of a whole answer that is not sent yet."""
        self.begun = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """``start_response`` of PEP 3333."""
        if exc_info is not None and self.begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._status:
            raise AssertionError("start_response was called twice without exc_info")
        self._status = int(status.split(" ", 1)[0])
        self._headers = [(name.lower(), value) for name, value in headers]
        return self._no_write

    @staticmethod
    def _no_write(_data: bytes) -> None:
        raise RuntimeError("the write callable of PEP 3333 is not supported; return an iterable")

    def take(self, chunks: Iterator[bytes]) -> None:
        """What the application yields: kept in one piece when its length is announced, else sent as it comes."""
        first = next((chunk for chunk in chunks if chunk), b"")  # an application may start as late as here
        if not self._status:
            raise AssertionError("the application did not call start_response")
        length = next((value for name, value in self._headers if name == "content-length"), None)
        if self._is_head or self._status in _BODILESS:
            self._body, self.begun = b"", True
        elif length is not None and int(length) <= MAX_BODY:
            self._body, self.begun = first + b"".join(chunks), True
            # Granian announces the true length itself; a wrong one would leave the client waiting.
            self._headers = [item for item in self._headers if item[0] != "content-length"]
        else:
            self._stream(first, chunks)

    def end(self) -> None:
        """Send a whole answer, on the loop."""
        if self._body is None:
            return
        try:
            if self._is_head or self._status in _BODILESS:
                self._protocol.response_empty(self._status, self._headers)
            else:
                self._protocol.response_bytes(self._status, self._headers, self._body)
        except ProtocolClosed:
            _log.debug("client_left")
        except Exception as error:  # noqa: BLE001 - headers that are none, of whatever kind
            _log.error("application_failed", error_type=type(error).__name__)
            self.begun = False

    def _stream(self, first: bytes, chunks: Iterable[bytes]) -> None:
        transport = self._wait(self._begin())
        try:
            for chunk in chain((first,), chunks):
                if chunk:
                    self._wait(_sent(transport, chunk))
        finally:
            del transport  # the answer ends when nobody holds this, and the traceback of an exception would

    async def _begin(self) -> Any:
        self.begun = True
        return self._protocol.response_stream(self._status, self._headers)

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Wait for the loop; a client that does not take its answer is given up, and nothing of it stays behind."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(_SEND_DEADLINE)
        except TimeoutError:
            future.cancel()
            raise _ClientGone from None


async def _sent(transport: Any, chunk: bytes) -> None:
    await transport.send_bytes(chunk)


def _environ(raw: RsgiRequest, body: bytes) -> WSGIEnvironment:
    """The environ of PEP 3333. Names with an underscore are left out: WSGI could not tell them from those with a hyphen."""
    scope: Scope = raw.scope
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode("utf-8", "replace").decode("latin-1"),
        "QUERY_STRING": scope.query_string.encode("utf-8", "replace").decode("latin-1"),
        "SERVER_NAME": host.strip("[]") or "localhost",
        "SERVER_PORT": port if port.isdecimal() else "0",
        "SERVER_PROTOCOL": "HTTP/1.0" if scope.http_version == "1" else f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": raw.peer,
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name in scope.headers.keys():  # noqa: SIM118 - not a dictionary
        if "_" in name or name in ("content-length", "transfer-encoding"):
            continue
        lines = raw.headers(name)
        key = "CONTENT_TYPE" if name == "content-type" else "HTTP_" + name.upper().replace("-", "_")
        environ[key] = ("; " if name == "cookie" else ",").join(lines)
    return environ
