"""What a printed `curl` line does when it is pasted, also on a machine without curl; only the options we print."""

from __future__ import annotations

import http.client
import shlex
import socket
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def paste(line: str, *more: str) -> Answer:
    """The answer to the request that the line makes; ``more`` are further arguments."""
    words = [*shlex.split(line), *more]
    assert words.pop(0) == "curl", "the line runs curl"
    headers: dict[str, str] = {}
    unix_socket = url = body = ""
    method = "GET"
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            method, body = "POST", words.pop(0)
        elif word == "--unix-socket":
            unix_socket = words.pop(0)
        elif word not in ("-i", "-s"):
            assert word.startswith("http"), f"{word} is understood"
            url = word
    return _request(method, url, headers, body, unix_socket)


def _request(method: str, url: str, headers: dict[str, str], body: str, unix_socket: str) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
    if unix_socket:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(unix_socket)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body or None, {"User-Agent": "curl/8", "Accept": "*/*", **headers})
        response = connection.getresponse()
        text = response.read().decode()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, text)
    finally:
        connection.close()
