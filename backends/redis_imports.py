"""Imports of any size that nobody sees half of, and that never block the server for long.

Records are written in small steps, each marked with its import's id; as long as that id stands in the lists ``disabled``,
which every look-up reads with the record, they do not exist. One short script takes the id out of the lists: from then
on all of them do. An import that fails takes its records back; what a process left that died, the next one does.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final

from backends.errors import Conflict, NotFound, StoreCorrupt, StoreError, StoreUnavailable
from backends.redis_import_scripts import BEGIN_IMPORT, COMMIT_IMPORT, STAGE, UNSTAGE
from backends.redis_keys import address_of
from backends.redis_records import encode_record, expiry_of, organization_to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backends.records import KeyRecord, Organization
    from backends.redis_connection import Wire
    from backends.redis_keys import Names

__all__ = ["Imports"]

_STEP: Final = 100
"""Records in one script: some milliseconds of the server's time."""
_STEP_BYTES: Final = 1_000_000
_LEASE: Final = 15_000
"""Milliseconds without a step after which an import is taken for dead."""
_PATIENCE: Final = 60.0
_PAUSE: Final = 0.05


class Imports:
    """``add_many``, and the cleaning up behind it."""

    def __init__(self, wire: Wire, names: Names) -> None:
        self._wire = wire
        self._names = names

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """See the contract."""
        import_id = secrets.token_hex(8)
        done = False
        try:
            await self._begin(import_id, patience=_PATIENCE)
            count = await self._write(import_id, organizations, records)
            done = True
        finally:
            if not done:
                await self._take_back(import_id)
        return count

    async def sweep(self) -> bool:
        """Take back what dead processes left; ``False`` where an import is under way."""
        import_id = secrets.token_hex(8)
        try:
            await self._begin(import_id, patience=0)
        except StoreUnavailable:
            return False
        await self._take_back(import_id)
        return True

    async def _begin(self, import_id: str, *, patience: float) -> None:
        until = time.monotonic() + patience
        while True:
            status, *left = await self._wire.run(BEGIN_IMPORT, import_id, _LEASE)
            if status == b"done":
                return
            if status == b"left":
                await self._unstage(left[0].decode())
                continue
            if time.monotonic() >= until:
                raise StoreUnavailable("redis: another import is under way")
            await asyncio.sleep(_PAUSE)

    async def _write(self, import_id: str, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        new: dict[str, Organization] = {}
        for organization in organizations:
            new.setdefault(organization.organization_id, organization)
        known = set(new)
        count = 0
        for step in _steps(import_id, records):
            count += await self._stage(import_id, step, known)
        listed: list[bytes | str] = []
        for organization in new.values():
            listed += [
                organization.organization_id,
                organization_to_json(organization),
                "1" if organization.is_active else "0",
            ]
        status, *_ = await self._wire.run(COMMIT_IMPORT, import_id, 1 if count else 0, *listed)
        if status != b"done":
            raise StoreUnavailable("redis: the import took too long between two steps and was given up")
        return count

    async def _stage(self, import_id: str, step: list[tuple[KeyRecord, bytes]], known: set[str]) -> int:
        """Write some records; how many of them were new."""
        await self._look_up({record.organization_id for record, _ in step} - known, known)
        orphan = next((at for at, (record, _) in enumerate(step) if record.organization_id not in known), None)
        values: list[bytes | str] = []
        for record, raw in step[:orphan]:
            values += [
                address_of(record.api_key),
                raw,
                record.key_id,
                record.organization_id,
                record.state.value,
                expiry_of(record),
            ]
        status, *counted = await self._wire.run(STAGE, import_id, _LEASE, *values)
        if status == b"taken":
            raise Conflict("a key_id is taken, or an api_key by another organization")
        if status == b"corrupt":
            raise StoreCorrupt("a stored key with an api_key of the import cannot be decoded")
        if status != b"done":
            raise StoreUnavailable("redis: the import took too long between two steps and was given up")
        if orphan is not None:
            raise NotFound("there is no such organization")
        return int(counted[0])

    async def _look_up(self, asked: set[str], known: set[str]) -> None:
        if asked:
            names = sorted(asked)
            (found,) = await self._wire.read(("HMGET", self._names.own("organizations"), *names))
            known.update(name for name, raw in zip(names, found, strict=True) if raw is not None)

    async def _take_back(self, import_id: str) -> None:
        try:
            await self._unstage(import_id)
        except StoreError:
            return  # unseen as they are, the records stay until the next import takes them back

    async def _unstage(self, import_id: str) -> None:
        while (await self._wire.run(UNSTAGE, import_id, _STEP))[0] == b"more":
            pass


def _steps(import_id: str, records: Iterable[KeyRecord]) -> Iterator[list[tuple[KeyRecord, bytes]]]:
    step: list[tuple[KeyRecord, bytes]] = []
    size = 0
    for record in records:
        raw = encode_record(record, import_id=import_id)
        step.append((record, raw))
        size += len(raw)
        if len(step) == _STEP or size > _STEP_BYTES:
            yield step
            step, size = [], 0
    if step:
        yield step
