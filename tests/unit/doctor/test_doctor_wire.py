from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
from contextlib import contextmanager, suppress
from shutil import which
from typing import TYPE_CHECKING

import pytest

from service.doctor.messages import MAX_BODY, Ask, Reply, Silence, SilenceKind
from service.doctor.site import Site
from service.doctor.wire import send
from tests.support.servers import DEADLINE, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ASK = Ask(target="/")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def site(port: int, scheme: str = "http", host: str = "localhost") -> Site:
    return Site(scheme=scheme, host=host, port=port, path="/", connect=("127.0.0.1", port))


@contextmanager
def served(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A loopback port on which one connection is answered by ``talk``, whose event says that the test is over."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):  # the client may be gone
                talk(connection, over)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join(DEADLINE)
            assert not thread.is_alive()


def ask_of(connection: socket.socket) -> bytes:
    """All of the request's head."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    return data


def test_the_answer_comes_back_before_the_connection_ends() -> None:
    """Its framing ends it, so that a server that keeps connections open costs no time."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        ask_of(connection)
        connection.sendall(OK)
        over.wait(DEADLINE)

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert isinstance(seen, Reply)
    assert (seen.status, seen.body, seen.tls) == (200, b"ok", "")


def test_an_answer_in_small_pieces_is_put_together() -> None:
    """Byte by byte, chunked."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask_of(connection)
        for byte in b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nslow\r\n0\r\n\r\n":
            connection.sendall(bytes([byte]))

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert isinstance(seen, Reply)
    assert (seen.status, seen.body) == (401, b"slow")


def test_an_endless_body_is_cut() -> None:
    """The first part is enough for a verdict."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        ask_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.is_set():
            connection.sendall(b"x" * 65536)

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert isinstance(seen, Reply)
    assert len(seen.body) == MAX_BODY


def test_endless_interim_answers_end_in_silence() -> None:
    """Nobody may keep the doctor busy for ever, however fast he talks."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        ask_of(connection)
        while not over.is_set():
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert isinstance(seen, Silence)
    assert seen.kind is SilenceKind.GARBLED


def test_a_server_that_says_nothing_is_given_up() -> None:
    """After the time that one request may take."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        ask_of(connection)
        over.wait(DEADLINE)

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=0.1)
    assert seen == Silence(SilenceKind.TIMEOUT, "no answer within 0.1 s")


def test_a_server_that_drips_is_given_up_all_the_same() -> None:
    """The time is for the whole exchange, not for each piece."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        ask_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not over.wait(0.01):
            connection.sendall(b"y")

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=0.2)
    assert isinstance(seen, Silence)
    assert seen.kind is SilenceKind.TIMEOUT


def test_a_stream_counts_by_what_has_come() -> None:
    """An answer whose body never ends is an answer."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        ask_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n")
        over.wait(DEADLINE)

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=0.3)
    assert isinstance(seen, Reply)
    assert seen.body == b"data: 1\n"


def test_a_connection_closed_without_a_word_is_told() -> None:
    """Some proxies refuse that way."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        ask_of(connection)

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert seen == Silence(SilenceKind.CLOSED, "closed the connection")


def test_a_reset_is_told_as_closed() -> None:
    """What a proxy does that ends a connection at once, without reading the rest."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert seen == Silence(SilenceKind.CLOSED, "closed the connection")


def test_an_answer_cut_within_its_body_is_an_answer() -> None:
    """The status is what counts."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        ask_of(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno")

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert isinstance(seen, Reply)
    assert (seen.status, seen.body) == (403, b"no")


def test_another_protocol_is_told() -> None:
    """A port where no HTTP is spoken."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        ask_of(connection)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with served(talk) as port:
        seen = send(ASK, site(port), timeout=DEADLINE)
    assert isinstance(seen, Silence)
    assert seen.kind is SilenceKind.GARBLED


def test_nobody_listening_is_told() -> None:
    """In the system's words."""
    seen = send(ASK, site(free_port()), timeout=DEADLINE)
    assert seen == Silence(SilenceKind.UNREACHABLE, "connection refused")


def test_https_to_a_port_of_plain_http_is_told() -> None:
    """Without a traceback of OpenSSL."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with served(talk) as port:
        seen = send(ASK, site(port, "https"), timeout=DEADLINE)
    assert isinstance(seen, Silence)
    assert seen.kind is SilenceKind.TLS
    assert "handshake" in seen.detail


def test_a_handshake_that_hangs_is_given_up() -> None:
    """The same time holds for it."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        over.wait(DEADLINE)

    with served(talk) as port:
        seen = send(ASK, site(port, "https"), timeout=0.1)
    assert seen == Silence(SilenceKind.TIMEOUT, "no TLS handshake within 0.1 s")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory, *, require_all: bool) -> tuple[Path, Path]:
    """A certificate for ``localhost`` that signs itself, and its key."""
    openssl = which("openssl")
    if openssl is None:
        (pytest.fail if require_all else pytest.skip)("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", str(key)]
    subprocess.run(
        [openssl, "req", "-x509", *new_key, *subject, "-out", str(certificate)],
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    return certificate, key


def over_tls(certificate: tuple[Path, Path]) -> Callable[[socket.socket, threading.Event], None]:
    """A server that answers with ``OK`` over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    def talk(connection: socket.socket, _: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            ask_of(encrypted)
            encrypted.sendall(OK)

    return talk


def test_a_trusted_certificate_is_accepted_and_the_version_told(certificate: tuple[Path, Path]) -> None:
    """With the operator's own CA."""
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with served(over_tls(certificate)) as port:
        seen = send(ASK, site(port, "https"), timeout=DEADLINE, tls=context)
    assert isinstance(seen, Reply)
    assert (seen.status, seen.tls) == (200, "TLSv1.3")


@pytest.mark.parametrize(("trusted", "host"), [(False, "localhost"), (True, "api.example.com")])
def test_a_certificate_of_a_stranger_is_refused(
    certificate: tuple[Path, Path],
    host: str,
    *,
    trusted: bool,
) -> None:
    """Whether nobody trusts it or it is for another name; there is no switch to go on."""
    context = ssl.create_default_context(cafile=str(certificate[0]) if trusted else None)
    with served(over_tls(certificate)) as port:
        seen = send(ASK, site(port, "https", host), timeout=DEADLINE, tls=context)
    assert isinstance(seen, Silence)
    assert seen.kind is SilenceKind.TLS
    assert "not trusted" in seen.detail
