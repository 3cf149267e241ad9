"""From RSGI to WSGI: everything that is no proxy door goes to Flask on a small, bounded pool of threads.

Bodies are read here, on the loop, under a deadline and a bound of our own, so that a half-sent body never holds a thread.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import structlog
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # exported without saying so

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

    from service.rsgi_request import RsgiRequest

__all__ = ["Bridge", "Refused"]

MAX_BODY: Final = 1024 * 1024
_BODY_DEADLINE: Final = 10.0  # seconds for the whole body
_SEND_DEADLINE: Final = 30.0  # seconds that a client may take for one piece of a streamed answer
_BODILESS: Final = (204, 304)

_log = structlog.get_logger(__name__)


class Refused(Exception):
    """The request never reaches Flask; ``status`` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Bridge:
    """Runs a WSGI application for RSGI requests on ``threads`` threads, with at most ``queued`` more waiting."""

    def __init__(self, application: WSGIApplication, *, threads: int = 8, queued: int = 256) -> None:
        self._application = application
        self._limit = threads + queued
        self._in_flight = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gatekey-view")

    async def handle(self, raw: RsgiRequest, protocol: HTTPProtocol) -> None:
        """Answer one request; raises ``Refused`` 408, 413 or 503 before anything was sent."""
        if self._in_flight >= self._limit:
            raise Refused(503)
        self._in_flight += 1
        try:
            body = await _read_body(raw, protocol)
            environ = _environ(raw, body)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._pool, self._run, environ, protocol, loop)
        finally:
            self._in_flight -= 1

    def close(self) -> None:
        """Take no more; what runs goes on, and whoever stops the process bounds that."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, environ: WSGIEnvironment, protocol: HTTPProtocol, loop: asyncio.AbstractEventLoop) -> None:
        answer = _Answer(protocol, loop, is_head=environ["REQUEST_METHOD"] == "HEAD")
        try:
            chunks = self._application(environ, answer.start)
            try:
                answer.send(chunks)
            finally:
                close = getattr(chunks, "close", None)
                if close is not None:
                    close()
        except (ProtocolClosed, TimeoutError):
            _log.debug("client_left")
        except Exception as error:  # noqa: BLE001 - the last resort of an application
            _log.exception("application_failed", error_type=type(error).__name__)
            answer.fail()


class _Answer:
    """The WSGI side of one answer, on a thread of the pool; everything is sent from the loop."""

    def __init__(self, protocol: HTTPProtocol, loop: asyncio.AbstractEventLoop, *, is_head: bool) -> None:
        self._protocol = protocol
        self._loop = loop
        self._is_head = is_head
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._sent = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """``start_response`` of PEP 3333."""
        if exc_info is not None and self._sent:
            raise exc_info[1].with_traceback(exc_info[2])
        self._status = int(status.split(" ", 1)[0])
        self._headers = [(name.lower(), value) for name, value in headers]
        return self._no_write

    @staticmethod
    def _no_write(_data: bytes) -> None:
        raise RuntimeError("the write callable of PEP 3333 is not supported; return an iterable")

    def send(self, chunks: Iterable[bytes]) -> None:
        """Send what the application yields: in one piece when its length is announced, else as it comes."""
        length = next((value for name, value in self._headers if name == "content-length"), None)
        if self._is_head or self._status in _BODILESS:
            self._on_loop(self._protocol.response_empty, self._status, self._headers)
        elif length is not None and int(length) <= MAX_BODY:
            self._on_loop(self._protocol.response_bytes, self._status, self._headers, b"".join(chunks))
        else:
            self._stream(chunks)

    def _stream(self, chunks: Iterable[bytes]) -> None:
        transport = self._on_loop(self._protocol.response_stream, self._status, self._headers)
        for chunk in chunks:
            if chunk:
                sending = asyncio.run_coroutine_threadsafe(_sent(transport, chunk), self._loop)
                sending.result(_SEND_DEADLINE)

    def fail(self) -> None:
        """The application raised: 500 if nothing was sent yet."""
        if not self._sent:
            self._on_loop(self._protocol.response_empty, 500, [])

    def _on_loop(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self._sent = True

        async def call() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(_SEND_DEADLINE)


async def _sent(transport: Any, chunk: bytes) -> None:
    await transport.send_bytes(chunk)


async def _read_body(raw: RsgiRequest, protocol: HTTPProtocol) -> bytes:
    length = raw.header("content-length")
    if not length and not raw.header("transfer-encoding"):
        return b""
    if length.isdecimal() and int(length) > MAX_BODY:
        raise Refused(413)
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_DEADLINE):
            async for chunk in protocol:
                body += chunk
                if len(body) > MAX_BODY:
                    raise Refused(413)
    except TimeoutError:
        raise Refused(408) from None
    return bytes(body)


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
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
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
