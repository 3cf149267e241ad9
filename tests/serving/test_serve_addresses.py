"""Where the service listens, and what it says when it cannot: one line, exit status 1, nothing half started."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.plugin_store import environment
from tests.support.processes import (
    DEMO,
    HOST,
    at_door,
    children,
    get,
    refused,
    replaced,
    serving,
    status,
)
from tests.support.raw_http import render
from tests.support.servers import Process, clean_environment, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Authority


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


EVERYWHERE = "0.0.0.0"  # noqa: S104 - the start with it is refused


def assert_refused(*, env: dict[str, str], names: str) -> str:
    """The one line that says why the service does not start."""
    code, lines = refused("--demo", env=env)
    told = [line for line in lines if not line.startswith("{") and "because memory://" not in line]
    assert (code, len(told)) == (1, 1), lines
    assert names in told[0]
    assert not any(event in line for line in lines for event in ("Traceback", "worker_died"))
    return told[0]


def test_a_port_in_use_is_refused(taken: int) -> None:
    """The line names the address and the setting."""
    assert_refused(env={"GATEKEY_PORT": str(taken)}, names=f"127.0.0.1:{taken}")


def test_a_second_service_on_the_same_port_is_refused() -> None:
    """Granian's sockets could share the port; two services never do."""
    with serving("--demo") as first:
        assert_refused(env={"GATEKEY_PORT": str(first.port)}, names="GATEKEY_PORT")
        assert status(first.port) == 200


def test_a_host_that_does_not_exist_is_refused() -> None:
    """A name that has no address is told as such, by its setting and without the value."""
    assert "no-such-host" not in assert_refused(env={"GATEKEY_HOST": "no-such-host.invalid"}, names="GATEKEY_HOST")


def test_a_host_name_is_resolved() -> None:
    """``localhost`` works as well as an address."""
    with (
        serving("--demo", env={"GATEKEY_HOST": "localhost"}) as server,
        socket.create_connection(("localhost", server.port)) as connection,
    ):
        connection.sendall(render("GET", "/livez", [*HOST, ("Connection", "close")]))
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_the_admin_port_serves_metrics() -> None:
    """``GATEKEY_ADMIN_LISTEN`` answers the scrape beside the service, also after the worker was replaced."""
    admin = free_port()
    with serving("--demo", env={"GATEKEY_ADMIN_LISTEN": f"127.0.0.1:{admin}"}) as server:
        assert at_door(server.port, DEMO).status == 200
        assert b'gatekey_decisions_total{outcome="allow",reason="ok"} 1.0' in get(admin, "/metrics").body
        replaced(server, children(server.pid)[0])
        wait_until(lambda: status(admin, "/metrics") == 200, "the new worker has the port")


def test_an_admin_port_in_use_is_refused(taken: int) -> None:
    """It is told before any worker starts."""
    assert_refused(env={"GATEKEY_ADMIN_LISTEN": f"127.0.0.1:{taken}"}, names="GATEKEY_ADMIN_LISTEN")


@pytest.mark.parametrize(
    ("host", "admin"), [(EVERYWHERE, "127.0.0.1"), ("127.0.0.1", EVERYWHERE), ("127.0.0.1", "127.0.0.1")]
)
def test_an_admin_port_that_is_the_service_s_own_is_refused(host: str, admin: str) -> None:
    """Also where one of the two listens everywhere."""
    port = str(free_port())
    env = {"GATEKEY_HOST": host, "GATEKEY_PORT": port, "GATEKEY_ADMIN_LISTEN": f"{admin}:{port}"}
    assert_refused(env=env, names="GATEKEY_ADMIN_LISTEN")


def test_the_admin_port_serves_the_metrics_of_several_workers(tmp_path: Path) -> None:
    """The parent has it, so it is there from the start on and outlives every worker."""
    admin = free_port()
    env = {**environment(tmp_path, "fine"), "GATEKEY_ADMIN_LISTEN": f"127.0.0.1:{admin}"}
    with serving(env=env) as server:
        wait_until(lambda: b"gatekey_workers 2.0" in get(admin, "/metrics").body, "both workers are told of")
        for worker in children(server.pid):
            os.kill(worker, signal.SIGKILL)
        assert b'gatekey_decisions_total{outcome="allow",reason="ok"} 0.0' in get(admin, "/metrics").body
        wait_until(lambda: b"gatekey_workers 2.0" in get(admin, "/metrics").body, "both are replaced")


def test_the_variables_that_kubernetes_injects_are_ignored(tmp_path: Path) -> None:
    """Where a service is called gatekey, every pod is told about it in these names; they are no settings."""
    port = free_port()
    (tmp_path / "gatekey.toml").write_text(f"port = {port}\ndrain = 0\n")
    injected = {
        "GATEKEY_SERVICE_HOST": "10.0.0.1",
        "GATEKEY_SERVICE_PORT": "80",
        "GATEKEY_PORT": "tcp://10.0.0.1:80",
        "GATEKEY_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    env = {**clean_environment(), **injected, "GATEKEY_CONFIG": str(tmp_path / "gatekey.toml")}
    server = Process([sys.executable, "-m", "service", "serve"], env=env)
    try:
        wait_until(lambda: status(port) == 200 or server.returncode is not None, "the service answers")
    finally:
        code = server.stop()
    assert code == 0, server.lines


def test_a_unix_socket(folder: Path) -> None:
    """Owner and group may connect, others may not; a stale socket is replaced, and the file is gone at the end."""
    path = folder / "gatekey.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with serving("--demo", env={"GATEKEY_UDS": str(path)}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(render("GET", "/v1/whoami", [*HOST, *DEMO, ("Connection", "close")]))
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert_refused(env={"GATEKEY_UDS": str(path)}, names="GATEKEY_UDS")
        assert path.exists()
    assert not path.exists()


def test_a_unix_socket_never_replaces_a_file(folder: Path) -> None:
    """Whatever else stands at the path stays there."""
    path = folder / "precious"
    path.write_text("data")
    assert_refused(env={"GATEKEY_UDS": str(path)}, names="GATEKEY_UDS")
    assert path.read_text() == "data"


def test_a_unix_socket_in_a_folder_that_is_missing_is_refused(folder: Path) -> None:
    """The line names the setting."""
    assert_refused(env={"GATEKEY_UDS": str(folder / "missing" / "gatekey.sock")}, names="GATEKEY_UDS")


def ask_over_tls(port: int, context: ssl.SSLContext, path: str = "/v1/whoami") -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=15)
    try:
        connection.request("GET", path, headers=dict(DEMO))
        return connection.getresponse().status
    finally:
        connection.close()


def test_tls(authority: Authority) -> None:
    """The service speaks TLS with the given certificate and nothing else."""
    certificate, key = authority.issue("server")
    env = {"GATEKEY_TLS_CERT": str(certificate), "GATEKEY_TLS_KEY": str(key)}
    with serving("--demo", env=env) as server:
        context = ssl.create_default_context(cafile=str(authority.ca))
        assert ask_over_tls(server.port, context) == 200
        assert status(server.port) in (0, 400)
        assert any(line == f"Gatekey listens on https://127.0.0.1:{server.port}" for line in server.lines)
    assert not [line for line in server.lines if "panicked" in line]


def test_tls_with_client_certificates(authority: Authority) -> None:
    """With a client authority only who has a certificate of it gets an answer."""
    certificate, key = authority.issue("server")
    env = {
        "GATEKEY_TLS_CERT": str(certificate),
        "GATEKEY_TLS_KEY": str(key),
        "GATEKEY_TLS_CLIENT_CA": str(authority.ca),
    }
    with serving("--demo", env=env) as server:
        context = ssl.create_default_context(cafile=str(authority.ca))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask_over_tls(server.port, context)
        context.load_cert_chain(*authority.issue("client"))
        assert ask_over_tls(server.port, context) == 200


@pytest.mark.parametrize("wrong", ["certificate", "key of another", "encrypted key", "client authority"])
def test_tls_files_that_do_not_fit_are_refused(authority: Authority, wrong: str) -> None:
    """The line names the settings, and no terminal is asked for a password."""
    certificate, key = authority.issue("server")
    env = {"GATEKEY_TLS_CERT": str(certificate), "GATEKEY_TLS_KEY": str(key)}
    if wrong == "certificate":
        certificate.write_text("no certificate")
    elif wrong == "key of another":
        env["GATEKEY_TLS_KEY"] = str(authority.issue("other")[1])
    elif wrong == "encrypted key":
        encrypted = authority.folder / "encrypted.key"
        authority.run("ec", "-in", str(key), "-aes256", "-passout", "pass:a-password", "-out", str(encrypted))
        env["GATEKEY_TLS_KEY"] = str(encrypted)
    else:
        (authority.folder / "empty.pem").write_text("")
        env["GATEKEY_TLS_CLIENT_CA"] = str(authority.folder / "empty.pem")
    assert_refused(env=env, names="GATEKEY_TLS_CLIENT_CA" if wrong == "client authority" else "GATEKEY_TLS_KEY")
