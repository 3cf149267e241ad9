"""The forwarded context of a proxy: exactly five headers, all required, the first four single (contract 3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from service.auth.domains import Target, parse_target
from service.doors.peers import FORWARDED_SCHEMES

if TYPE_CHECKING:
    from service.doors.peers import TrustedProxies
    from service.doors.raw import RawRequest

__all__ = ["ForwardedContext", "read_context"]

_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # a token, RFC 9110 5.6.2
_USUAL_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_URI: Final = re.compile(r"(?:/[\x21-\x7e]*|\*)")  # origin-form or asterisk-form, RFC 9112 3.2


class ForwardedContext:
    """The client's request, as the proxy describes it."""

    __slots__ = ("client_ip", "host", "method", "scheme", "target", "uri")

    def __init__(self, *, method: str, scheme: str, host: str, target: Target, uri: str, client_ip: str) -> None:
        self.method = method
        self.scheme = scheme
        self.host = host
        """The forwarded host as sent, possibly with a port."""
        self.target = target
        self.uri = uri
        """Raw path and query."""
        self.client_ip = client_ip

    @property
    def path(self) -> str:
        """The URI without its query."""
        return self.target.path

    @property
    def url(self) -> str:
        """The address that the client asked for."""
        return f"{self.scheme}://{self.host}{self.uri}"


def read_context(raw: RawRequest, proxies: TrustedProxies) -> ForwardedContext | None:
    """The context, or ``None`` when a part is missing, repeated or malformed. The caller has checked the peer."""
    single = raw.single
    method, uri = single("x-forwarded-method"), single("x-forwarded-uri")
    forwarded_for = raw.headers("x-forwarded-for")
    scheme, host = FORWARDED_SCHEMES.get(single("x-forwarded-proto").lower()), single("x-forwarded-host")
    if scheme is None or not forwarded_for or not _URI.fullmatch(uri):
        return None
    if method not in _USUAL_METHODS and not _METHOD.fullmatch(method):
        return None
    target = parse_target(host, scheme, uri.partition("?")[0])
    client_ip = proxies.client(raw.peer, forwarded_for)
    if target is None or client_ip is None:
        return None
    return ForwardedContext(
        method=method, scheme=scheme, host=host.strip(), target=target, uri=uri, client_ip=client_ip
    )
