"""``GATEKEY_TEST_POSTGRES_URL`` and ``GATEKEY_TEST_REDIS_URL`` name servers that the tests then use, and start none."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support import postgres_server, redis_server
from tests.support.servers import DEADLINE, ROOT, clean_environment
from tests.support.stores import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

SERVERS: dict[str, tuple[str, Callable[[], str]]] = {
    "postgresql": (postgres_server.GIVEN, lambda: postgres_server.shared_server().url(sslmode="disable")),
    "redis": (redis_server.GIVEN, lambda: redis_server.shared_server().url()),
}
PROGRAM = """
import asyncio, json, os, sys
from tests.support.keys import make_key, make_organization
from tests.support.processes import children
from tests.support.stores import KINDS

async def use(kind, name):
    async with kind.make(name) as place:
        await place.store.open()
        await place.store.add_many([make_organization()], [make_key("one", name=name)])
        stored = name.encode() in await place.stored()
        await place.store.close()
    return stored

kind = KINDS[sys.argv[1]]
found = {"missing": kind.missing(), "stored": asyncio.run(use(kind, sys.argv[2])), "address": kind.address()}
print(json.dumps({**found, "started": len(children(os.getpid()))}))
"""


@pytest.mark.parametrize("scheme", SERVERS)
def test_a_kind_keeps_its_data_in_the_server_that_the_environment_names(scheme: str, *, require_all: bool) -> None:
    """Here the one that this run of the tests has, which another run is told of."""
    kind = KINDS[scheme]
    if missing := kind.missing():
        (pytest.fail if require_all else pytest.skip)(missing)
    variable, url = SERVERS[scheme]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, scheme, f"gk{uuid.uuid4().hex}"],
        cwd=ROOT,
        env={**clean_environment(), variable: url()},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    address = list(kind.address())  # type: ignore[attr-defined]  # those with a server have one
    assert json.loads(done.stdout) == {"missing": "", "stored": True, "address": address, "started": 0}
