"""The raw client: one connection a request, everything under one deadline, every failure a value.

A library would be shorter, and would refuse to send what the probes are about: doubled and underscored headers, dot
segments, two hosts.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from service.doctor.messages import MAX_BODY, MAX_HEAD, Garbled, Reply, Silence, SilenceKind, parse_reply, render_ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.doctor.messages import Ask
    from service.doctor.site import Site

__all__ = ["send"]

_MOST: Final = 2 * (MAX_HEAD + MAX_BODY)
"""More is never read: interim heads, chunk sizes and padding included."""


def send(
    ask: Ask,
    site: Site,
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Reply | Silence:
    """Send it and return what came back. ``timeout`` bounds the whole exchange; ``tls`` is needed for https."""
    deadline = _Deadline(clock, timeout)
    try:
        connection = socket.create_connection(site.connect, timeout=deadline.left())
    except TimeoutError:
        return Silence(SilenceKind.UNREACHABLE, f"no connection within {timeout:g} s")
    except OSError as error:
        return Silence(SilenceKind.UNREACHABLE, (error.strerror or type(error).__name__).lower())
    with connection:
        if site.scheme == "http":
            return _exchange(connection, ask, site, deadline)
        return _over_tls(connection, ask, site, deadline, tls or ssl.create_default_context())


def _over_tls(
    connection: socket.socket, ask: Ask, site: Site, deadline: _Deadline, context: ssl.SSLContext
) -> Reply | Silence:
    try:
        connection.settimeout(deadline.left())
        encrypted = context.wrap_socket(connection, server_hostname=site.host)
    except ssl.SSLCertVerificationError as error:
        return Silence(SilenceKind.TLS, f"the certificate is not trusted: {error.verify_message}")
    except TimeoutError:
        return Silence(SilenceKind.TIMEOUT, f"no TLS handshake within {deadline.seconds:g} s")
    except (OSError, ValueError) as error:
        return Silence(SilenceKind.TLS, f"no TLS handshake: {getattr(error, 'reason', None) or type(error).__name__}")
    with encrypted:
        seen = _exchange(encrypted, ask, site, deadline)
        return replace(seen, tls=encrypted.version() or "") if isinstance(seen, Reply) else seen


def _exchange(connection: socket.socket, ask: Ask, site: Site, deadline: _Deadline) -> Reply | Silence:
    head_only = ask.method == "HEAD"
    data = b""
    try:
        _send_all(connection, render_ask(ask, site), deadline)
        while len(data) < _MOST:
            connection.settimeout(deadline.left())
            piece = connection.recv(16384)
            data += piece
            reply = parse_reply(data, head_only=head_only, ended=not piece) if data else None
            if reply is not None:
                return reply
            if not piece:
                break
        else:
            return Silence(SilenceKind.GARBLED, "an answer without an end")
    except TimeoutError:
        return _what_came(data, head_only=head_only) or Silence(
            SilenceKind.TIMEOUT, f"no answer within {deadline.seconds:g} s"
        )
    except Garbled as error:
        return Silence(SilenceKind.GARBLED, str(error))
    except OSError:  # a reset: how some proxies refuse
        return _what_came(data, head_only=head_only) or Silence(SilenceKind.CLOSED, "closed the connection")
    return Silence(SilenceKind.CLOSED, "closed the connection")


def _send_all(connection: socket.socket, data: bytes, deadline: _Deadline) -> None:
    """Send it; a peer that stops listening early may have answered already, so that is no failure here."""
    connection.settimeout(deadline.left())
    try:
        connection.sendall(data)
    except TimeoutError:
        raise
    except OSError:
        return


def _what_came(data: bytes, *, head_only: bool) -> Reply | None:
    """An answer whose head is whole although its body never ended (a stream), else ``None``."""
    try:
        return parse_reply(data, head_only=head_only, ended=True)
    except Garbled:
        return None


class _Deadline:
    __slots__ = ("_clock", "_until", "seconds")

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._until = clock() + seconds
        self.seconds = seconds

    def left(self) -> float:
        """Seconds left; ``TimeoutError`` when there are none (0 would mean "do not block" to a socket)."""
        left = self._until - self._clock()
        if left <= 0:
            raise TimeoutError
        return left
