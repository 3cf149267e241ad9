"""A store that is counted and timed; the same contract, nothing else changed."""

from __future__ import annotations

from asyncio import CancelledError
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from backends.contract import EVERY_KEY
from backends.errors import Conflict, NotFound, StoreCorrupt, StoreNotAsked, StoreUnavailable, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence
    from datetime import datetime

    from backends.contract import ChangeListener, KeyStore
    from backends.journal import Journal
    from backends.records import (
        Connections,
        FoundKey,
        KeyFilter,
        KeyRecord,
        KeyState,
        Organization,
        Page,
        SecretHash,
    )
    from service.observe.metrics import Metrics
    from service.observe.tracing import Tracing

__all__ = ["ObservedStore"]

_Result = TypeVar("_Result")


class ObservedStore:
    """See ``backends.contract.KeyStore``; every operation moves one series of ``gatekey_store_operations_total``."""

    def __init__(self, inner: KeyStore, metrics: Metrics, *, tracing: Tracing | None = None) -> None:
        self._inner = inner
        self._metrics = metrics
        self._tracing = tracing
        self.name = inner.name

    async def _observed(self, operation: str, call: Awaitable[_Result]) -> _Result:
        started = perf_counter()
        result, asked = "error", True
        try:
            value = await call
        except StoreNotAsked:
            result, asked = "unavailable", False
            raise
        except (StoreUnavailable, CancelledError):  # whoever cancels has waited for as long as it would
            result = "unavailable"
            raise
        except StoreCorrupt:
            result = "corrupt"
            raise
        except NotFound:
            result = "not_found"
            raise
        except (Conflict, VersionConflict):
            result = "conflict"
            raise
        else:
            result = "not_found" if value is None and operation == "find" else "ok"
            return value
        finally:
            seconds = perf_counter() - started
            self._metrics.store_operation(operation, result, seconds if asked else None)
            if asked and self._tracing is not None:
                self._tracing.store_call(self.name, operation, result, seconds)

    @property
    def journal(self) -> Journal:
        """See the contract; its calls are not counted one by one, they are few and off the way to a decision."""
        return self._inner.journal

    @property
    def connections(self) -> Connections:
        """See the contract."""
        return self._inner.connections

    async def migrate(self) -> tuple[str, ...]:
        """See the contract."""
        return await self._inner.migrate()

    async def open(self) -> None:
        """See the contract."""
        await self._inner.open()

    async def close(self) -> None:
        """See the contract."""
        await self._inner.close()

    async def ping(self) -> None:
        """See the contract."""
        await self._observed("ping", self._inner.ping())

    async def find(self, api_key: str) -> FoundKey | None:
        """See the contract."""
        return await self._observed("find", self._inner.find(api_key))

    async def get(self, key_id: str) -> KeyRecord:
        """See the contract."""
        return await self._observed("read", self._inner.get(key_id))

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """See the contract."""
        return await self._observed("read", self._inner.list_keys(where=where, after=after, limit=limit))

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        """See the contract."""
        return await self._observed("read", self._inner.count_keys(now=now))

    async def count_expiring(self, *, now: datetime, until: Sequence[datetime]) -> tuple[int, ...]:
        """See the contract."""
        return await self._observed("read", self._inner.count_expiring(now=now, until=until))

    async def add(self, record: KeyRecord) -> None:
        """See the contract."""
        await self._observed("write", self._inner.add(record))

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        """See the contract."""
        return await self._observed("write", self._inner.add_many(organizations, records))

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        """See the contract."""
        return await self._observed("write", self._inner.replace(record, expected_version=expected_version))

    async def set_state(self, key_id: str, state: KeyState, *, now: datetime) -> bool:
        """See the contract."""
        return await self._observed("write", self._inner.set_state(key_id, state, now=now))

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        """See the contract."""
        return await self._observed("write", self._inner.rehash(key_id, old=old, new=new))

    async def delete(self, key_id: str) -> bool:
        """See the contract."""
        return await self._observed("write", self._inner.delete(key_id))

    async def add_organization(self, organization: Organization) -> None:
        """See the contract."""
        await self._observed("organizations", self._inner.add_organization(organization))

    async def get_organization(self, organization_id: str) -> Organization:
        """See the contract."""
        return await self._observed("organizations", self._inner.get_organization(organization_id))

    async def list_organizations(self, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """See the contract."""
        return await self._observed("organizations", self._inner.list_organizations(after=after, limit=limit))

    async def set_organization_active(self, organization_id: str, is_active: bool, *, now: datetime) -> bool:  # noqa: FBT001 - the contract's signature
        """See the contract."""
        call = self._inner.set_organization_active(organization_id, is_active, now=now)
        return await self._observed("organizations", call)

    async def watch(self, listener: ChangeListener) -> None:
        """See the contract."""
        await self._inner.watch(listener)

    async def barrier(self) -> None:
        """See the contract."""
        await self._observed("barrier", self._inner.barrier())

    async def replicate(self) -> bool:
        """See the contract."""
        return await self._observed("barrier", self._inner.replicate())


if TYPE_CHECKING:

    def _conforms(store: KeyStore, metrics: Metrics) -> KeyStore:
        return ObservedStore(store, metrics)
