"""What must be true before anything is served: the addresses are free, the TLS files fit, enough files may be open.

Checked in the parent, so that a mistake ends the start with one clear line instead of workers that cannot live.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import stat
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.settings import Settings

__all__ = ["AddressInUse", "CannotServe", "call_when_accepting", "check", "connect", "raise_file_limit"]

_WANTED_FILES: Final = 65536
_SPARE_FILES: Final = 512  # for everything that is no client's connection
_MAX_CONNECTIONS: Final = 16384
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared: where to reach whoever listens everywhere


class CannotServe(ValueError):
    """The settings name something that cannot be used here; the message is for the operator."""


class AddressInUse(CannotServe):
    """Somebody else listens there already, or nobody may."""


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows; returns how many connections a worker may hold then.

    The usual soft limit of 1,024 is soon used up, and half-open connections count too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(64, min(_MAX_CONNECTIONS, soft - _SPARE_FILES))


def check(settings: Settings) -> str:
    """Raise ``CannotServe`` (``AddressInUse`` for an address) where it would not work; returns the address to bind.

    Granian's sockets share their port with whoever has the same user, so two services would silently share the
    traffic; that is why a port that looks free to Granian is tried here without sharing.
    """
    _check_tls(settings)
    _check_admin(settings)
    if settings.uds is None:
        return _try_port(settings.host, settings.port, "GATEKEY_HOST or GATEKEY_PORT")
    try:
        _try_socket(settings.uds)
    except OSError as error:
        raise AddressInUse(f"GATEKEY_UDS: cannot listen there ({error.strerror or error})") from None
    return settings.host


def _try_port(host: str, port: int, names: str) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror:
        raise AddressInUse(f"cannot listen: the host name cannot be resolved; choose another {names}") from None
    except OSError as error:
        raise AddressInUse(f"cannot listen on {host}:{port} ({error.strerror}); choose another {names}") from None
    return str(address[0])


def _try_socket(path: Path) -> None:
    """Remove a socket that nobody listens on any more, and see whether another can be made in its place."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AddressInUse("GATEKEY_UDS: names a file that is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise AddressInUse("GATEKEY_UDS: somebody else listens on this socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(path))
    path.unlink()


def _check_tls(settings: Settings) -> None:
    if settings.tls_cert is None or settings.tls_key is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # With a password OpenSSL does not ask for one on the terminal when the key is encrypted.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except OSError:
        raise CannotServe(
            "GATEKEY_TLS_CERT and GATEKEY_TLS_KEY: must be a certificate chain and its private key in PEM, unencrypted"
        ) from None
    if settings.tls_client_ca is not None:
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except OSError:
            raise CannotServe("GATEKEY_TLS_CLIENT_CA: must be certificates in PEM") from None


def _check_admin(settings: Settings) -> None:
    if settings.admin_listen is None:
        return
    host, port = settings.admin_listen
    _try_port(host, port, "GATEKEY_ADMIN_LISTEN")
    if (
        settings.uds is None
        and port == settings.port
        and (host == settings.host or {host, settings.host} & _ANY.keys())
    ):
        raise AddressInUse("GATEKEY_ADMIN_LISTEN: must be another address than GATEKEY_HOST and GATEKEY_PORT")


def call_when_accepting(settings: Settings, ready: Callable[[], None]) -> None:
    """Call ``ready`` once somebody accepts connections at the service's address; returns after that."""
    while not _accepts(settings):
        time.sleep(0.05)
    ready()


def connect(settings: Settings, *, timeout: float) -> socket.socket:
    """A connection to the service with these settings, on this machine; raises ``OSError``."""
    if settings.uds is None:
        return socket.create_connection((_ANY.get(settings.host, settings.host), settings.port), timeout=timeout)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(str(settings.uds))
    except OSError:
        connection.close()
        raise
    return connection


def _accepts(settings: Settings) -> bool:
    try:
        connect(settings, timeout=1).close()
    except OSError:
        return False
    return True
