"""safe-api-keys in Starlette: its ASGI middleware over its async manager and its memory store.

Its ``VerifyCache`` is on, which its documentation advises "for very high traffic": even over memory it halves a check.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from safe_api_keys import AsyncKeyManager, VerifyCache  # type: ignore[import-not-found]  # installed in .venv-bench only
from safe_api_keys.contrib.starlette import APIKeyMiddleware  # type: ignore[import-not-found]  # as above
from safe_api_keys.stores import AsyncMemoryStore  # type: ignore[import-not-found]  # as above
from starlette.applications import Starlette  # type: ignore[import-not-found]  # as above
from starlette.middleware import Middleware  # type: ignore[import-not-found]  # as above
from starlette.responses import PlainTextResponse  # type: ignore[import-not-found]  # as above
from starlette.routing import Route  # type: ignore[import-not-found]  # as above

from benchmarks.contenders.known import PEPPER, write_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request  # type: ignore[import-not-found]  # as above

__all__ = ["app"]

manager: Final = AsyncKeyManager(AsyncMemoryStore(), prefix="acme_live", pepper=PEPPER.encode(), cache=VerifyCache())


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """A key is there before the first request."""
    issued = await manager.issue(owner="acme", scopes=["orders:read"])
    write_key(issued.raw_key)
    yield


async def orders(_: Request) -> PlainTextResponse:
    """A protected path."""
    return PlainTextResponse("ok")


app: Final = Starlette(
    routes=[Route("/api/orders", orders)],
    middleware=[Middleware(APIKeyMiddleware, km=manager, protect=("/api/",), scopes=["orders:read"])],
    lifespan=lifespan,
)
