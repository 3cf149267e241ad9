"""How a connection is made, looked at before its first use, and ended.

Nothing that matters in a failure is left to the driver's defaults.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.connection import Connection, RedisSSLContext, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from backends.redis_errors import Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio.connection import AbstractConnection

    from backends.redis_url import RedisOptions

__all__ = ["CONNECT_TIMEOUT", "check_server", "connection_kind", "drop"]

CONNECT_TIMEOUT: Final = 1.0
"""Seconds to connect and log in, with the wait for a place in the pool."""


def connection_kind(options: RedisOptions) -> tuple[type[Connection], dict[str, Any]]:
    """The class of connections, and what each of them is made with; raises ``ValueError`` for files that cannot be used."""
    arguments: dict[str, Any] = {
        "host": options.host,
        "port": options.port,
        "db": options.db,
        "username": options.username,
        "password": options.password,
        # no wait of the driver's for a socket: it sends through asyncio.wait_for, which in Python 3.11 may swallow its
        # caller's cancellation, and costs a task for each command; every conversation here has a deadline of its own
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        # one more try where a connection breaks, none where the server is silent: that would double the wait
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        "decode_responses": False,
        "health_check_interval": 0,
        "driver_info": None,  # no CLIENT SETINFO: older servers and tight ACLs do not know it
        "redis_connect_func": _look_at,
    }
    if options.tls is None:
        return Connection, arguments
    return _TlsConnection, {**arguments, "shared_context": _tls_context(options.tls)}


def _tls_context(tls: Mapping[str, Any]) -> RedisSSLContext:
    """One for all connections: to read the machine's certificates takes long, and the driver would do so for each.

    Where ``ssl_ca_certs`` is given, no other authority is trusted. Raises ``ValueError``.
    """
    try:
        context = ssl.create_default_context(cafile=tls.get("ssl_ca_certs"))
        if "ssl_certfile" in tls or "ssl_keyfile" in tls:
            context.load_cert_chain(tls["ssl_certfile"], tls.get("ssl_keyfile"))
    except (OSError, KeyError):
        raise ValueError("redis: the files of the options ssl_… cannot be used, or do not fit each other") from None
    context.check_hostname = tls.get("ssl_check_hostname", True)
    shared = RedisSSLContext(cert_reqs="required", check_hostname=context.check_hostname)
    shared.context = context
    return shared


class _TlsConnection(SSLConnection):
    def __init__(self, *, shared_context: RedisSSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context = shared_context

    def _connection_arguments(self) -> Mapping[str, Any]:
        """One that is given up half made must not linger for asyncio's own 30 s."""
        given = super()._connection_arguments()
        return {**given, "ssl_handshake_timeout": CONNECT_TIMEOUT, "ssl_shutdown_timeout": CONNECT_TIMEOUT}


async def _look_at(connection: Any) -> None:
    """Log in, and refuse a server that would answer wrongly: a replica lags behind, a cluster has other slots' keys elsewhere.

    ``HELLO`` says so to every user, whatever its permissions.
    """
    try:
        await connection.on_connect()
        await connection.send_command("HELLO", check_health=False)
        check_server(await connection.read_response())
    except BaseException:
        await drop(connection)  # else it would count as connected, half made as it is
        raise


def check_server(said: Any) -> None:
    """Raises ``ReadOnlyError`` or ``Unfit`` unless this answer to ``HELLO`` is a single primary's."""
    facts = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
    if facts.get(b"mode") in (b"cluster", b"sentinel"):
        raise Unfit("redis: redis:// is for a single server, this one is a cluster's or a sentinel")
    if facts.get(b"role", b"master") != b"master":
        raise ReadOnlyError("a replica")


async def drop(connection: AbstractConnection) -> None:
    """End a connection at once. The driver says farewell first, for which TLS waits until the server answers."""
    writer = connection._writer  # noqa: SLF001 - there is no other way to it
    if writer is not None:
        writer.transport.abort()
    await connection.disconnect(nowait=True)
