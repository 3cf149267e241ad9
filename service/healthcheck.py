"""``python -m service.healthcheck``: exit status 0 when the service of this environment is alive; for containers.

It asks ``/livez`` where the settings say that the service listens: a port, a Unix socket, with or without TLS. Where
the service wants client certificates, which this has not, an accepted connection must do.
"""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Final

from service.listen import connect
from service.settings import SettingsError, load_settings

if TYPE_CHECKING:
    import socket

    from service.settings import Settings

__all__ = ["is_alive"]

_REQUEST: Final = b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n"
_TIMEOUT: Final = 2.0  # seconds


def is_alive(settings: Settings) -> bool:
    """Whether the service with these settings answers."""
    try:
        with connect(settings, timeout=_TIMEOUT) as connection:
            if settings.tls_client_ca is not None:
                return True
            if settings.tls_cert is None:
                return _answers(connection)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is asked whether it lives, no more
            with context.wrap_socket(connection) as encrypted:
                return _answers(encrypted)
    except OSError:
        return False


def _answers(connection: socket.socket) -> bool:
    connection.sendall(_REQUEST)
    return b" 200 " in connection.recv(64)


def main() -> int:
    """Exit status 0 or 1, and nothing else to say."""
    try:
        return 0 if is_alive(load_settings()) else 1
    except SettingsError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
