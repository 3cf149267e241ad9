"""The classic way in Flask: a decorator whose whole check is memoized by Flask-Caching for 15 minutes.

``app`` has a sync view and ``async_app`` the same as ``async def``, which Flask runs through asgiref. The check itself is
what one writes: look the key up, compare the hash of the secret, the domain and the state.
"""

from __future__ import annotations

import hmac
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, abort, current_app, request
from flask_caching import Cache  # type: ignore[import-not-found]  # installed in .venv-bench only

from benchmarks.contenders.known import API_KEY, DOMAIN, PEPPER, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app", "async_app"]

_CACHED: Final = 15 * 60  # seconds


def _hash(secret: str) -> str:
    return hmac.new(PEPPER.encode(), secret.encode(), "sha256").hexdigest()


KEYS: Final = {API_KEY: {"hash": _hash(SECRET), "domains": {DOMAIN}, "is_active": True}}
"""Stands for the table of keys; asked once in 15 minutes."""

cache: Final = Cache(config={"CACHE_TYPE": "SimpleCache"})


@cache.memoize(timeout=_CACHED)  # type: ignore[untyped-decorator]  # as above
def is_allowed(api_key: str, secret: str, domain: str) -> bool:
    """The whole check."""
    found: dict[str, Any] | None = KEYS.get(api_key)
    if found is None or not found["is_active"]:
        return False
    return hmac.compare_digest(found["hash"], _hash(secret)) and domain in found["domains"]


def key_required(view: Callable[..., Any]) -> Callable[..., Any]:
    """401 without a valid key."""

    @wraps(view)
    def protected(*args: Any, **kwargs: Any) -> Any:
        api_key, secret = request.headers.get("x-api-key", ""), request.headers.get("x-secret-token", "")
        if not is_allowed(api_key, secret, request.host):
            abort(401)
        return current_app.ensure_sync(view)(*args, **kwargs)

    return protected


def _make() -> Flask:
    made = Flask(__name__)
    cache.init_app(made)
    return made


app: Final = _make()
async_app: Final = _make()


@app.get("/orders")
@key_required
def orders() -> str:
    """A sync view."""
    return "ok"


@async_app.get("/orders")
@key_required
async def orders_async() -> str:
    """An async view."""
    return "ok"
