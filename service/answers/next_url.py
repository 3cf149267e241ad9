"""Where a browser goes after signing in: minted and signed by the service, and checked again before it is followed.

Besides a signed address only a plain local path passes, and only one that every URL parser reads as local.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from service.answers.signing import SignedValues
from service.auth.domains import Target, parse_target, parse_target_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.auth.clock import Clock
    from service.auth.secret import Secret

__all__ = ["NextUrls", "safe_next"]

_LIFETIME: Final = 600  # seconds
_MAX_LENGTH: Final = 2048
# A path of unreserved and sub-delim characters and complete percent escapes (RFC 3986 3.3), optionally with a query.
_LOCAL: Final = re.compile(
    r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_TREACHEROUS: Final = re.compile(r"//|\\|/\.{1,2}(?:/|$|;)|%(?:2f|5c|0[0-9a-f]|1[0-9a-f]|7f|2e|25)", re.IGNORECASE)
_SIGN_IN: Final = re.compile(r"/(?:login|logout)(?:[/;]|$)")
_ABSOLUTE: Final = re.compile(r"(?P<origin>https?://[^/?#]+)(?P<path>[^?#]*)")
# Printable ASCII but for the space, which parsers strip, and the backslash, which they read as a slash; a host that
# ends in a dot is another one to a browser (with other cookies), though it leads to the same place.
_PLAIN_URL: Final = re.compile(r"https?://(?![^/?#:]*\.(?:[/?#:]|$))[\x21-\x5b\x5d-\x7e]+")


def safe_next(text: str) -> str | None:
    """``text`` if it is a plain path on the same site, else ``None``; never raises.

    Refused, among others: anything with a scheme or authority, ``//``, backslashes, dot segments, control characters
    and tabs or newlines (which URL parsers delete), the same in percent escapes (which somebody might decode once
    more), characters outside ASCII that normalization turns into slashes or dots, and the login page itself.
    """
    if len(text) > _MAX_LENGTH or not _LOCAL.fullmatch(text):
        return None
    path = text.partition("?")[0]
    decoded = normalize("NFKC", unquote(path))
    if _TREACHEROUS.search(path) or _TREACHEROUS.search(decoded) or _SIGN_IN.match(decoded):
        return None
    return text


class _Place(NamedTuple):
    """An origin, or (``below``) all origins whose hosts lie below its host."""

    origin: Target
    below: bool = False

    def covers(self, target: Target) -> bool:
        origin = self.origin
        if (target.scheme, target.port) != (origin.scheme, origin.port):
            return False
        return target.host.endswith(f".{origin.host}") if self.below else target.host == origin.host


class NextUrls:
    """Mints and accepts ``next`` values and the login page's address.

    ``hosts`` are the other hosts that may be gone back to: ``app.example.com``, or ``.example.com`` for all below it
    (not itself), each on the scheme's default port.
    ``public_url`` is Gatekey's own origin (``""``: the one of the request), ``login_url`` a path or an absolute URL.
    """

    def __init__(self, secret: Secret, *, hosts: Iterable[str], public_url: str, login_url: str, clock: Clock) -> None:
        self._signed = SignedValues(secret, purpose="gatekey next", lifetime=_LIFETIME, clock=clock)
        self._public_url = public_url.rstrip("/")
        self._login_url = login_url
        self._places = (*_origin(self._public_url), *(place for host in hosts for place in _listed(host)))

    def login_location(self, *, base: str, destination: str) -> str:
        """The login page's address with a signed ``next``; absolute, on ``base`` (an origin) unless settings say else."""
        login = self._login_url
        if login.startswith("/"):
            login = (self._public_url or base) + login
        return f"{login}{'&' if '?' in login else '?'}next={self.mint(self._worth_returning_to(destination))}"

    def mint(self, destination: str) -> str:
        """A signed ``next`` for an absolute URL, valid for 10 minutes."""
        return self._signed.sign(destination)

    def accept(self, value: str, *, own_origin: str) -> str | None:
        """Where to go, or ``None``: a signed value that still holds, or a plain local path; never raises.

        ``own_origin`` is the origin of this request to Gatekey (``https://login.example.com``).
        """
        if value.startswith("/"):
            return safe_next(value)
        destination = self._signed.read(value)
        return destination if isinstance(destination, str) and self._may_go_to(destination, own_origin) else None

    def _worth_returning_to(self, destination: str) -> str:
        """``destination``, or its site's root when it is the login page (a loop) or too long to be carried around."""
        match = _ABSOLUTE.match(destination)
        if match is None:
            return destination
        login_page = self._login_url.partition("?")[0]
        if login_page.startswith("/"):
            path = unquote(match["path"])
            loops = path == login_page or _SIGN_IN.match(path) is not None
        else:
            loops = match[0] == login_page
        return f"{match['origin']}/" if loops or len(destination) > _MAX_LENGTH else destination

    def _may_go_to(self, destination: str, own_origin: str) -> bool:
        """Checked although we signed it: the settings may have changed, and a proxy may forward any host."""
        if len(destination) > _MAX_LENGTH or not _PLAIN_URL.fullmatch(destination):
            return False
        target = parse_target_url(destination)
        if target is None or (own_origin.startswith("https:") and target.scheme != "https"):
            return False  # also a page that was reached safely but does not lead on safely
        return any(place.covers(target) for place in (*_origin(own_origin), *self._places))


def _origin(url: str) -> list[_Place]:
    target = parse_target_url(url) if url else None
    return [] if target is None else [_Place(target)]


def _listed(host: str) -> list[_Place]:
    """What an entry of the allowed hosts means for each scheme."""
    targets = [parse_target(host.removeprefix("."), scheme, "/") for scheme in ("https", "http")]
    return [_Place(target, below=host.startswith(".")) for target in targets if target is not None]
