"""The bridge between a real Granian and WSGI: bounded bodies, streams, the rules of PEP 3333, and clients that leave."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Response, request
from structlog.testing import capture_logs

from service.bridge import MAX_BODY, Bridge, Refused
from service.rsgi_request import RsgiRequest
from tests.support import raw_http
from tests.support.rsgi_server import rsgi_server
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HOST = (("Host", "app.example.com"),)
CHUNKED = (*HOST, ("Transfer-Encoding", "chunked"))


class _Application:
    """The bridge alone, as the front uses it."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        try:
            await self.bridge.handle(RsgiRequest(scope), protocol)
        except Refused as refused:
            protocol.response_empty(refused.status, [("connection", "close")])


@contextmanager
def bridged(application: Any, **limits: Any) -> Iterator[tuple[int, Bridge]]:
    """The port of a server whose requests all go over the bridge to ``application``."""
    bridge = Bridge(application, **limits)
    try:
        with rsgi_server(_Application(bridge)) as port:
            yield port, bridge
    finally:
        bridge.close()


class _Chunks:
    """What an application returns: an iterable that remembers whether it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self.closed.set()


def _answering(status: str, headers: list[tuple[str, str]], chunks: Iterable[bytes]) -> Callable[..., Iterable[bytes]]:
    def application(_environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, headers)
        return chunks

    return application


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """A Flask application that says what it was asked."""
    app = Flask("echo")

    @app.route("/<path:path>", methods=["GET", "POST"])
    def everything(path: str) -> dict[str, Any]:
        return {
            "path": path,
            "query": request.query_string.decode(),
            "length": len(request.get_data()),
            "content_length": request.content_length,
            "content_type": request.content_type,
            "cookies": request.cookies,
            "names": sorted(name.lower() for name, _ in request.headers),
            "remote": request.remote_addr,
            "protocol": request.environ["SERVER_PROTOCOL"],
            "port": int(request.environ["SERVER_PORT"]),
        }

    @app.get("/stream")
    def stream() -> Response:
        return Response((f"line {number}\n" for number in range(3)), mimetype="text/plain")

    @app.get("/nothing")
    def nothing() -> tuple[str, int]:
        return "", 204

    @app.get("/same")
    def same() -> Response:
        answer = Response("unchanged")
        answer.add_etag()
        answer.make_conditional(request)
        return answer

    with bridged(app) as (port, _):
        yield port


def test_a_request_arrives_as_pep_3333_says(echo: int) -> None:
    """Path decoded, query raw, cookie lines joined by semicolons, names with an underscore left out."""
    lines = (*HOST, ("Cookie", "a=1"), ("Cookie", "b=2"), ("X_Alias", "1"), ("Content-Type", "text/x"))
    body = raw_http.request(echo, "GET", "/p%20q/r?x=%20&y", lines).json()
    assert (body["path"], body["query"], body["cookies"]) == ("p q/r", "x=%20&y", {"a": "1", "b": "2"})
    assert (body["content_type"], body["content_length"], body["length"]) == ("text/x", 0, 0)
    assert (body["remote"], body["protocol"], body["port"]) == ("127.0.0.1", "HTTP/1.1", echo)
    assert body["names"] == ["content-type", "cookie", "host"]
    data = raw_http.render("GET", "/old", version="HTTP/1.0")
    assert raw_http.exchange(echo, data).json()["protocol"] == "HTTP/1.0"


@pytest.mark.parametrize("size", [0, 1, 70_000, MAX_BODY])
def test_a_body_of_up_to_1_mib_arrives_whole(echo: int, size: int) -> None:
    """With a length, or in chunks; the application sees a length either way."""
    whole = raw_http.request(echo, "POST", "/x", (*HOST, ("Content-Length", str(size))), b"x" * size).json()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [b"x" * size] if part) + b"0\r\n\r\n"
    chunked = raw_http.request(echo, "POST", "/x", CHUNKED, chunks).json()
    assert (whole["length"], chunked["length"]) == (size, size)
    assert whole["content_length"] == chunked["content_length"] == size


def test_a_larger_body_is_refused_by_its_length_or_when_it_grows_too_large(echo: int) -> None:
    """413, and the connection ends: nobody reads the rest."""
    announced = raw_http.request(echo, "POST", "/x", (*HOST, ("Content-Length", str(MAX_BODY + 1))))
    assert (announced.status, announced.header("connection")) == (413, "close")
    grown = raw_http.request(echo, "POST", "/x", CHUNKED, b"200000\r\n" + b"x" * 0x200000 + b"\r\n0\r\n\r\n")
    assert grown.status == 413


def test_half_a_body_is_none(echo: int) -> None:
    """A client that closes its side in the middle gets 400; its half must not be worked on."""
    with raw_http.RawConnection(echo) as connection:
        connection.send(raw_http.render("POST", "/x", (*HOST, ("Content-Length", "10")), b"half"))
        connection.shut()
        assert connection.receive().status == 400


def test_a_body_that_does_not_come_is_408_and_holds_nothing_meanwhile() -> None:
    """One thread, no queue, a hundred half-sent bodies: other requests are answered all the same."""
    with bridged(_answering("200 OK", [("Content-Length", "2")], [b"ok"]), threads=1, queued=0, body_deadline=3) as (
        port,
        bridge,
    ):
        half = raw_http.render("POST", "/x", (*HOST, ("Content-Length", "10")), b"half")
        connections = [raw_http.RawConnection(port) for _ in range(100)]
        for connection in connections:
            connection.send(half)
        wait_until(lambda: bridge._held == 400, "all half bodies have arrived")
        assert raw_http.request(port, "GET", "/", HOST).body == b"ok"
        assert {connection.receive().status for connection in connections} == {408}
        for connection in connections:
            connection.close()
        assert (bridge._held, bridge._in_flight) == (0, 0)


def test_when_the_queue_is_full_the_next_request_is_503_at_once() -> None:
    """Whoever comes later is told to try again, instead of waiting behind everybody."""
    go_on = threading.Event()

    def application(_environ: Any, start_response: Any) -> list[bytes]:
        assert go_on.wait(20)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with bridged(application, threads=1, queued=1) as (port, bridge):
        waiting = [raw_http.RawConnection(port) for _ in range(2)]
        for connection in waiting:
            connection.send(raw_http.render("GET", "/", HOST))
        wait_until(lambda: bridge._in_flight == 2, "one request runs and one waits")
        assert raw_http.request(port, "GET", "/", HOST).status == 503
        go_on.set()
        assert [connection.receive().status for connection in waiting] == [200, 200]
        for connection in waiting:
            connection.close()
        assert raw_http.request(port, "GET", "/", HOST).status == 200


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand slow uploads must not fill the memory."""
    monkeypatch.setattr("service.bridge.MAX_HELD", 3000)
    monkeypatch.setattr("service.bridge._SMALL_BODY", 3000)
    with bridged(_answering("200 OK", [("Content-Length", "2")], [b"ok"])) as (port, bridge):
        half = raw_http.render("POST", "/x", (*HOST, ("Content-Length", "2001")), b"x" * 2000)
        with raw_http.RawConnection(port) as first, raw_http.RawConnection(port) as second:
            first.send(half)
            wait_until(lambda: bridge._held == 2000, "the first half has arrived")
            second.send(half)
            assert second.receive().status == 503
            first.send(b"x")
            assert first.receive().status == 200
        wait_until(lambda: bridge._held == 0, "the bodies are forgotten")


def test_large_bodies_leave_room_for_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers who hold large bodies back must not switch off what others send."""
    monkeypatch.setattr("service.bridge.MAX_HELD", 4000)
    monkeypatch.setattr("service.bridge._SMALL_BODY", 100)
    with bridged(_answering("200 OK", [("Content-Length", "2")], [b"ok"])) as (port, bridge):
        with raw_http.RawConnection(port) as large, raw_http.RawConnection(port) as another:
            large.send(raw_http.render("POST", "/x", (*HOST, ("Content-Length", "2001")), b"x" * 2000))
            wait_until(lambda: bridge._held == 2000, "the large body has arrived")
            another.send(raw_http.render("POST", "/x", (*HOST, ("Content-Length", "2001")), b"x" * 2000))
            assert another.receive().status == 503
            assert raw_http.request(port, "POST", "/x", HOST, b"x" * 100).status == 200
        wait_until(lambda: bridge._held == 0, "the bodies are forgotten")


def test_a_view_streams_as_it_yields() -> None:
    """The first piece is at the client while the application still waits with the second."""
    go_on = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b""
        yield b"first"
        assert go_on.wait(20)
        yield b"second"

    chunks = _Chunks(pieces())
    with bridged(_answering("200 OK", [("Content-Type", "text/plain")], chunks)) as (port, _):
        with raw_http.RawConnection(port) as connection:
            connection.send(raw_http.render("GET", "/", HOST))
            head = connection.receive(head=True)
            assert head.header("transfer-encoding") == "chunked"
            assert connection.until(b"first").endswith(b"first")
            go_on.set()
            assert connection.until(b"0\r\n\r\n").count(b"second") == 1
        assert chunks.closed.wait(10)


@pytest.mark.parametrize("path", ["/stream", "/nothing", "/same", "/x"])
def test_head_is_get_without_its_body(echo: int, path: str) -> None:
    """And the connection stays in step: the next answer is the next answer."""
    with raw_http.RawConnection(echo) as connection:
        connection.send(raw_http.render("GET", path, HOST))
        got = connection.receive()
        connection.send(raw_http.render("HEAD", path, HOST))
        head = connection.receive(head=True)
        assert (head.status, head.body) == (got.status, b"")
        assert head.header("content-type") == got.header("content-type")
        assert head.header("content-length") in (got.header("content-length"), "")
        connection.send(raw_http.render("GET", "/x", HOST))
        assert connection.receive().json()["path"] == "x"


def test_answers_without_a_body_have_none(echo: int) -> None:
    """204, and 304 with its validators; the connection stays in step here too."""
    with raw_http.RawConnection(echo) as connection:
        connection.send(raw_http.render("GET", "/nothing", HOST))
        assert connection.receive().status == 204
        connection.send(raw_http.render("GET", "/same", HOST))
        etag = connection.receive().header("etag")
        connection.send(raw_http.render("GET", "/same", (*HOST, ("If-None-Match", etag))))
        unchanged = connection.receive()
        assert (unchanged.status, unchanged.header("etag")) == (304, etag)
        connection.send(raw_http.render("GET", "/stream", HOST))
        assert connection.receive().body == b"line 0\nline 1\nline 2\n"


@pytest.mark.parametrize("announced", ["3", "6", "600"])
def test_a_wrong_length_is_put_right(announced: str) -> None:
    """Neither is an answer cut nor does a client wait for what never comes."""
    with bridged(_answering("200 OK", [("Content-Length", announced)], [b"", b"abc", b"", b"def"])) as (port, _):
        answer = raw_http.request(port, "GET", "/", HOST)
        assert (answer.header("content-length"), answer.body) == ("6", b"abcdef")


def test_a_large_answer_with_a_length_is_streamed_with_it() -> None:
    """More than 1 MiB is not gathered first; the length that the application knows is kept."""
    size = 3 * MAX_BODY
    chunks = _Chunks(itertools.repeat(b"x" * 65_536, size // 65_536))
    with bridged(_answering("200 OK", [("Content-Length", str(size))], chunks)) as (port, _):
        answer = raw_http.request(port, "GET", "/", HOST)
        assert (answer.header("content-length"), len(answer.body)) == (str(size), size)
        assert chunks.closed.wait(10)


def _raises(_environ: Any, _start_response: Any) -> Iterable[bytes]:
    raise LookupError("a defect")


def _never_starts(_environ: Any, _start_response: Any) -> Iterable[bytes]:
    return [b"body"]


def _starts_twice(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"body"]


def _writes(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])(b"written")
    return []


def _length_is_none(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "many")])
    return [b"body"]


def _fails_before_its_first_piece(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    raise LookupError("a defect")
    yield b"body"  # makes it a generator


@pytest.mark.parametrize(
    "application", [_raises, _never_starts, _starts_twice, _writes, _length_is_none, _fails_before_its_first_piece]
)
def test_an_application_that_breaks_the_rules_is_500_and_the_bridge_goes_on(application: Any) -> None:
    """Nothing was sent yet, so the answer can still be a clear one."""
    with bridged(application) as (port, bridge):
        assert raw_http.request(port, "GET", "/", HOST).status == 500
        assert raw_http.request(port, "GET", "/", HOST).status == 500
        assert bridge._in_flight == 0


def test_an_application_may_start_late_and_again_with_exc_info() -> None:
    """PEP 3333 allows both: with the first piece, and to turn a begun answer into an error."""

    def application(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        error = LookupError("found out late")
        start_response("503 Sorry", [("X-Late", "1")], (type(error), error, None))
        yield b"sorry"

    with bridged(application) as (port, _):
        answer = raw_http.request(port, "GET", "/", HOST)
        assert (answer.status, answer.header("x-late"), answer.body) == (503, "1", b"sorry")
        assert not answer.has("content-type")


def test_a_late_error_replaces_a_whole_answer_that_is_not_sent_yet() -> None:
    """Status, headers and length are those of the error, whatever was said before."""

    def application(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        yield b"so"
        error = LookupError("found out late")
        start_response("503 Sorry", [("X-Late", "1"), ("Content-Length", "9")], (type(error), error, None))
        yield b"rry"

    with bridged(application) as (port, _):
        answer = raw_http.request(port, "GET", "/", HOST)
        assert (answer.status, answer.header("x-late"), answer.body) == (503, "1", b"sorry")
        assert answer.header("content-length") == "5"


def _header_is_a_number(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "4"), ("X-Number", 5)])
    return [b"body"]


def _header_is_no_text(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "4"), ("X-Half", "\ud800")])
    return [b"body"]


@pytest.mark.parametrize("application", [_header_is_a_number, _header_is_no_text])
def test_a_whole_answer_that_cannot_be_sent_is_500(application: Any) -> None:
    """Gatekey's own, which is counted and told, and not the server's."""
    with bridged(application) as (port, _), capture_logs() as logs:
        answer = raw_http.request(port, "GET", "/", HOST)
        assert (answer.status, answer.header("connection")) == (500, "close")
    assert [line["event"] for line in logs] == ["application_failed"]


def test_a_whole_answer_is_sent_though_the_application_fails_to_close() -> None:
    """It is complete; the failure is in the log."""

    class Failing(_Chunks):
        def close(self) -> None:
            super().close()
            raise LookupError("a defect")

    chunks = Failing([b"ok"])
    with bridged(_answering("200 OK", [("Content-Length", "2")], chunks)) as (port, _):
        answer = raw_http.request(port, "GET", "/", HOST)
        assert (answer.status, answer.body, chunks.closed.is_set()) == (200, b"ok", True)


def test_an_application_that_fails_in_the_middle_is_closed_and_the_bridge_goes_on() -> None:
    """What was sent cannot be taken back; the iterable is closed, the thread is free."""

    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise LookupError("a defect")

    closed = []

    def application(_environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        closed.append(_Chunks(pieces()))
        return closed[-1]

    with bridged(application, threads=1, queued=0) as (port, bridge):
        assert raw_http.request(port, "GET", "/", HOST).body == b"first"
        wait_until(lambda: bridge._in_flight == 0, "the thread is free")
        assert raw_http.request(port, "GET", "/", HOST).body == b"first"
        assert all(chunks.closed.wait(10) for chunks in closed)


@pytest.mark.parametrize("defect", [TimeoutError, SystemExit, KeyboardInterrupt])
def test_an_applications_own_time_out_or_exit_is_its_failure(defect: type[BaseException]) -> None:
    """It is not taken for a client that left, and ends nothing but its request."""

    def application(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        raise defect

    with bridged(application) as (port, bridge):
        for _ in range(2):
            assert raw_http.request(port, "GET", "/", HOST).status == 500
        assert bridge._in_flight == 0


def test_a_client_that_leaves_frees_its_thread_and_closes_the_iterable() -> None:
    """An endless stream ends with its reader."""
    chunks = _Chunks(itertools.repeat(b"x" * 65_536))
    with bridged(_answering("200 OK", [], chunks), threads=1, queued=0) as (port, bridge):
        with raw_http.RawConnection(port) as connection:
            connection.send(raw_http.render("GET", "/", HOST))
            assert connection.receive(head=True).status == 200
        assert chunks.closed.wait(20)
        wait_until(lambda: bridge._in_flight == 0, "the thread is free")


def test_a_client_that_leaves_before_its_answer_disturbs_nobody() -> None:
    """The view goes on to its end; what it answers goes nowhere."""
    arrived, go_on = threading.Event(), threading.Event()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            arrived.set()
            assert go_on.wait(20)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with bridged(application) as (port, bridge):
        with raw_http.RawConnection(port) as connection:
            connection.send(raw_http.render("GET", "/slow", HOST))
            assert arrived.wait(10)
            connection.shut(socket.SHUT_RDWR)
        go_on.set()
        wait_until(lambda: bridge._in_flight == 0, "the view has ended")
        assert raw_http.request(port, "GET", "/", HOST).body == b"ok"
