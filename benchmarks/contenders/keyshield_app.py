"""keyshield on FastAPI: the cached service over its in-memory repository, asked by its own dependency.

The random delay that it adds to every answer is off, or there would be nothing to measure. The key travels as a bearer
token, which its documentation recommends.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, FastAPI  # type: ignore[import-not-found]  # installed in .venv-bench only
from fastapi.responses import PlainTextResponse  # type: ignore[import-not-found]  # as above
from keyshield.api import create_depends_api_key  # type: ignore[import-not-found]  # as above
from keyshield.hasher.argon2 import Argon2ApiKeyHasher  # type: ignore[import-not-found]  # as above
from keyshield.repositories.in_memory import InMemoryApiKeyRepository  # type: ignore[import-not-found]  # as above
from keyshield.services.cached import CachedApiKeyService  # type: ignore[import-not-found]  # as above

from benchmarks.contenders.known import PEPPER, write_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["app"]

service: Final = CachedApiKeyService(
    repo=InMemoryApiKeyRepository(), hasher=Argon2ApiKeyHasher(pepper=PEPPER), min_delay=0.0, max_delay=0.0
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """A key is there before the first request."""
    _, api_key = await service.create(name="orders")
    write_key(api_key)
    yield


async def inject_service() -> CachedApiKeyService:
    """What its documentation calls ``inject_svc_api_keys``."""
    return service


app: Final = FastAPI(lifespan=lifespan)
security: Final = create_depends_api_key(inject_service)


@app.get("/orders", response_class=PlainTextResponse)  # type: ignore[untyped-decorator]  # as above
async def orders(_: Annotated[Any, Depends(security)]) -> str:
    """A protected path; plain text, so that no time goes into rendering JSON."""
    return "ok"
