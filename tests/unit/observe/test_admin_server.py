"""The operators' port: metrics and nothing else, whatever is asked."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from service.observe.admin import AdminServer
from service.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

METRICS = Metrics(store="memory", version="1")


@contextmanager
def admin(host: str = "127.0.0.1") -> Iterator[AdminServer]:
    server = AdminServer(host, 0, METRICS)
    try:
        yield server
    finally:
        server.close()


def ask(
    server: AdminServer, path: str, *, method: str = "GET", host: str = "127.0.0.1", **headers: str
) -> tuple[int, str, bytes]:
    with closing(http.client.HTTPConnection(host, server.port, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read()


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text;version=a", "\xff", ";;"])
def test_any_accept_header_gets_the_text_form(accept: str) -> None:
    """An odd one is no error."""
    with admin() as server:
        status, content_type, body = ask(server, "/metrics", Accept=accept)
    assert status == 200
    assert content_type.startswith("text/plain")
    assert b"gatekey_decisions_total" in body


def test_openmetrics_is_given_to_who_asks() -> None:
    """As on the page of the service."""
    with admin() as server:
        _, content_type, body = ask(server, "/metrics?x=1", Accept="application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize("path", ["/", "/metricsx", "/metrics/", "/v1/whoami", "/%6detrics"])
def test_there_is_nothing_else(path: str) -> None:
    """No other page of the service is on that port."""
    with admin() as server:
        status, _, body = ask(server, path)
    assert status == 404
    assert b"gatekey_" not in body


def test_head_has_no_body_and_other_methods_are_refused() -> None:
    """Only reading."""
    with admin() as server:
        assert ask(server, "/metrics", method="HEAD")[::2] == (200, b"")
        assert ask(server, "/metrics", method="POST")[0] == 501


def test_it_listens_on_ipv6_too() -> None:
    """An address of either kind may be set."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    with admin("::1") as server:
        assert ask(server, "/metrics", host="::1")[0] == 200


def test_a_silent_client_does_not_hold_it_up(capfd: pytest.CaptureFixture[str]) -> None:
    """Others are answered meanwhile, closing does not wait for it, and nothing is printed past the log."""
    server = AdminServer("127.0.0.1", 0, METRICS)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert ask(server, "/metrics")[0] == 200
        closer = threading.Thread(target=server.close)
        closer.start()
        closer.join(5)
        assert not closer.is_alive()
    assert capfd.readouterr() == ("", "")


def test_a_taken_address_is_an_error_at_the_start() -> None:
    """Two services cannot share the port in silence."""
    with admin() as server, pytest.raises(OSError, match="in use"):
        AdminServer("127.0.0.1", server.port, METRICS)
