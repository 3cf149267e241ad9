"""Listings: pages of identifiers from sorted sets, then their records.

What was imported is listed whole or not at all: which imports were under way is read in the same step as a page's
identifiers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backends.codec import record_from_json
from backends.errors import StoreCorrupt
from backends.paging import check_limit, page_of, readable_page
from backends.records import KeyFilter, Page
from backends.redis_connection import checked
from backends.redis_records import Switches, import_of, organization_from_json
from backends.redis_scripts import LIST

if TYPE_CHECKING:
    from backends.journal import Journal
    from backends.records import KeyRecord, Organization
    from backends.redis_connection import Wire
    from backends.redis_keys import Names

__all__ = ["Listing"]

_BATCH: Final = 250
"""Records in one answer; there may be large ones."""
_STEP: Final = 1_000
_MOST_READ: Final = 5_000
"""Keys that one call looks through; where few of them match, a page ends early."""


class Listing:
    """The contract's methods that read many keys or organizations."""

    def __init__(self, wire: Wire, names: Names, journal: Journal) -> None:
        self._wire = wire
        self._names = names
        self._journal = journal

    async def list_keys(self, *, where: KeyFilter, after: str, limit: int) -> Page[KeyRecord]:
        """See the contract."""
        check_limit(limit)
        zset = "keys" if where.organization_id is None else f"keys:{where.organization_id}"
        is_filtered = where != KeyFilter(organization_id=where.organization_id)
        step = _STEP if is_filtered else limit + 1  # the page and one more in a single step
        found: list[KeyRecord] = []
        hidden: set[str] = set()
        for _ in range(_MOST_READ // _STEP):
            last, records = await self._step(zset, after, step, hidden)
            asked = [record.key_id for record in records] if where.last_used_before is not None else []
            uses = await self._journal.last_use(asked) if asked else {}
            for record in records:
                use = uses.get(record.key_id)
                if where.matches(record, None if use is None else use.last_used_at):
                    found.append(record)
            if last is None or len(found) > limit:
                return page_of(found[: limit + 1], limit, cursor=lambda record: record.key_id)
            after = last
        return Page(tuple(found), after)

    async def list_organizations(self, *, after: str | None, limit: int) -> Page[Organization]:
        """See the contract."""
        check_limit(limit)
        (names,) = await self._wire.read(
            ("ZRANGEBYLEX", self._names.own("organizations:names"), _from(after), "+", "LIMIT", 0, limit + 1)
        )
        if not names:
            return Page((), None)
        (found,) = await self._wire.read(("HMGET", self._names.own("organizations"), *names))
        rows = list(zip(names, found, strict=True))  # what a hand has deleted is ``None``, which cannot be read either
        return readable_page(
            rows, limit, lambda row: organization_from_json(row[1]), cursor=lambda row: row[0].decode()
        )

    async def _step(self, zset: str, after: str, count: int, hidden: set[str]) -> tuple[str | None, list[KeyRecord]]:
        """Some records in order, and the last identifier that was looked at: ``None`` where no more follow.

        ``hidden`` are the imports that were under way at an earlier step: it grows by those of this one.
        """
        marker, listed, key_ids, addresses = await self._wire.evaluate(LIST, zset, _from(after), count)
        self._wire.proved(marker)
        hidden |= Switches.decode(listed).imports
        placed = [
            (key_id.decode(), self._names.record(address))
            for key_id, address in zip(key_ids, addresses, strict=True)
            if address is not None
        ]
        records = []
        for start in range(0, len(placed), _BATCH):
            batch = placed[start : start + _BATCH]
            (held,) = await self._wire.ask(("MGET", *(name for _, name in batch)))
            for (key_id, _), raw in zip(batch, checked(held), strict=True):
                if raw is not None and import_of(raw) not in hidden:
                    records += _decoded(raw, key_id)
        return (key_ids[-1].decode() if len(key_ids) == count else None), records


def _from(after: str | None) -> str:
    return f"({after}" if after else "-"


def _decoded(raw: bytes, key_id: str) -> list[KeyRecord]:
    """The record, or nothing where it cannot be decoded or is another one."""
    try:
        record = record_from_json(raw)
    except StoreCorrupt:
        return []
    return [record] if record.key_id == key_id else []
