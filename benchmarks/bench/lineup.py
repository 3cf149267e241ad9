"""Everybody who is measured, with the request that each must let pass and the one that it must refuse.

What people would use instead of Gatekey writes no log and counts nothing; Gatekey's decision log and metrics stay on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.bench.contender import Contender, Request
from benchmarks.bench.launches import (
    RIVALS_BIN,
    granian,
    gunicorn,
    missing_lua,
    nginx_lua,
    serve,
    serve_workers,
    uvicorn,
)
from benchmarks.bench.wrk import CONNECTIONS
from benchmarks.contenders import known
from benchmarks.faults.client import forwarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench.contender import Launch, Place

__all__ = ["CONTENDERS", "DOOR"]

_CREDENTIALS: Final = {"x-api-key": known.API_KEY, "x-secret-token": known.SECRET}
_WRONG: Final = "a-wrong-secret-of-the-same-length"
DOOR: Final = Request(path="/auth/forward/default", headers={**forwarded(known.DOMAIN), **_CREDENTIALS})
_VIEW: Final = Request(path="/orders", headers={"Host": known.DOMAIN, **_CREDENTIALS})


def _missing_environment() -> str:
    return "" if (RIVALS_BIN / "python").exists() else f"needs {RIVALS_BIN.parent.name} (make setup-bench)"


def _gatekey(
    name: str,
    title: str,
    setup: str,
    launch: Callable[[Place], Launch],
    request: Request,
    *,
    refused: Request | None = None,
    workers: int = 1,
    latency: bool = True,
    connections: int = CONNECTIONS,
    batch: bool = True,
) -> Contender:
    """One of ours; ``refused`` defaults to the same request with a wrong secret."""
    return Contender(
        name=name,
        title=title,
        setup=setup,
        kind="gatekey",
        launch=launch,
        request=request,
        refused=refused or request.changed(expected=401, x_secret_token=_WRONG),
        workers=workers,
        latency=latency,
        connections=connections,
        batch=batch,
    )


def _views(name: str, path: str, title: str, *, connections: int = CONNECTIONS) -> Contender:
    return _gatekey(
        name,
        title,
        "Flask with `api_key_required`, log and metrics on, on Granian WSGI with 1 blocking thread",
        granian("gatekey_views:app", "--blocking-threads", "1", own=True),
        Request(path=path, headers=_VIEW.headers),
        latency=connections == CONNECTIONS,
        connections=connections,
    )


def _workers(number: int) -> Contender:
    return _gatekey(
        f"workers-{number}",
        f"Gatekey, forward door, SQLite, {number} worker{'' if number == 1 else 's'}",
        "`gatekey serve` on a SQLite store, cached allow, log and metrics on",
        serve_workers(number),
        DOOR,
        workers=number,
        latency=False,
    )


def _rival(
    name: str,
    title: str,
    setup: str,
    launch: Callable[[Place], Launch],
    *versions: str,
    request: Request,
    refused: Request,
    makes_key: bool = False,
) -> Contender:
    return Contender(
        name=name,
        title=title,
        setup=setup,
        kind="rival",
        launch=launch,
        request=request,
        refused=refused,
        makes_key=makes_key,
        missing=_missing_environment,
        versions=versions,
    )


def _flask(name: str, title: str, setup: str, launch: Callable[[Place], Launch], *versions: str) -> Contender:
    """The few lines that one would write oneself: the same two headers as ours."""
    refused = _VIEW.changed(expected=401, x_secret_token=_WRONG)
    return _rival(name, title, setup, launch, "flask", "flask-caching", *versions, request=_VIEW, refused=refused)


def _library(
    name: str, title: str, setup: str, launch: Callable[[Place], Launch], path: str, *versions: str
) -> Contender:
    """One that makes up its key and takes it as a bearer token."""
    request = Request(path=path, headers={"Authorization": "Bearer {key}"})
    refused = request.changed(expected=401, Authorization="Bearer {key}x")
    return _rival(name, title, setup, launch, *versions, request=request, refused=refused, makes_key=True)


_MEMOIZED: Final = "the whole check memoized for 15 minutes"

_ALL: Final = (
    _gatekey("gatekey-door", "Gatekey, forward door", "`gatekey serve`, cached allow, log and metrics on", serve, DOOR),
    _gatekey(
        "gatekey-door-usual",
        "Gatekey, forward door, usual scheduling",
        "the same without `SCHED_BATCH`, as beside neighbours",
        serve,
        DOOR,
        batch=False,
    ),
    _gatekey(
        "gatekey-denied-secret",
        "Gatekey, forward door, wrong secret",
        "the same, denied: a known key with a wrong secret",
        serve,
        DOOR.changed(expected=401, x_secret_token=_WRONG),
        refused=DOOR,
        latency=False,
    ),
    _gatekey(
        "gatekey-denied-unknown",
        "Gatekey, forward door, unknown key",
        "the same, denied: a key that nobody has, cached as such",
        serve,
        DOOR.changed(expected=401, x_api_key="nobodys-key"),
        refused=DOOR,
        latency=False,
    ),
    _views("gatekey-async", "/async", "Gatekey, decorator, async view"),
    _views("gatekey-sync", "/sync", "Gatekey, decorator, sync view"),
    _views("gatekey-async-one", "/async", "Gatekey, async view, one caller", connections=1),
    _views("gatekey-sync-one", "/sync", "Gatekey, sync view, one caller", connections=1),
    _flask(
        "flask-granian-1",
        "classic Flask, Granian, 1 thread",
        f"sync view, decorator, {_MEMOIZED}; Granian WSGI with 1 blocking thread",
        granian("classic:app", "--blocking-threads", "1"),
        "granian",
    ),
    _flask(
        "flask-granian",
        "classic Flask, Granian, default threads",
        f"sync view, decorator, {_MEMOIZED}; Granian WSGI as it comes",
        granian("classic:app"),
        "granian",
    ),
    _flask(
        "flask-gthread",
        "classic Flask, gunicorn gthread",
        f"sync view, decorator, {_MEMOIZED}; gunicorn with 4 threads",
        gunicorn,
        "gunicorn",
    ),
    _flask(
        "flask-async",
        "stock async Flask",
        f"`async def` view through asgiref, decorator, {_MEMOIZED}; Granian WSGI with 1 blocking thread",
        granian("classic:async_app", "--blocking-threads", "1"),
        "granian",
        "asgiref",
    ),
    _library(
        "keyshield",
        "keyshield, FastAPI, uvicorn",
        "cached service over its in-memory repository, its random delay off; uvicorn[standard], no access log",
        uvicorn("keyshield_app:app"),
        "/orders",
        "keyshield",
        "fastapi",
        "uvicorn",
    ),
    _library(
        "safe-flask",
        "safe-api-keys, Flask, Granian",
        "its decorator over its memory store, its `VerifyCache` on; Granian WSGI with 1 blocking thread",
        granian("safe_flask:app", "--blocking-threads", "1"),
        "/api/orders",
        "safe-api-keys",
        "flask",
        "granian",
    ),
    _library(
        "safe-starlette",
        "safe-api-keys, Starlette, uvicorn",
        "its middleware over its memory store, its `VerifyCache` on; uvicorn[standard], no access log",
        uvicorn("safe_starlette:app"),
        "/api/orders",
        "safe-api-keys",
        "starlette",
        "uvicorn",
    ),
    Contender(
        name="granian-rsgi",
        title="Granian, two headers compared",
        setup="the limit of Gatekey's own server: the same two headers compared in Python, no log, no metric",
        kind="limit",
        launch=granian("compare_rsgi:app", own=True, interface="rsgi"),
        request=_VIEW,
        refused=_VIEW.changed(expected=401, x_secret_token=_WRONG),
        versions=("granian",),
    ),
    Contender(
        name="nginx-lua",
        title="nginx + Lua shared dictionary",
        setup="the limit: the same two headers compared in nginx, no log, no metric",
        kind="limit",
        launch=nginx_lua,
        request=_VIEW,
        refused=_VIEW.changed(expected=401, x_secret_token=_WRONG),
        missing=missing_lua,
        versions=("nginx",),
    ),
    _workers(1),
    _workers(2),
)
CONTENDERS: Final = {contender.name: contender for contender in _ALL}
