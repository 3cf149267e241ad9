"""Changes of single keys and organizations.

A key is changed by reading it, making the new record here, and putting that in the place of exactly what was read; where
somebody was faster, once more. So every rule stands in Python, once, and the server only compares.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from backends.codec import record_from_json
from backends.errors import Conflict, NotFound, StoreCorrupt, StoreUnavailable
from backends.redis_connection import checked
from backends.redis_errors import is_wrong_type
from backends.redis_keys import address_of
from backends.redis_records import (
    Switches,
    encode_record,
    expiry_of,
    import_of,
    organization_from_json,
    organization_to_json,
)
from backends.redis_scripts import ADD, ADD_ORGANIZATION, REMOVE, SWAP, SWITCH_ORGANIZATION
from backends.rules import check_state, replacement

if TYPE_CHECKING:
    from datetime import datetime

    from backends.records import KeyRecord, KeyState, Organization, SecretHash
    from backends.redis_connection import Wire
    from backends.redis_imports import Imports
    from backends.redis_keys import Names

__all__ = ["Writes"]

_ATTEMPTS: Final = 100
_WAITS: Final = 40
_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Held:
    """A record as it was read, with where and in which form it is stored."""

    record: KeyRecord
    address: bytes
    raw: bytes


class Writes:
    """The contract's methods for one key or organization."""

    def __init__(self, wire: Wire, names: Names, imports: Imports) -> None:
        self._wire = wire
        self._names = names
        self._imports = imports

    async def held(self, key_id: str) -> _Held:
        """The key with this identifier; raises ``NotFound`` and ``StoreCorrupt``."""
        listed, address = await self._wire.read(
            ("GET", self._names.own("disabled")), ("HGET", self._names.own("ids"), key_id)
        )
        if address is None:
            raise NotFound("there is no such key")
        (raw,) = await self._wire.ask(("GET", self._names.record(address)))
        if is_wrong_type(raw):
            raise StoreCorrupt("the stored key is no text")
        if checked(raw) is None or import_of(raw) in Switches.decode(listed).imports:
            raise NotFound("there is no such key")
        record = record_from_json(raw)
        if record.key_id != key_id or address_of(record.api_key) != address:
            raise StoreCorrupt("the stored key is another one than its place says")
        return _Held(record, address, raw)

    async def add(self, record: KeyRecord) -> None:
        """See the contract. Where an import under way has the key it waits for what becomes of that."""
        for _ in range(_WAITS):
            status, *_ = await self._wire.run(
                ADD,
                address_of(record.api_key),
                encode_record(record),
                record.key_id,
                record.organization_id,
                record.state.value,
                expiry_of(record),
                record.api_key,
            )
            if status == b"no organization":
                raise NotFound("there is no such organization")
            if status == b"taken":
                raise Conflict("the key_id or the api_key is taken")
            if status == b"done":
                return
            if not await self._imports.sweep():
                await asyncio.sleep(_PAUSE)
        raise StoreUnavailable("redis: an import under way has the key_id or the api_key")

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """See the contract."""
        for _ in range(_ATTEMPTS):
            held = await self.held(record.key_id)
            stored = replacement(held.record, record, expected_version=expected_version)
            if await self._swap(held, stored):
                return stored
        raise _busy()

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """See the contract."""
        for _ in range(_ATTEMPTS):
            held = await self.held(key_id)
            current = held.record
            if current.state is state:
                return False
            check_state(current.state, state)
            if await self._swap(held, replace(current, state=state, updated_at=now, version=current.version + 1)):
                return True
        raise _busy()

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """See the contract."""
        for _ in range(_ATTEMPTS):
            try:
                held = await self.held(key_id)
            except NotFound:
                return False
            current = held.record
            if old not in (current.secret, current.previous_secret):
                return False
            changed = replace(
                current,
                secret=new if current.secret == old else current.secret,
                previous_secret=new if current.previous_secret == old else current.previous_secret,
            )
            if await self._swap(held, changed):
                return True
        raise _busy()

    async def delete(self, key_id: str) -> bool:
        """See the contract."""
        status, *_ = await self._wire.run(REMOVE, key_id)
        return bool(status == b"done")

    async def add_organization(self, organization: Organization) -> None:
        """See the contract."""
        status, *_ = await self._wire.run(
            ADD_ORGANIZATION,
            organization.organization_id,
            organization_to_json(organization),
            "1" if organization.is_active else "0",
        )
        if status == b"taken":
            raise Conflict("the organization_id is taken")

    async def set_organization_active(self, organization_id: str, *, is_active: bool) -> bool:
        """See the contract."""
        for _ in range(_ATTEMPTS):
            (raw,) = await self._wire.read(("HGET", self._names.own("organizations"), organization_id))
            if raw is None:
                raise NotFound("there is no such organization")
            current = organization_from_json(raw)
            if current.is_active == is_active:
                return False
            new = organization_to_json(replace(current, is_active=is_active))
            status, *_ = await self._wire.run(SWITCH_ORGANIZATION, organization_id, raw, new, "1" if is_active else "0")
            if status == b"done":
                return True
        raise _busy()

    async def _swap(self, held: _Held, record: KeyRecord) -> bool:
        """``False`` where the key is not as it was read any more."""
        status, *_ = await self._wire.run(
            SWAP,
            held.address,
            held.raw,
            encode_record(record),
            record.key_id,
            record.state.value,
            expiry_of(record),
            record.api_key,
        )
        return bool(status == b"done")


def _busy() -> StoreUnavailable:
    return StoreUnavailable("redis: others change the same object all the time")
