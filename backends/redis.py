"""Keys in Redis 6.2 or later, or in Valkey; where everything lives is said in ``backends.redis_keys``.

Whatever is decided on what the server says comes with the epoch marker, read in the same command: a server that was
wiped, or is not the right one, answers "no such key" to everything without any error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backends.codec import record_from_json
from backends.contract import EVERY_KEY
from backends.errors import NotFound, StoreClosed, StoreCorrupt, StoreUnavailable
from backends.records import FoundKey, KeyFilter
from backends.redis_connection import Wire, checked
from backends.redis_imports import Imports
from backends.redis_journal import RedisJournal
from backends.redis_keys import Names, address_of
from backends.redis_listing import Listing
from backends.redis_migrate import facts_of, look, prepare
from backends.redis_records import Epochs, Switches, import_of, micros, organization_from_json
from backends.redis_scripts import LOOK
from backends.redis_url import parse_url
from backends.redis_watch import Watchers
from backends.redis_writes import Writes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

    from backends.contract import ChangeListener, KeyStore
    from backends.records import Connections, KeyRecord, KeyState, Organization, Page, SecretHash
    from backends.redis_url import RedisOptions

__all__ = ["RedisKeyStore"]

_WAIT: Final = 1_000  # milliseconds for the copies


class RedisKeyStore:
    """See ``backends.contract.KeyStore``."""

    name = "redis"

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._names = Names(options.prefix, options.db)
        self._watchers = Watchers(self._names)
        self._epochs = Epochs(self._watchers.everything_changed)
        self._wire = Wire(options, self._names, self._epochs)
        self._imports = Imports(self._wire, self._names)
        self._writes = Writes(self._wire, self._names, self._imports)
        self._journal = RedisJournal(self._wire, self._names, self._imports)
        self._listing = Listing(self._wire, self._names, self._journal)
        self._switches: Switches | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The store for ``redis[s]://[user:password@]host[:port][/db][?option=value&…]``; raises ``ValueError``."""
        return cls(parse_url(url))

    @property
    def journal(self) -> RedisJournal:
        """See the contract."""
        return self._journal

    @property
    def connections(self) -> Connections:
        """See the contract; the announcing connection is not one of the pool."""
        return self._wire.connections

    async def migrate(self) -> tuple[str, ...]:
        """See the contract."""
        if self._wire.is_open:
            return await prepare(self._wire, self._names)
        wire = Wire(self._options, self._names, self._epochs)
        wire.open()
        try:
            return await prepare(wire, self._names)
        finally:
            await wire.close()

    async def open(self) -> None:
        """See the contract; connections are made when they are needed."""
        self._wire.open()

    async def close(self) -> None:
        """See the contract."""
        await self._wire.close()

    async def ping(self) -> None:
        """See the contract."""
        await look(self._wire, self._names, self._epochs)

    async def find(self, api_key: str) -> FoundKey | None:
        """See the contract: one ``MGET``.

        Where that shows no record it is asked once more, together with ``TYPE``, since ``MGET`` says nothing of a key
        that holds another type than text.
        """
        address = address_of(api_key)
        bucket, record = int(address[:3]), self._names.record(address)
        names = (record, self._names.markers[bucket], self._names.disabled[bucket])
        (reply,) = await self._wire.ask(("MGET", *names))
        raw, switches = self._believed(bucket, *_list_of(reply, 3))
        if raw is None:
            *reply, kind = _list_of(await self._wire.evaluate(LOOK, *names), 4)
            raw, switches = self._believed(bucket, *reply)
            if raw is None and kind not in (b"none", b"string"):
                raise StoreCorrupt("the stored key is no text")
        if raw is None or import_of(raw) in switches.imports:
            return None
        key = record_from_json(raw, api_key=api_key)
        return FoundKey(key, key.organization_id not in switches.organizations)

    async def get(self, key_id: str) -> KeyRecord:
        """See the contract."""
        return (await self._writes.held(key_id)).record

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """See the contract."""
        return await self._listing.list_keys(where=where, after=after, limit=limit)

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        """See the contract; keys of an import under way count already."""
        own = self._names.own
        total, disabled, revoked, expired = await self._wire.read(
            ("HLEN", own("ids")),
            ("SCARD", own("state:disabled")),
            ("SCARD", own("state:revoked")),
            ("ZCOUNT", own("expiring"), "-inf", micros(now)),
        )
        active = total - disabled - revoked - expired
        return {"active": active, "disabled": disabled, "revoked": revoked, "expired": expired}

    async def count_expiring(self, *, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
        """See the contract; likewise."""
        expiring, after = self._names.own("expiring"), f"({micros(now)}"
        return tuple(await self._wire.read(*(("ZCOUNT", expiring, after, micros(moment)) for moment in until)))

    async def add(self, record: KeyRecord) -> None:
        """See the contract."""
        await self._writes.add(record)

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """See the contract."""
        return await self._imports.add_many(organizations, records)

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """See the contract."""
        return await self._writes.replace(record, expected_version=expected_version)

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """See the contract."""
        return await self._writes.set_state(key_id, state, now=now)

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """See the contract."""
        return await self._writes.rehash(key_id, old=old, new=new)

    async def delete(self, key_id: str) -> bool:
        """See the contract."""
        return await self._writes.delete(key_id)

    async def add_organization(self, organization: Organization) -> None:
        """See the contract."""
        await self._writes.add_organization(organization)

    async def get_organization(self, organization_id: str) -> Organization:
        """See the contract."""
        (raw,) = await self._wire.read(("HGET", self._names.own("organizations"), organization_id))
        if raw is None:
            raise NotFound("there is no such organization")
        return organization_from_json(raw)

    async def list_organizations(self, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """See the contract."""
        return await self._listing.list_organizations(after=after, limit=limit)

    async def set_organization_active(self, organization_id: str, is_active: bool, *, now: datetime) -> bool:  # noqa: ARG002, FBT001 - the contract's signature; organizations keep no time of change
        """See the contract."""
        return await self._writes.set_organization_active(organization_id, is_active=is_active)

    async def watch(self, listener: ChangeListener) -> None:
        """See the contract."""
        self._check_open()
        await self._watchers.watch(listener, self._wire)

    async def barrier(self) -> None:
        """See the contract."""
        self._check_open()
        await self._watchers.barrier()

    async def replicate(self) -> bool:
        """See the contract: ``WAIT`` for as many copies as the server says it has."""
        (info,) = await self._wire.ask(("INFO", "replication"))
        copies = int(facts_of(info).get("connected_slaves", "0"))
        if not copies:
            return True
        reached = await self._wire.write_and_wait(
            ("SET", self._names.own("waits"), "1"), ("WAIT", copies, _WAIT), wait=2 * _WAIT / 1_000
        )
        return int(reached) >= copies

    def _believed(self, bucket: int, raw: Any, marker: Any, disabled: Any) -> tuple[bytes | None, Switches]:
        """The record as it is stored and the list beside it, where the marker beside them says that they count."""
        self._epochs.check(bucket, marker)
        switches = self._switches
        if switches is None or switches.raw != disabled:
            switches = self._switches = Switches.decode(disabled)
        return raw, switches

    def _check_open(self) -> None:
        if not self._wire.is_open:
            raise StoreClosed("the redis store is not open")


def _list_of(reply: Any, length: int) -> list[Any]:
    reply = checked(reply)
    if not isinstance(reply, list) or len(reply) != length:
        raise StoreUnavailable("redis: what answered does not speak the protocol")
    return reply


if TYPE_CHECKING:
    _conforms: KeyStore = RedisKeyStore(parse_url("redis://localhost"))
