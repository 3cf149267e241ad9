"""The same application under every way to serve it: real processes, allowed and denied, and a quiet end."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import DEMO, KEY, at_door, get, serving, status
from tests.support.servers import Process, accepts, clean_environment, free_port, key_line, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.raw_http import RawResponse

GUNICORN = ("-m", "gunicorn", "--graceful-timeout", "10", "--log-level", "warning")
FLASK = ("-m", "flask", "--app", "tests.support.seeded_app:make_app", "run", "--no-debugger", "--no-reload")


@contextmanager
def wsgi_server(tmp_path: Path, *command: str, port: int, stop: signal.Signals = signal.SIGTERM) -> Iterator[Process]:
    """A WSGI server with one key; its end must be quiet and its exit status 0."""
    keys = tmp_path / "keys.jsonl"
    keys.write_bytes(key_line("key-one", domains=["@gatekey", "api.example.com"]))
    env = {**clean_environment(), "GATEKEY_TEST_KEYS": str(keys), "PYTHONWARNINGS": "error"}
    server = Process([sys.executable, *command], env=env)
    try:
        wait_until(lambda: accepts(port) or server.returncode is not None, "the server listens")
        yield server
    finally:
        code = server.stop(stop)
    assert code == 0, server.lines[-20:]
    noise = [line for line in server.lines if any(word in line for word in ("Warning", "Traceback", "Error"))]
    assert [line for line in noise if f"laddr=('127.0.0.1', {port})" not in line] == []  # gunicorn's own listener


def code_of(response: RawResponse) -> tuple[int, str]:
    return response.status, response.json().get("code", "") if response.body else ""


def assert_serves(port: int, good: list[tuple[str, str]]) -> None:
    """Health, a page with and without a key, a door with and without one."""
    bad = [good[0], ("X-Secret-Token", "not-the-right-one")]
    assert status(port, "/livez") == 200
    wait_until(lambda: status(port, "/readyz") == 200, "it is ready")
    assert get(port, "/v1/whoami", good).status == 200
    assert code_of(get(port, "/v1/whoami", bad)) == (401, "invalid_credentials")
    assert code_of(get(port, "/v1/whoami")) == (401, "missing_credentials")
    assert code_of(at_door(port, good)) == (200, "")
    assert code_of(at_door(port, bad)) == (401, "invalid_credentials")


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_gatekey_serve(interface: str) -> None:
    """Both interfaces of ``gatekey serve`` answer pages and doors, print JSON lines only, and end with 0."""
    with serving("--demo", "--interface", interface) as server:
        assert_serves(server.port, DEMO)
        banner_ends = server.lines.index("Ctrl-C ends it.")
    rest = server.lines[banner_ends + 1 :]
    assert rest
    assert [line for line in rest if not line.startswith("{")] == []
    assert server.events[-1]["event"] == "stopped"


@pytest.mark.parametrize(
    "options",
    [
        ("--worker-class", "gthread", "--threads", "4", "--workers", "2"),
        ("--worker-class", "sync", "--workers", "2"),
        ("--worker-class", "gthread", "--threads", "4", "--workers", "2", "--preload"),
    ],
    ids=["gthread", "sync", "preload"],
)
def test_gunicorn(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Gunicorn serves it with threads, with processes, and forked from a preloaded parent; no warning at the end."""
    port = free_port()
    command = [*GUNICORN, *options, "--bind", f"127.0.0.1:{port}", "tests.support.seeded_app:make_app()"]
    with wsgi_server(tmp_path, *command, port=port):
        for _ in range(4):  # so that more than one worker has to start its loop
            assert_serves(port, KEY)


def test_gunicorn_with_the_documented_name(tmp_path: Path) -> None:
    """``service:create_app()`` needs nothing else: it is ready, and denies who has no key."""
    port = free_port()
    with wsgi_server(tmp_path, *GUNICORN, "--bind", f"127.0.0.1:{port}", "service:create_app()", port=port):
        wait_until(lambda: status(port, "/readyz") == 200, "it is ready")
        assert code_of(at_door(port, KEY)) == (401, "invalid_credentials")


def test_flask_run(tmp_path: Path) -> None:
    """``flask run`` serves pages and doors, and Ctrl-C ends it quietly."""
    port = free_port()
    with wsgi_server(tmp_path, *FLASK, "--port", str(port), port=port, stop=signal.SIGINT):
        assert_serves(port, KEY)


def test_flask_run_with_the_documented_name(tmp_path: Path) -> None:
    """``flask --app service run`` finds the application."""
    port = free_port()
    command = ["-m", "flask", "--app", "service", "run", "--port", str(port)]
    with wsgi_server(tmp_path, *command, port=port, stop=signal.SIGINT):
        wait_until(lambda: status(port, "/readyz") == 200, "it is ready")
        assert code_of(get(port, "/v1/whoami")) == (401, "missing_credentials")
