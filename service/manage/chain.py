"""The audit chain as such: how an entry is hashed, and whether a chain is whole.

Each entry's hash covers the hash of the one before, and the head, kept apart, says where the chain ends: so nothing can be
changed, taken out, put in, moved or cut off at the end without being seen. Whoever can write the entries *and* the head
can forge a whole new chain; a copy of the head's hash kept elsewhere shows that too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final

from backends.errors import StoreCorrupt
from backends.journal import AuditHead

if TYPE_CHECKING:
    from backends.journal import AuditEntry, Journal

__all__ = ["ChainProblem", "ChainReport", "entry_hash", "verify_chain"]

_PAGE: Final = 1_000
_MAX_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """What is wrong at ``seq``."""

    seq: int
    problem: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """``entries`` were checked; the chain is whole when there are no ``problems`` (the first 100).

    ``head`` is where it ended before the reading, so that what was proved is never less; nothing where it cannot be read.
    """

    organization_id: str
    entries: int
    head: AuditHead
    problems: tuple[ChainProblem, ...] = ()


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256 over the canonical JSON (sorted names, no spaces, ASCII, UTC) of every other field, in hex."""
    values = {name: getattr(entry, name) for name in entry.__slots__ if name != "hash"}
    values["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


async def verify_chain(journal: Journal, organization_id: str) -> ChainReport:
    """Read a whole chain and find what was changed, taken out, put in, moved or cut off; it may grow and be pruned meanwhile."""
    while True:
        try:
            head = await journal.audit_head(organization_id)
            walk = _Walk(organization_id, head)
            await walk.read(journal)
            end = await journal.audit_head(organization_id)
        except StoreCorrupt:  # of a head: what an entry is, ``read`` has told
            problem = ChainProblem(0, "the recorded end of the chain cannot be read")
            return ChainReport(organization_id, 0, AuditHead(), (problem,))
        if (end.pruned_seq, end.pruned_hash) == (head.pruned_seq, head.pruned_hash):
            return walk.report(end)


class _Walk:
    """One reading of a chain, from what was pruned of it to its end."""

    def __init__(self, organization_id: str, head: AuditHead) -> None:
        self._organization_id = organization_id
        self._head = head
        self._seq, self._hash = head.pruned_seq, head.pruned_hash
        self._entries = 0
        self._is_readable = True
        self._problems: list[ChainProblem] = []

    async def read(self, journal: Journal) -> None:
        after: str | None = ""
        while after is not None and len(self._problems) < _MAX_PROBLEMS:
            try:
                page = await journal.list_audit(self._organization_id, after=after, limit=_PAGE)
            except StoreCorrupt:
                self._found(self._seq + 1, "an entry from here on cannot be read")
                self._is_readable = False
                return
            for entry in page.items:
                self._take(entry)
            after = page.next_after

    def _take(self, entry: AuditEntry) -> None:
        self._entries += 1
        if entry_hash(entry) != entry.hash:
            self._found(entry.seq, "the entry was changed")
        if entry.seq > self._seq + 1:
            self._found(
                self._seq + 1, "the entry is missing" + (f", up to {entry.seq - 1}" * (entry.seq > self._seq + 2))
            )
        elif entry.seq <= self._seq:
            self._found(entry.seq, "the entry stands in the wrong place, or twice")
        elif entry.previous_hash != self._hash:
            self._found(entry.seq, "the entry does not follow the one before it")
        if entry.seq == self._head.seq and entry.hash != self._head.hash:
            self._found(entry.seq, "the entry is not the one that was written last")
        self._seq, self._hash = entry.seq, entry.hash

    def report(self, end: AuditHead) -> ChainReport:
        """``end`` is the head after the reading: the chain may have grown, but not beyond it, nor ended before."""
        if not self._is_readable:
            pass  # nobody can say where it ends
        elif self._seq < self._head.seq:
            self._found(self._seq + 1, f"the chain is cut off: it ended at {self._head.seq}")
        elif self._seq > end.seq:
            self._found(end.seq + 1, "the chain goes on beyond its recorded end")
        elif self._seq == end.seq and self._hash != end.hash:
            self._found(self._seq, "the entry is not the one that was written last")
        return ChainReport(self._organization_id, self._entries, self._head, tuple(self._problems[:_MAX_PROBLEMS]))

    def _found(self, seq: int, problem: str) -> None:
        item = ChainProblem(seq, problem)
        if item not in self._problems[-4:]:
            self._problems.append(item)
