"""HTTP/1.1 as bytes: a request written exactly as a probe says, an answer read without believing anything in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.doctor.site import Site

__all__ = ["MAX_BODY", "MAX_HEAD", "Ask", "Garbled", "Reply", "Silence", "SilenceKind", "parse_reply", "render_ask"]

MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 64 * 1024

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: .*)?")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[^\n]{0,256}\n")
_DEFAULTS: Final = (("Accept", "application/json"), ("User-Agent", "gatekey-doctor"), ("Connection", "close"))
_SWITCHING: Final = 101
_MOST_HEADS: Final = 10  # interim answers, and the real one
_BODILESS: Final = (101, 204, 304)

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request. Nothing is normalized: what stands here is what goes over the wire."""

    target: str
    method: str = "GET"
    hosts: tuple[str, ...] | None = None
    """The ``Host`` lines; ``None`` is the site's own."""
    headers: Lines = field(default=(), repr=False)  # may hold the operator's key
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer. ``tls`` is the protocol version, empty without TLS."""

    status: int
    headers: Lines = ()
    body: bytes = field(default=b"", repr=False)  # may echo the operator's key
    tls: str = ""

    def header(self, name: str) -> str:
        """The value of a header (name in lower case), its lines joined; ``""`` when absent."""
        return ", ".join(self.lines(name))

    def lines(self, name: str) -> list[str]:
        """Every line of a header (name in lower case)."""
        return [value for found, value in self.headers if found == name]


class SilenceKind(StrEnum):
    """Why there is no answer."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    GARBLED = "garbled"


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer, and why; ``detail`` is for people."""

    kind: SilenceKind
    detail: str


class Garbled(ValueError):
    """What came back is not HTTP/1.1."""


def render_ask(ask: Ask, site: Site) -> bytes:
    """The bytes of the request. Header names and values go out as they are, one byte a character."""
    given = {name.lower() for name, _ in ask.headers}
    lines = [f"{ask.method} {ask.target} HTTP/1.1"]
    lines += [f"Host: {host}" for host in (ask.hosts if ask.hosts is not None else (site.authority,))]
    lines += [f"{name}: {value}" for name, value in ask.headers]
    lines += [f"{name}: {value}" for name, value in _DEFAULTS if name.lower() not in given]
    if ask.body and not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(ask.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + ask.body


def parse_reply(data: bytes, *, head_only: bool, ended: bool) -> Reply | None:
    """The answer at the beginning of ``data``, or ``None`` while more must come.

    ``head_only`` says that the request was a HEAD, ``ended`` that nothing more will come: a body cut short is then
    taken as it is. A body is kept up to ``MAX_BODY``. Raises ``Garbled``.
    """
    for _ in range(_MOST_HEADS):
        end = _HEAD_END.search(data, 0, MAX_HEAD)
        if end is None:
            if ended or len(data) > MAX_HEAD:
                raise Garbled("the head of the answer is no HTTP/1.1, or not whole")
            return None
        status, headers = _parse_head(data[: end.start()])
        data = data[end.end() :]
        if status >= 200 or status == _SWITCHING:  # noqa: PLR2004 - an interim answer is followed by another one
            break
    else:
        raise Garbled("one interim answer after the other")
    bodiless = head_only or status in _BODILESS
    body = b"" if bodiless else _body(data, headers, ended=ended)
    return None if body is None else Reply(status=status, headers=headers, body=body)


def _parse_head(head: bytes) -> tuple[int, Lines]:
    first, *lines = head.replace(b"\r\n", b"\n").split(b"\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise Garbled("the answer does not begin with an HTTP/1.1 status line")
    headers = []
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise Garbled("a header line of the answer has no colon")
        headers.append((name.strip().lower(), value.strip()))
    return int(match[1]), tuple(headers)


def _body(data: bytes, headers: Lines, *, ended: bool) -> bytes | None:
    """The body by its framing (RFC 9112 6.3), ``None`` while it is not whole."""
    by_name = dict(headers)
    if "chunked" in by_name.get("transfer-encoding", "").lower():
        body, whole = _unchunk(data)
        return body if whole or ended else None
    length = by_name.get("content-length", "")
    if length.isascii() and length.isdecimal() and len(length) < 19:  # noqa: PLR2004 - beyond any real length
        wanted = min(int(length), MAX_BODY)
        return data[:wanted] if len(data) >= wanted or ended else None
    return data[:MAX_BODY] if ended or len(data) >= MAX_BODY else None


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    """The chunks' content so far, and whether it is whole (or enough). Nonsense ends it."""
    body = bytearray()
    at = 0
    while len(body) < MAX_BODY:
        match = _CHUNK.match(data, at)
        if match is None:
            return bytes(body), len(data) - at > 300  # noqa: PLR2004 - no size line is that long: nonsense
        size = int(match[1], 16)
        if size == 0:
            return bytes(body), True
        chunk = data[match.end() : match.end() + size]
        body += chunk
        at = match.end() + size + 2
        if len(chunk) < size or at > len(data):
            return bytes(body[:MAX_BODY]), len(body) >= MAX_BODY
    return bytes(body[:MAX_BODY]), True
