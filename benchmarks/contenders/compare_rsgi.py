"""The least that a service in Python can do on Gatekey's own server: two headers compared, nothing logged or counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.contenders.known import API_KEY, DOMAIN, SECRET

if TYPE_CHECKING:
    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

__all__ = ["app"]

_KEYS: Final = {(API_KEY, DOMAIN): SECRET}


async def app(scope: Scope, protocol: HTTPProtocol) -> None:
    """200 or 401, without a body."""
    headers = scope.headers
    secret = _KEYS.get((headers.get("x-api-key") or "", scope.authority or headers.get("host") or ""))
    is_allowed = secret is not None and secret == headers.get("x-secret-token")
    protocol.response_empty(200 if is_allowed else 401, [])
