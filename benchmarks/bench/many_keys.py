"""The cached decision among few keys and among many, in one process of its own: microseconds of CPU, and bytes for an entry.

Every key is read from a store and decoded as in the service; then keys are asked for at random.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from backends.codec import record_from_values, record_to_values
from backends.memory import MemoryKeyStore
from backends.records import FoundKey, KeyRecord
from benchmarks.contenders import known
from service.answers.identity import identity_headers
from service.auth.clock import SystemClock
from service.auth.credentials import Credentials
from service.auth.decision import AccessRequest, Door
from service.auth.domains import parse_target
from service.auth.peppers import Peppers
from service.auth.secret import Secret
from service.auth.tokens import checksum
from service.worker import collect_briefly
from tests.support.app import running_gatekey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.runtime import Gatekey

__all__ = ["name_of", "record_of"]

_ASKED: Final = 20_000
"""Decisions in a round."""
_PIECE: Final = 10_000
"""Keys that are loaded between two looks of the loop at anything else."""
_CUSTOMERS: Final = 100
_PATIENCE: Final = 30.0  # seconds
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PEPPERS: Final = Peppers({1: known.PEPPER.encode()}, current=1)


def name_of(number: int) -> str:
    """An ``api_key`` of the product's own form, always the same for a number."""
    body = f"gk_live_{sha256(str(number).encode()).hexdigest()[:22]}"
    return body + checksum(body)


def record_of(number: int) -> KeyRecord:
    """One of a hundred customers', as different from the others as keys are that somebody makes."""
    customer = number % _CUSTOMERS
    return KeyRecord(
        key_id=f"key_{number:032x}",
        organization_id=f"customer-{customer}",
        api_key=name_of(number),
        secret=_PEPPERS.hash(known.SECRET),
        domains=(known.DOMAIN, f"api{customer}.example.com")[: 1 + customer % 2],
        scopes=("orders:read", "orders:write"),
        name=f"orders of shop {number}",
        created_at=_NOW,
        updated_at=_NOW,
    )


class _Generated(MemoryKeyStore):
    """Has every key that it is asked for, each time decoded anew."""

    number = 0

    async def find(self, api_key: str) -> FoundKey | None:
        record = record_from_values(_copied(record_to_values(record_of(self.number))), api_key=api_key)
        return FoundKey(record, organization_is_active=True)


def _copied(values: dict[str, object]) -> dict[str, object]:
    """With texts of its own, as they come over a wire."""
    copied: dict[str, object] = orjson.loads(orjson.dumps(values))
    return {name: value if isinstance(value, datetime) else copied[name] for name, value in values.items()}


@contextmanager
def _filled(keys: int) -> Iterator[tuple[Gatekey, float]]:
    """A process's Gatekey with so many cached keys, and by how many bytes the process grew for each."""
    store = _Generated()
    environ = {"GATEKEY_CACHE_MAX_ENTRIES": str(keys), "GATEKEY_CACHE_TTL": "86400", "GATEKEY_PEPPER": known.PEPPER}
    with running_gatekey(store=store, clock=SystemClock(), environ=environ) as gatekey:

        async def load(numbers: range) -> None:
            for store.number in numbers:
                await gatekey.cache.load(name_of(store.number), budget=5)

        gc.collect()
        before = _resident()
        for first in range(0, keys, _PIECE):
            gatekey.portal.run(load, range(first, min(first + _PIECE, keys)))
        collect_briefly()  # as a worker does, which is not stopped by full collections either
        if len(gatekey.cache) != keys:
            raise RuntimeError("not every key is in the cache")
        yield gatekey, (_resident() - before) / keys


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _round(gatekey: Gatekey, keys: int, chosen: random.Random) -> float:
    """Microseconds of CPU for a decision, its line and its counts; requests are made before, as young as in the service."""
    target = parse_target(known.DOMAIN, "https", "/")
    requests = [
        AccessRequest(
            credentials=Credentials(name_of(chosen.randrange(keys)), Secret(known.SECRET)),
            target=target,
            door=Door.FORWARD,
            started=gatekey.clock.age(),
            client_ip="192.0.2.1",
            method="GET",
            path="/orders",
            policy="default",
        )
        for _ in range(_ASKED)
    ]
    until = time.monotonic() + _PATIENCE
    while not gatekey.cache.link_is_up() and time.monotonic() < until:  # else entries would be trusted less
        time.sleep(0.01)
    allowed = 0
    began = time.thread_time()
    for request in requests:
        decision = gatekey.authenticator.decide_cached(request)
        if decision is not None and decision.allowed and decision.key is not None:
            allowed += 1
            identity_headers(decision.key)
            gatekey.observer.decided(request, decision, decision.status)
    taken = time.thread_time() - began
    if allowed != _ASKED:
        raise RuntimeError("a cached key was not allowed")
    return taken / _ASKED * 1e6


def _measure(few: int, many: int, rounds: int) -> dict[str, Sequence[float] | float]:
    with _filled(few) as (small, _), _filled(many) as (large, entry_bytes):
        chosen = random.Random(1)  # noqa: S311 - which keys are asked for
        _round(small, few, chosen), _round(large, many, chosen)
        pairs = [(_round(small, few, chosen), _round(large, many, chosen)) for _ in range(rounds)]
    return {"few": [pair[0] for pair in pairs], "many": [pair[1] for pair in pairs], "entry_bytes": entry_bytes}


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(_measure(*(int(word) for word in sys.argv[1:]))))
