"""Use counts, audit trail and claims in Redis; nothing here touches a record's bucket, so nothing is announced.

No name has a time to live: a server that may drop names which have one drops nothing of this, and whether a claim is
over is decided by the caller's clock.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from backends.codec import text_of_time, time_of_text
from backends.errors import Conflict, StoreCorrupt
from backends.journal import NO_HASH, AuditEntry, AuditHead, Claim, HourCount, LastUse
from backends.paging import check_limit, page_of
from backends.redis_journal_scripts import (
    APPEND_AUDIT,
    CLAIM,
    COUNT_USES,
    FORGET_USES,
    PRUNE_AUDIT,
    PRUNE_CLAIMS,
    PRUNE_USES,
    RELEASE,
    SETTLE,
)
from backends.redis_records import micros, time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backends.journal import Journal, UsageCount
    from backends.records import Page
    from backends.redis_connection import Argument, Command, Wire
    from backends.redis_imports import Imports
    from backends.redis_keys import Names

__all__ = ["RedisJournal"]

_BATCH: Final = 250
_NAMES_AT_ONCE: Final = 10_000  # some 2 ms of the server
_SPECIAL: Final = re.compile(rb"[*?\[\]\\^]")  # in a pattern of names
_SECOND: Final = 1_000_000


class RedisJournal:
    """See ``backends.journal.Journal``."""

    def __init__(self, wire: Wire, names: Names, imports: Imports) -> None:
        self._wire = wire
        self._own = names.own
        self._imports = imports

    async def add_usage(self, batch: Sequence[UsageCount]) -> None:
        """See the contract."""
        values: list[Argument] = []
        for item in batch:
            previous = item.previous_secret_used_at
            values += [
                item.key_id,
                micros(item.hour) // _SECOND,
                item.count,
                micros(item.last_used_at),
                "" if previous is None else micros(previous),
            ]
        await self._wire.run(COUNT_USES, *values)

    async def usage(self, key_id: str, *, since: datetime, until: datetime) -> tuple[HourCount, ...]:
        """See the contract."""
        (fields,) = await self._wire.read(("HGETALL", self._own(f"usage:{key_id}")))
        hours = {_moment(hour, unit=_SECOND): _number(count) for hour, count in _pairs(fields)}
        return tuple(HourCount(hour, hours[hour]) for hour in sorted(hours) if since <= hour < until)

    async def last_use(self, key_ids: Iterable[str]) -> Mapping[str, LastUse]:
        """See the contract."""
        asked = list(key_ids)
        found: dict[str, LastUse] = {}
        commands: list[Command] = [
            ("HMGET", self._own("last_use"), *asked[start : start + _BATCH]) for start in range(0, len(asked), _BATCH)
        ]
        for raw, key_id in zip(_flat(await self._wire.read(*commands)), asked, strict=True):
            if raw is not None:
                found[key_id] = _last_use_of(raw)
        return found

    async def forget_uses(self, key_id: str) -> None:
        """See the contract."""
        await self._wire.run(FORGET_USES, key_id.encode("utf-8", "surrogatepass"))

    async def append_audit(self, entry: AuditEntry) -> None:
        """See the contract."""
        status, *_ = await self._wire.run(
            APPEND_AUDIT,
            entry.organization_id,
            entry.seq,
            entry.previous_hash,
            entry.hash,
            _entry_to_json(entry),
            NO_HASH,
        )
        if status == b"grown":
            raise Conflict("the audit chain has grown meanwhile")

    async def audit_head(self, organization_id: str) -> AuditHead:
        """See the contract."""
        (raw,) = await self._wire.read(("HGET", self._own("audit"), organization_id))
        return AuditHead() if raw is None else _head_of(raw)

    async def list_audit(
        self, organization_id: str, *, after: str = "", limit: int = 100, newest_first: bool = False
    ) -> Page[AuditEntry]:
        """See the contract."""
        check_limit(limit)
        name, count = self._own(f"audit:{organization_id}"), limit + 1
        beyond = f"({int(after)}-0" if after else None
        if newest_first:
            command = ("XREVRANGE", name, beyond or "+", "-", "COUNT", count)
        else:
            command = ("XRANGE", name, beyond or "-", "+", "COUNT", count)
        (found,) = await self._wire.read(command)
        entries = [_entry_of(fields) for _, fields in found]
        return page_of(entries, limit, cursor=lambda entry: str(entry.seq))

    async def audit_chains(self) -> tuple[str, ...]:
        """See the contract; a chain whose head is missing is found by its name alone, among all names of the server."""
        found = await self._heads()
        stem = self._own("audit:")
        pattern, cursor = _SPECIAL.sub(rb"\\\g<0>", stem) + b"*", b"0"
        while True:
            ((cursor, names),) = await self._wire.read(("SCAN", cursor, "MATCH", pattern, "COUNT", _NAMES_AT_ONCE))
            found |= {name[len(stem) :].decode() for name in names}
            if cursor == b"0":
                return tuple(sorted(found))

    async def _heads(self) -> set[str]:
        (names,) = await self._wire.read(("HKEYS", self._own("audit")))
        return {name.decode() for name in names}

    async def claim(self, name: str, fingerprint: str, *, now: datetime, until: datetime) -> Claim | None:
        """See the contract."""
        status, *held = await self._wire.run(CLAIM, name, fingerprint, micros(now), micros(until))
        if status == b"done":
            return None
        claim, answer = held if len(held) > 1 else (held[0], None)  # a script's answer ends at the first nil
        return Claim(claim.decode().partition(" ")[2], None if answer is None else answer.decode())

    async def settle(self, name: str, answer: str, *, until: datetime) -> None:
        """See the contract."""
        await self._wire.run(SETTLE, name, answer, micros(until))

    async def release(self, name: str) -> None:
        """See the contract."""
        await self._wire.run(RELEASE, name)

    async def prune(
        self, *, now: datetime, usage_before: datetime | None = None, audit_before: datetime | None = None
    ) -> int:
        """See the contract; also takes back what imports of dead processes have left."""
        await self._imports.sweep()
        pruned = await self._prune_claims(now)
        if usage_before is not None:
            pruned += await self._prune_uses(usage_before)
        if audit_before is not None:
            for organization_id in sorted(await self._heads()):
                pruned += await self._prune_chain(organization_id, audit_before)
        return pruned

    async def _prune_claims(self, now: datetime) -> int:
        pruned = 0
        while True:
            _, count = await self._wire.run(PRUNE_CLAIMS, micros(now), _BATCH)
            pruned += int(count)
            if count < _BATCH:
                return pruned

    async def _prune_uses(self, before: datetime) -> int:
        pruned = 0
        hour = -(-micros(before) // _SECOND)  # rounded up: an hour that starts within this second is before it
        while True:
            (names,) = await self._wire.read(
                ("ZRANGEBYSCORE", self._own("usage"), "-inf", f"({hour}", "LIMIT", 0, _BATCH)
            )
            if not names:
                return pruned
            _, count = await self._wire.run(PRUNE_USES, hour, *names)
            pruned += int(count)

    async def _prune_chain(self, organization_id: str, before: datetime) -> int:
        """From the start, up to the first entry that stays."""
        last: AuditEntry | None = None
        after = ""
        while True:
            page = await self.list_audit(organization_id, after=after, limit=_BATCH)
            for entry in page.items:
                if entry.at >= before:
                    return await self._cut(last)
                last = entry
            if page.next_after is None:
                return await self._cut(last)
            after = page.next_after

    async def _cut(self, last: AuditEntry | None) -> int:
        if last is None:
            return 0
        _, count = await self._wire.run(PRUNE_AUDIT, last.organization_id, last.seq, last.hash, f"{last.seq + 1}-0")
        return int(count)


def _last_use_of(raw: bytes) -> LastUse:
    """What a field of ``last_use`` says; raises ``StoreCorrupt``."""
    last, _, previous = raw.partition(b" ")
    return LastUse(_moment(last), _moment(previous) if previous else None)


def _moment(raw: bytes, *, unit: int = 1) -> datetime:
    """``raw`` times ``unit`` microseconds after the epoch."""
    try:
        return time_of(_number(raw) * unit)
    except OverflowError:
        raise StoreCorrupt("a stored time is not in the calendar") from None


def _number(raw: bytes) -> int:
    try:
        return int(raw)
    except ValueError:
        raise StoreCorrupt("a stored count or time is no number") from None


def _pairs(fields: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=True)


def _flat(lists: list[list[bytes | None]]) -> list[bytes | None]:
    return [item for part in lists for item in part]


def _entry_to_json(entry: AuditEntry) -> bytes:
    values = {name: getattr(entry, name) for name in AuditEntry.__slots__}
    values["at"] = text_of_time(entry.at)
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def _entry_of(fields: list[bytes]) -> AuditEntry:
    try:
        values: dict[str, Any] = json.loads(dict(_pairs(fields))[b"entry"])
        values["at"] = time_of_text(values["at"])
        entry = AuditEntry(**values)
        if not all(type(getattr(entry, name)) is kind for name, kind in _KINDS.items()):
            raise TypeError  # noqa: TRY301 - every defect is the same to the caller
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise StoreCorrupt("a stored audit entry cannot be decoded") from None
    return entry


def _head_of(raw: bytes) -> AuditHead:
    try:
        seq, entry_hash, pruned_seq, pruned_hash = json.loads(raw)
        return AuditHead(int(seq), str(entry_hash), int(pruned_seq), str(pruned_hash))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise StoreCorrupt("a stored head of an audit chain cannot be decoded") from None


_KINDS: Final = {name: {"seq": int, "at": datetime}.get(name, str) for name in AuditEntry.__slots__}


if TYPE_CHECKING:
    _conforms: type[Journal] = RedisJournal
