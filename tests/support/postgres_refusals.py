"""Servers of PostgreSQL's protocol that end or refuse a session while it is made, each at a known moment."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECONDS = 10.0  # that a client may be silent


def fatal(state: str) -> bytes:
    """The last words of a server that ends a session; ``state`` is the SQLSTATE."""
    fields = f"SFATAL\0VFATAL\0C{state}\0Mof the tests\0\0".encode()
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields


class EndingProxy(FaultProxy):
    """In front of a server; the first connections end, each with its last words, as soon as they have asked for a session."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.last_words: list[bytes] = []

    async def _serve(self, client: socket.socket) -> None:
        if not self.last_words:
            await super()._serve(client)
            return
        words = self.last_words.pop(0)
        reader, writer = await asyncio.open_connection(sock=client)
        try:
            await reader.read(1024)
            writer.write(words)
            await writer.drain()
        finally:
            writer.close()


@contextmanager
def refusing_over_tls(certificate: Path, key: Path) -> Iterator[int]:
    """The port of a server that refuses one client's password over TLS, and does not hang up as long as the block lasts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    held: list[socket.socket] = []

    def refuse() -> None:
        plain, _ = listener.accept()
        plain.settimeout(_SECONDS)
        plain.recv(8)
        plain.sendall(b"S")
        held.append(context.wrap_socket(plain, server_side=True))
        held[0].recv(4096)
        held[0].sendall(fatal("28P01"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_SECONDS)
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(_SECONDS)
            for connection in held:
                connection.close()
