"""A store with keys in it before any service is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.factory import create_store
from service.auth.keyfile import read_key_lines
from service.auth.peppers import Peppers
from tests.support.clock import START

if TYPE_CHECKING:
    from collections.abc import Iterable


async def fill(url: str, lines: Iterable[bytes], *, pepper: str) -> None:
    """Migrate the store at ``url`` and add the keys of an import's lines."""
    seed = read_key_lines(lines, peppers=Peppers({1: pepper.encode()}, current=1), now=START)
    store = create_store(url)
    await store.migrate()
    await store.open()
    await store.add_many(seed.organizations, seed.records)
    await store.close()
