"""The programs themselves, not our table of them: what each installed version sends today is told apart correctly."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest
import requests

from service.answers.client_kind import is_browser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message


class Recorder(ThreadingHTTPServer):
    """Answers anything, and keeps the method and headers of each request."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, Message]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.headers))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    do_POST = do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")  # a proxy of the developer's must not stand between
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def judged(recorder: Recorder, unsure: str = "api") -> bool:
    [(method, headers)] = recorder.seen
    return is_browser(
        method=method,
        header=lambda name: headers.get(name, ""),
        credential_presented=False,
        client="auto",
        unsure=unsure,
    )


def with_urllib(url: str) -> None:
    urllib.request.urlopen(url).close()  # noqa: S310 - our own server's address


def with_http_client(url: str) -> None:
    connection = http.client.HTTPConnection(url.split("/")[2])
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()


def with_requests(url: str) -> None:
    requests.get(url, timeout=10)


def with_httpx(url: str) -> None:
    httpx.get(url, trust_env=False)


def with_aiohttp(url: str) -> None:
    async def get() -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            await response.read()

    asyncio.run(get())


@pytest.mark.parametrize("call", [with_urllib, with_http_client, with_requests, with_httpx, with_aiohttp])
def test_a_library_of_python_is_unsure_and_never_a_browser_by_itself(
    call: Callable[[str], None], recorder: Recorder
) -> None:
    """It sends no Accept or only */*: the setting decides."""
    call(recorder.url)
    assert not judged(recorder)
    assert judged(recorder, unsure="browser")


@pytest.mark.parametrize("call", [requests.post, httpx.post])
def test_a_library_that_posts_json_is_an_api_client(call: Callable[..., object], recorder: Recorder) -> None:
    """Whatever the setting says."""
    call(recorder.url, json={"a": 1}, timeout=10)
    assert not judged(recorder, unsure="browser")


COMMANDS: dict[str, list[str]] = {
    "curl": ["curl", "--silent", "--noproxy", "*"],
    "curl --head": ["curl", "--silent", "--noproxy", "*", "--head"],
    "wget": ["wget", "--quiet", "--no-proxy", "--output-document=-"],
    "node": ["node", "-e", "fetch(process.argv[1]).then(answer => answer.text())"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program_of_the_command_line_is_no_browser(
    name: str,
    recorder: Recorder,
    require_all: bool,  # noqa: FBT001 - a fixture
) -> None:
    """Pasting an address into a terminal shows JSON, not an empty redirect."""
    command = COMMANDS[name]
    if shutil.which(command[0]) is None:
        (pytest.fail if require_all else pytest.skip)(f"{command[0]} is not installed")
    subprocess.run([*command, recorder.url], check=True, timeout=30, stdout=subprocess.DEVNULL)
    assert not judged(recorder)
