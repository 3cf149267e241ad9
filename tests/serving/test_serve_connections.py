"""Connections as proxies and bad clients use them: HTTP/1.0, kept alive, pipelined, and hundreds that never go on."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import CONTEXT, DEMO, HOST, at_door, get, serving, status
from tests.support.raw_http import RawConnection, render, request

if TYPE_CHECKING:
    from collections.abc import Iterator

DOOR = "/auth/forward/default"
MANY = 600
HALF_HEADERS = b"GET /livez HTTP/1.1\r\nHo"


@contextmanager
def half_open(port: int, *requests: bytes) -> Iterator[None]:
    """``MANY`` connections for each of ``requests`` that have sent it and nothing more."""
    wanted = len(requests) * MANY + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
    with ExitStack() as connections:
        for data in requests * MANY:
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.sendall(data)
        yield


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_http_1_0_is_answered_and_closed(interface: str) -> None:
    """What nginx sends by default in a sub-request: a door and a page answer, and the connection ends."""
    with serving("--demo", "--interface", interface) as server:
        for target, lines in ((DOOR, [*CONTEXT, *DEMO]), ("/v1/whoami", DEMO)):
            with RawConnection(server.port) as connection:
                connection.send(render("GET", target, [*HOST, *lines], version="HTTP/1.0"))
                assert connection.receive().status == 200
                assert connection.is_closed()


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(interface: str) -> None:
    """Doors and pages, allowed and denied, on one connection, sent without waiting for the answers."""
    wrong = [DEMO[0], ("X-Secret-Token", "wrong")]
    requests = [
        (render("GET", DOOR, [*HOST, *CONTEXT, *DEMO, ("X-Request-Id", "r-0")]), 200),
        (render("GET", "/v1/whoami", [*HOST, *DEMO, ("X-Request-Id", "r-1")]), 200),
        (render("GET", DOOR, [*HOST, *CONTEXT, *wrong, ("X-Request-Id", "r-2")]), 401),
        (render("GET", "/livez", [*HOST, ("X-Request-Id", "r-3")]), 200),
        (render("GET", "/v1/whoami", [*HOST, *wrong, ("X-Request-Id", "r-4")]), 401),
    ]
    with serving("--demo", "--interface", interface) as server, RawConnection(server.port) as connection:
        for _ in range(3):
            connection.send(b"".join(data for data, _ in requests))
            answers = [connection.receive() for _ in requests]
            assert [answer.status for answer in answers] == [code for _, code in requests]
            assert [answer.header("x-request-id") for answer in answers] == [f"r-{n}" for n in range(len(requests))]


def test_hundreds_of_half_sent_requests_leave_the_service_answering() -> None:
    """1,200 half-sent headers, 600 bodies of pages and 600 bodies at a door take nothing from the others."""
    half = (
        HALF_HEADERS,
        HALF_HEADERS,  # more than Granian takes by default
        render("POST", "/v1/keys/verify", [*HOST, *DEMO, ("Content-Length", "999")], b"{"),
        render("POST", DOOR, [*HOST, *CONTEXT, ("Content-Length", "999")], b"{"),
    )
    verify = b'{"api_key":"demo-key","secret_token":"demo-secret","domain":"api.example.com"}'
    with serving("--demo", env={"GATEKEY_SHUTDOWN_TIMEOUT": "1"}) as server, half_open(server.port, *half):
        for _ in range(3):
            assert at_door(server.port, DEMO).status == 200
            assert get(server.port, "/v1/whoami", DEMO).status == 200
            assert status(server.port, "/readyz") == 200
            lines = [*HOST, *DEMO, ("Content-Type", "application/json"), ("Content-Length", str(len(verify)))]
            assert request(server.port, "POST", "/v1/keys/verify", lines, verify).json()["valid"] is True


def test_half_sent_headers_leave_the_wsgi_interface_answering() -> None:
    """They wait in the server, not on one of the few threads."""
    env = {"GATEKEY_SHUTDOWN_TIMEOUT": "1"}
    with (
        serving("--demo", "--interface", "wsgi", env=env) as server,
        half_open(server.port, HALF_HEADERS),
    ):
        assert at_door(server.port, DEMO).status == 200
        assert get(server.port, "/v1/whoami", DEMO).status == 200
