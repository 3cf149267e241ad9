"""Gatekey's Flask application without a server: asked as a WSGI server would, its log lines at hand."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from service.app import create_app
from tests.support import leaks
from tests.support.app import running_gatekey
from tests.support.raw_http import RawResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flask import Flask

    from backends.contract import KeyStore
    from service.auth.clock import Clock
    from service.runtime import Gatekey


class LoggedGatekey:
    """One process's Gatekey and what it logged."""

    def __init__(self, gatekey: Gatekey, log_path: str) -> None:
        self.gatekey = gatekey
        self.app = create_app(gatekey=gatekey)
        self._log_path = log_path
        self._read = 0

    def events(self) -> list[dict[str, Any]]:
        """The lines logged since this was last called."""
        assert self.gatekey.writer.flush(10)
        with open(self._log_path, "rb") as log:  # noqa: PTH123 - read from where the last call stopped
            log.seek(self._read)
            text = log.read()
            self._read = log.tell()
        leaks.check(text.decode(), "the log")
        return [json.loads(line) for line in text.splitlines()]

    def decisions(self) -> list[dict[str, Any]]:
        """The ``auth.decision`` lines since ``events`` or this was last called."""
        return [event for event in self.events() if event["event"] == "auth.decision"]


@contextmanager
def logged_gatekey(
    lines: Iterable[bytes] = (),
    *,
    policies: str = "",
    environ: dict[str, str] | None = None,
    store: KeyStore | None = None,
    clock: Clock | None = None,
) -> Iterator[LoggedGatekey]:
    """``tests.support.app.running_gatekey`` with its log in a file.

    Unless ``environ`` says otherwise, floods are not summarized, and a slow machine is not taken for a store that is down.
    """
    environ = {"GATEKEY_LOG_SUMMARIZE": "off", "GATEKEY_STORE_TIMEOUT": "4", **(environ or {})}
    with tempfile.NamedTemporaryFile() as log:
        running = running_gatekey(
            lines, policies=policies, environ=environ, store=store, clock=clock, log_fd=log.fileno()
        )
        with running as gatekey:
            yield LoggedGatekey(gatekey, log.name)
        with open(log.name, "rb") as written:  # noqa: PTH123 - as above
            leaks.check(written.read().decode(), "the log")


def ask(
    app: Flask,
    method: str,
    target: str,
    lines: Iterable[tuple[str, str | bytes]] = (),
    body: bytes = b"",
    *,
    peer: str = "127.0.0.1",
) -> RawResponse:
    """One request as a WSGI server hands it over: lines of one name joined by commas, the path decoded, nothing added."""
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "RAW_URI": target,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": peer,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, raw in lines:
        value = (raw if isinstance(raw, bytes) else raw.encode("latin-1")).decode("latin-1").strip(" \t")
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key.startswith("HTTP_") and key in environ else value
    return _answer(app, environ)


def _answer(app: Flask, environ: dict[str, Any]) -> RawResponse:
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
        started.append((status, headers))
        return lambda _data: None

    chunks = app.wsgi_app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    assert environ["wsgi.errors"].getvalue() == ""
    status, headers = started[-1]
    fields = tuple((name.lower(), value) for name, value in headers)
    return RawResponse(int(status.split(" ")[0]), fields, body).heard()
