"""The journal of a guarded store: the same deadlines and the same breaker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime

    from backends.journal import AuditEntry, AuditHead, Claim, HourCount, Journal, LastUse, UsageCount
    from backends.records import Page

__all__ = ["GuardedJournal"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _Call(Protocol):
    """``GuardedStore._call``."""

    async def __call__(
        self,
        seconds: float,
        method: Callable[_Arguments, Coroutine[Any, Any, _Result]],
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result: ...


class GuardedJournal:
    """See ``backends.journal.Journal``."""

    def __init__(
        self, inner: Journal, call: _Call, *, read_timeout: float, write_timeout: float, bulk_timeout: float
    ) -> None:
        self._inner = inner
        self._call = call
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._bulk_timeout = bulk_timeout

    async def add_usage(self, batch: Sequence[UsageCount]) -> None:
        """See the contract."""
        await self._call(self._write_timeout, self._inner.add_usage, batch)

    async def usage(self, key_id: str, *, since: datetime, until: datetime) -> tuple[HourCount, ...]:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.usage, key_id, since=since, until=until)

    async def last_use(self, key_ids: Iterable[str]) -> Mapping[str, LastUse]:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.last_use, key_ids)

    async def forget_uses(self, key_id: str) -> None:
        """See the contract."""
        await self._call(self._write_timeout, self._inner.forget_uses, key_id)

    async def append_audit(self, entry: AuditEntry) -> None:
        """See the contract."""
        await self._call(self._write_timeout, self._inner.append_audit, entry)

    async def audit_head(self, organization_id: str) -> AuditHead:
        """See the contract."""
        return await self._call(self._read_timeout, self._inner.audit_head, organization_id)

    async def list_audit(
        self, organization_id: str, *, after: str = "", limit: int = 100, newest_first: bool = False
    ) -> Page[AuditEntry]:
        """See the contract."""
        return await self._call(
            self._read_timeout,
            self._inner.list_audit,
            organization_id,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )

    async def audit_chains(self) -> tuple[str, ...]:
        """See the contract."""
        return await self._call(self._bulk_timeout, self._inner.audit_chains)

    async def claim(self, name: str, fingerprint: str, *, now: datetime, until: datetime) -> Claim | None:
        """See the contract."""
        return await self._call(self._write_timeout, self._inner.claim, name, fingerprint, now=now, until=until)

    async def settle(self, name: str, answer: str, *, until: datetime) -> None:
        """See the contract."""
        await self._call(self._write_timeout, self._inner.settle, name, answer, until=until)

    async def release(self, name: str) -> None:
        """See the contract."""
        await self._call(self._write_timeout, self._inner.release, name)

    async def prune(
        self, *, now: datetime, usage_before: datetime | None = None, audit_before: datetime | None = None
    ) -> int:
        """See the contract."""
        return await self._call(
            self._bulk_timeout, self._inner.prune, now=now, usage_before=usage_before, audit_before=audit_before
        )
