"""Where a browser goes after signing in: minted and signed by the service, and checked again before it is followed.

Besides a signed address only a plain local path passes, and only one that every URL parser reads as local.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from itsdangerous import BadData, URLSafeTimedSerializer
from itsdangerous.timed import TimestampSigner

from service.auth.domains import parse_target_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.auth.clock import Clock
    from service.auth.secret import Secret

__all__ = ["NextUrls", "clocked_serializer", "safe_next"]

_LIFETIME: Final = 600  # seconds
_MAX_LENGTH: Final = 2048
# A path of unreserved and sub-delim characters and complete percent escapes (RFC 3986 3.3), optionally with a query.
_LOCAL: Final = re.compile(
    r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_TREACHEROUS: Final = re.compile(r"//|/\.{1,2}(?:/|$|;)|%(?:2f|5c|0[0-9a-f]|1[0-9a-f]|7f|2e|25)", re.IGNORECASE)
_LOOPS: Final = re.compile(r"/(?:login|logout)(?:$|/)")


def safe_next(text: str) -> str | None:
    """``text`` if it is a plain path on the same site, else ``None``; never raises.

    Refused, among others: anything with a scheme or authority, ``//``, backslashes, dot segments, control characters
    and tabs or newlines (which URL parsers delete), the same in percent escapes (which somebody might decode once
    more), characters outside ASCII (which normalization can turn into slashes and dots), and the login page itself.
    """
    if len(text) > _MAX_LENGTH or not _LOCAL.fullmatch(text):
        return None
    path = text.partition("?")[0]
    if _TREACHEROUS.search(path) or _LOOPS.match(path):
        return None
    return text


class NextUrls:
    """Mints and accepts ``next`` values and the login page's address.

    ``hosts`` are the other hosts that may be gone back to (``app.example.com``, ``.example.com`` for all below it);
    ``public_url`` is Gatekey's own origin (``""``: the one of the request), ``login_url`` a path or an absolute URL.
    """

    def __init__(self, secret: Secret, *, hosts: Iterable[str], public_url: str, login_url: str, clock: Clock) -> None:
        self._serializer = clocked_serializer(secret, "gatekey next", clock)
        self._hosts = tuple(host.lower().removesuffix(".") for host in hosts)
        self._public_url = public_url.rstrip("/")
        self._login_url = login_url

    def login_location(self, *, base: str, destination: str) -> str:
        """The login page's address with a signed ``next``; absolute, on ``base`` (an origin) unless settings say else."""
        login = self._login_url
        if login.startswith("/"):
            login = (self._public_url or base) + login
        return f"{login}{'&' if '?' in login else '?'}next={quote(self.mint(destination), safe='')}"

    def mint(self, destination: str) -> str:
        """A signed ``next`` for an absolute URL, valid for 10 minutes."""
        return str(self._serializer.dumps(destination))

    def accept(self, value: str, *, own_origin: str) -> str | None:
        """Where to go, or ``None``: a signed value that still holds, or a plain local path; never raises.

        ``own_origin`` is the origin of this request to Gatekey (``https://login.example.com``).
        """
        if value.startswith("/"):
            return safe_next(value)
        try:
            destination = self._serializer.loads(value, max_age=_LIFETIME)
        except BadData:
            return None
        if not isinstance(destination, str) or len(destination) > 4 * _MAX_LENGTH:
            return None
        return destination if self._may_go_to(destination, own_origin) else None

    def _may_go_to(self, destination: str, own_origin: str) -> bool:
        """Checked although we signed it: the settings may have changed, and a proxy may forward any host."""
        if not destination.isascii() or not destination.isprintable() or "\\" in destination or " " in destination:
            return False
        target = parse_target_url(destination)
        own = parse_target_url(own_origin)
        if target is None or "://" not in destination or urlsplit(destination).scheme not in ("http", "https"):
            return False
        if own is not None and (target.scheme, target.host, target.port) == (own.scheme, own.host, own.port):
            return True
        public = parse_target_url(self._public_url) if self._public_url else None
        if public is not None and (target.scheme, target.host, target.port) == (
            public.scheme,
            public.host,
            public.port,
        ):
            return True
        return any(target.host == host or (host.startswith(".") and target.host.endswith(host)) for host in self._hosts)


def clocked_serializer(secret: Secret, salt: str, clock: Clock) -> URLSafeTimedSerializer:
    """A signing serializer that takes the time from ``clock``."""

    class ClockedSigner(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock.wall())

    return URLSafeTimedSerializer(
        secret.reveal(), salt=salt, signer=ClockedSigner, signer_kwargs={"digest_method": hashlib.sha256}
    )
