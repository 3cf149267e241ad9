"""Opening connections: one host after the other, each within its share of the time, with what makes a dead peer noticed."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg  # type: ignore[import-untyped]  # the driver comes without types

from backends.postgres_errors import is_pooler

if TYPE_CHECKING:
    from backends.postgres_url import ConnectOptions

__all__ = ["STATEMENT_TIMEOUT", "Connector"]

STATEMENT_TIMEOUT: Final = 6.0
"""Seconds after which the server itself gives up a statement: later than we do, for statements that we cannot reach."""

_LEAST_SHARE: Final = 0.5  # seconds
_SERVER_SETTINGS: Final = {
    "statement_timeout": str(int(STATEMENT_TIMEOUT * 1_000)),
    "idle_in_transaction_session_timeout": "10000",  # a process that was stopped must not hold its locks for ever
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 5_000))


class Connector:
    """Opens connections one way. ``pgbouncer`` turns true by itself when what answers is a pooler in transaction mode."""

    def __init__(self, options: ConnectOptions) -> None:
        self._options = options
        self._hosts = list(options.hosts)
        self.pgbouncer = options.pgbouncer

    async def connect(self) -> Any:
        """A new connection, of class ``asyncpg.Connection``; raises what the driver raises."""
        was_known = self.pgbouncer
        try:
            return await self._connect()
        except asyncpg.PostgresError as error:
            if was_known or not is_pooler(error):
                raise
        self.pgbouncer = True
        return await self._connect()

    async def connect_for_pool(self, *_: Any, **__: Any) -> Any:
        """The same, as the driver's pool calls it."""
        return await self.connect()

    async def _connect(self) -> Any:
        if not self._hosts:
            return await self._connect_to(self._options.timeout)
        share = max(self._options.timeout / len(self._hosts), _LEAST_SHARE)
        for index, (host, port) in enumerate(self._hosts):
            try:
                connection = await self._connect_to(share, host=host, port=port)
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched):
                if index + 1 == len(self._hosts):
                    raise
            else:
                # The next connection begins here: a host that does not answer costs its share once, not every time.
                self._hosts = self._hosts[index:] + self._hosts[:index]
                return connection
        raise AssertionError("unreachable: the last host returns or raises")

    async def _connect_to(self, within: float, **where: Any) -> Any:
        settings = {} if self._options.names_itself else {"application_name": "gatekey"}
        if not self.pgbouncer:
            settings |= _SERVER_SETTINGS
        async with asyncio.timeout(within):  # the driver's own does not cover reading the certificates
            connection = await asyncpg.connect(
                self._options.dsn,
                timeout=within,
                server_settings=settings,
                statement_cache_size=0 if self.pgbouncer else 100,
                max_cached_statement_lifetime=0,  # they are few, and always the same
                target_session_attrs=self._options.target_session_attrs,
                **where,
            )
        _notice_dead_peer(connection)
        return connection


def _notice_dead_peer(connection: Any) -> None:
    sock = connection._transport.get_extra_info("socket")  # noqa: SLF001 - the driver has no other way to the socket
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):  # Linux has all of them
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
