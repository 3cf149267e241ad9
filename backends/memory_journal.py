"""Use counts, audit trail and claims in this process's memory; the trusted model of every other journal."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from backends.errors import Conflict, StoreClosed
from backends.journal import AuditEntry, AuditHead, Claim, HourCount, LastUse
from backends.paging import page_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from backends.journal import Journal, UsageCount
    from backends.records import Page

__all__ = ["MemoryJournal"]


class MemoryJournal:
    """See ``backends.journal.Journal``. ``is_open`` tells whether its store is open; alone it is always."""

    def __init__(self, is_open: Callable[[], bool] = lambda: True) -> None:
        self._is_open = is_open
        self._hours: dict[str, dict[datetime, int]] = {}
        self._last: dict[str, LastUse] = {}
        self._audit: dict[str, list[AuditEntry]] = {}
        self._heads: dict[str, AuditHead] = {}
        self._claims: dict[str, tuple[Claim, datetime]] = {}

    async def add_usage(self, batch: Sequence[UsageCount]) -> None:
        """See the contract."""
        self._check_open()
        for item in batch:
            hours = self._hours.setdefault(item.key_id, {})
            hours[item.hour] = hours.get(item.hour, 0) + item.count
            before = self._last.get(item.key_id)
            self._last[item.key_id] = LastUse(
                item.last_used_at if before is None else max(before.last_used_at, item.last_used_at),
                _later(item.previous_secret_used_at, None if before is None else before.previous_secret_used_at),
            )

    async def usage(self, key_id: str, *, since: datetime, until: datetime) -> tuple[HourCount, ...]:
        """See the contract."""
        self._check_open()
        hours = self._hours.get(key_id, {})
        return tuple(HourCount(hour, hours[hour]) for hour in sorted(hours) if since <= hour < until)

    async def last_use(self, key_ids: Iterable[str]) -> Mapping[str, LastUse]:
        """See the contract."""
        self._check_open()
        return {key_id: self._last[key_id] for key_id in key_ids if key_id in self._last}

    async def forget_uses(self, key_id: str) -> None:
        """See the contract."""
        self._check_open()
        self._hours.pop(key_id, None)
        self._last.pop(key_id, None)

    async def append_audit(self, entry: AuditEntry) -> None:
        """See the contract."""
        self._check_open()
        head = self._heads.get(entry.organization_id, AuditHead())
        if (entry.seq, entry.previous_hash) != (head.seq + 1, head.hash):
            raise Conflict("the audit chain has grown meanwhile")
        self._audit.setdefault(entry.organization_id, []).append(entry)
        self._heads[entry.organization_id] = AuditHead(entry.seq, entry.hash, head.pruned_seq, head.pruned_hash)

    async def audit_head(self, organization_id: str) -> AuditHead:
        """See the contract."""
        self._check_open()
        return self._heads.get(organization_id, AuditHead())

    async def list_audit(
        self, organization_id: str, *, after: str = "", limit: int = 100, newest_first: bool = False
    ) -> Page[AuditEntry]:
        """See the contract."""
        self._check_open()
        entries = self._audit.get(organization_id, [])
        if newest_first:
            found = (entry for entry in reversed(entries) if not after or entry.seq < int(after))
        else:
            found = (entry for entry in entries if not after or entry.seq > int(after))
        return page_of(list(islice(found, limit + 1)), limit, cursor=lambda entry: str(entry.seq))

    async def audit_chains(self) -> tuple[str, ...]:
        """See the contract."""
        self._check_open()
        with_entries = {organization_id for organization_id, entries in self._audit.items() if entries}
        return tuple(sorted(self._heads.keys() | with_entries))

    async def claim(self, name: str, fingerprint: str, *, now: datetime, until: datetime) -> Claim | None:
        """See the contract."""
        self._check_open()
        held = self._claims.get(name)
        if held is not None and held[1] > now:
            return held[0]
        self._claims[name] = (Claim(fingerprint, None), until)
        return None

    async def settle(self, name: str, answer: str, *, until: datetime) -> None:
        """See the contract."""
        self._check_open()
        if name in self._claims:
            self._claims[name] = (Claim(self._claims[name][0].fingerprint, answer), until)

    async def release(self, name: str) -> None:
        """See the contract."""
        self._check_open()
        self._claims.pop(name, None)

    async def prune(
        self, *, now: datetime, usage_before: datetime | None = None, audit_before: datetime | None = None
    ) -> int:
        """See the contract."""
        self._check_open()
        over = [name for name, (_, until) in self._claims.items() if until <= now]
        for name in over:
            del self._claims[name]
        pruned = len(over)
        if usage_before is not None:
            for hours in self._hours.values():
                for hour in [hour for hour in hours if hour < usage_before]:
                    del hours[hour]
                    pruned += 1
        if audit_before is not None:
            pruned += sum(self._prune_chain(organization_id, audit_before) for organization_id in self._audit)
        return pruned

    def _prune_chain(self, organization_id: str, before: datetime) -> int:
        """From the start, up to the first entry that stays: a chain has no gaps, whatever its entries' times are."""
        entries = self._audit[organization_id]
        count = next((index for index, entry in enumerate(entries) if entry.at >= before), len(entries))
        if count:
            last, head = entries[count - 1], self._heads[organization_id]
            self._heads[organization_id] = AuditHead(head.seq, head.hash, last.seq, last.hash)
            del entries[:count]
        return count

    def _check_open(self) -> None:
        if not self._is_open():
            raise StoreClosed("the memory store is not open")


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return one if other is None else other if one is None else max(one, other)


if TYPE_CHECKING:
    _conforms: Journal = MemoryJournal()
