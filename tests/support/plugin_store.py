"""A third-party store as an installed package would bring it, with the bad days that a test asks for by the URL's host.

``pluggable://fine`` works; ``held`` answers look-ups only once the file named by ``GATEKEY_TEST_GATE`` exists;
``shut`` cannot open while that file exists, ``unavailable`` never; ``unfit`` opens but answers that somebody must change
it first; ``no-url`` and ``no-open`` raise what no store may, with
a secret in the text.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from backends.errors import StoreUnavailable, StoreUnfit
from backends.memory import MemoryKeyStore
from tests.support import leaks
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from backends.records import FoundKey

PASSWORD = "password-in-the-store-url"
leaks.register(PASSWORD)


class PluggableStore(MemoryKeyStore):
    def __init__(self, manner: str) -> None:
        super().__init__()
        self._manner = manner

    async def open(self) -> None:
        if self._manner == "no-open":
            raise LookupError(f"cannot log in with {PASSWORD}")
        if self._manner == "unavailable" or (self._manner == "shut" and _gate_is_open()):
            raise StoreUnavailable("pluggable: the server refused to open")
        await super().open()

    async def ping(self) -> None:
        if self._manner == "unfit":
            raise StoreUnfit("pluggable: the schema is too old; run gatekey migrate")
        await super().ping()

    async def find(self, api_key: str) -> FoundKey | None:
        if self._manner == "held":
            asked().touch()
            while not _gate_is_open():  # noqa: ASYNC110 - a file has no event to wait for
                await asyncio.sleep(0.01)
        return await super().find(api_key)


def asked() -> Path:
    """The file that says that a look-up waits."""
    return Path(os.environ["GATEKEY_TEST_GATE"] + ".asked")


def _gate_is_open() -> bool:
    return Path(os.environ["GATEKEY_TEST_GATE"]).exists()


def from_url(url: str) -> PluggableStore:
    """What the entry point names."""
    manner = url.rpartition("@")[2].removeprefix("pluggable://")
    if manner == "no-url":
        raise LookupError(f"no such option: {PASSWORD}")
    return PluggableStore(manner)


def environment(folder: Path, manner: str, *, workers: int = 2, entry_point: str = "from_url") -> dict[str, str]:
    """Settings under which a process finds this store installed; ``folder`` takes the package's metadata."""
    info = folder / "pluggable_store-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pluggable-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gatekey.stores]\npluggable = {__name__}:{entry_point}\n")
    return {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "GATEKEY_STORE_URL": f"pluggable://user:{PASSWORD}@{manner}",
        "GATEKEY_PEPPER": "pepper-of-the-tests-with-32-bytes-and-more",
        "GATEKEY_SECRET_KEY": "secret-key-of-the-tests",
        "GATEKEY_WORKERS": str(workers),
    }
