"""The audit chain: whatever is changed, taken out, put in, moved or cut off is found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import StoreCorrupt
from backends.journal import NO_HASH, AuditEntry, AuditHead
from backends.memory_journal import MemoryJournal
from service.manage.audit import AuditTrail
from service.manage.chain import entry_hash, verify_chain
from tests.support.clock import FakeClock
from tests.support.keys import in_seconds, make_entry
from tests.unit.manage.world import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.manage.world import World

LENGTH = 30


async def make_chain(length: int = LENGTH, organization_id: str = "acme") -> MemoryJournal:
    """As the service writes it, an entry a second."""
    journal, clock = MemoryJournal(), FakeClock()
    trail = AuditTrail(journal, clock=clock)
    for number in range(length):
        await trail.record(
            OPERATOR,
            organization_id=organization_id,
            action="key.updated",
            target=f"key:key_{number}",
            before={"name": "before"},
            after={"name": f"after {number}"},
        )
        clock.advance(1)
    return journal


async def problems_of(journal: MemoryJournal) -> list[str]:
    return [item.problem for item in (await verify_chain(journal, "acme")).problems]


@pytest.fixture(params=[0, 7], ids=["whole", "pruned"])
async def journal(request: pytest.FixtureRequest) -> MemoryJournal:
    """A chain of 30, once from its start and once with its first entries pruned."""
    journal = await make_chain(LENGTH + request.param)
    await journal.prune(now=in_seconds(0), audit_before=in_seconds(request.param))
    assert len(journal._audit["acme"]) == LENGTH
    return journal


def other(value: Any) -> list[Any]:
    """Values that a forger could put in the place of this one."""
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, str):
        return [value + "x", value[:-1]]
    return [value + timedelta(microseconds=1)]


async def test_a_chain_as_it_was_written_is_whole(journal: MemoryJournal) -> None:
    """All of it was looked at."""
    report = await verify_chain(journal, "acme")
    assert (report.problems, report.entries, report.organization_id) == ((), LENGTH, "acme")
    assert report.head.hash == journal._audit["acme"][-1].hash


async def test_any_single_change_of_any_field_is_found(journal: MemoryJournal) -> None:
    """In each of the entries."""
    entries = journal._audit["acme"]
    for index, entry in enumerate(entries):
        for field in AuditEntry.__slots__:
            for value in other(getattr(entry, field)):
                entries[index] = replace(entry, **{field: value})
                assert await problems_of(journal), (index, field)
        entries[index] = entry
    assert await problems_of(journal) == []


async def test_a_change_with_a_fitting_hash_is_found(journal: MemoryJournal) -> None:
    """The next entry, or the head, remembers the old one."""
    entries = journal._audit["acme"]
    for index, entry in enumerate(entries):
        forged = replace(entry, actor="key:key_innocent")
        entries[index] = replace(forged, hash=entry_hash(forged))
        assert await problems_of(journal), index
        entries[index] = entry


async def test_any_removal_is_found(journal: MemoryJournal) -> None:
    """The first and the last one included."""
    entries = journal._audit["acme"]
    for index in range(LENGTH):
        taken = entries.pop(index)
        assert await problems_of(journal), index
        entries.insert(index, taken)
    for count in range(1, LENGTH + 1):
        journal._audit["acme"] = entries[:-count]
        assert any("cut off" in problem for problem in await problems_of(journal)), count


async def test_any_swap_is_found(journal: MemoryJournal) -> None:
    """Of places, and of places with the numbers put right."""
    entries = journal._audit["acme"]
    for one, two in combinations(range(LENGTH), 2):
        first, second = entries[one], entries[two]
        entries[one], entries[two] = second, first
        assert await problems_of(journal), (one, two)
        entries[one], entries[two] = replace(second, seq=first.seq), replace(first, seq=second.seq)
        assert await problems_of(journal), (one, two)
        entries[one], entries[two] = first, second


async def test_any_insertion_is_found(journal: MemoryJournal) -> None:
    """A copy, an entry of somebody's own that fits the one before, and one beyond the end."""
    entries = journal._audit["acme"]
    for index in range(LENGTH):
        for inserted in (entries[index], _forged(entries[index])):
            entries.insert(index + 1, inserted)
            assert await problems_of(journal), index
            del entries[index + 1]


def _forged(before: AuditEntry) -> AuditEntry:
    entry = make_entry(before.seq + 1, previous_hash=before.hash)
    return replace(entry, hash=entry_hash(entry))


HEADS: dict[str, Callable[[AuditHead], AuditHead]] = {
    "shorter": lambda head: replace(head, seq=head.seq - 1),
    "longer": lambda head: replace(head, seq=head.seq + 1),
    "other hash": lambda head: replace(head, hash="0" * 63 + "1"),
    "pruned more": lambda head: replace(head, pruned_seq=head.pruned_seq + 1),
    "pruned otherwise": lambda head: replace(head, pruned_hash="1" * 64),
    "lost": lambda _: AuditHead(),
}


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_that_does_not_fit_is_found(name: str, journal: MemoryJournal) -> None:
    """It stands apart from the entries."""
    journal._heads["acme"] = HEADS[name](journal._heads["acme"])
    assert await problems_of(journal)


async def test_problems_say_where_and_what() -> None:
    """An entry that was changed is not also called missing."""
    journal = await make_chain(5)
    entries = journal._audit["acme"]
    entries[2] = replace(entries[2], client_ip="192.0.2.1")
    report = await verify_chain(journal, "acme")
    assert [(item.seq, item.problem) for item in report.problems] == [(3, "the entry was changed")]
    del entries[1:3]
    report = await verify_chain(journal, "acme")
    assert [(item.seq, item.problem) for item in report.problems] == [(2, "the entry is missing, up to 3")]
    del entries[2:]
    report = await verify_chain(journal, "acme")
    assert [(item.seq, item.problem) for item in report.problems] == [
        (2, "the entry is missing, up to 3"),
        (5, "the chain is cut off: it ended at 5"),
    ]


async def test_problems_stop_at_a_hundred() -> None:
    """A chain that somebody replaced is told as that."""
    journal = await make_chain(150)
    journal._audit["acme"] = [replace(entry, hash="0" * 64) for entry in journal._audit["acme"]]
    assert len((await verify_chain(journal, "acme")).problems) == 100


async def test_a_chain_longer_than_a_page_is_read_to_its_end() -> None:
    """And a gap between two pages is one."""
    journal = await make_chain(2_001)
    assert (await verify_chain(journal, "acme")).entries == 2_001
    del journal._audit["acme"][999]
    assert await problems_of(journal) == ["the entry is missing"]


async def test_an_empty_chain_is_whole() -> None:
    """Never begun, or pruned as a whole."""
    journal = await make_chain(3)
    assert (await verify_chain(journal, "nobody")).head.hash == NO_HASH
    await journal.prune(now=in_seconds(0), audit_before=in_seconds(60))
    report = await verify_chain(journal, "acme")
    assert (report.entries, report.problems) == (0, ())


@pytest.mark.parametrize("moment", ["list_audit", "audit_head"])
async def test_a_chain_that_grows_meanwhile_is_whole(moment: str, world: World) -> None:
    """What is appended before it is read, or after, is read too, or not; both are fine."""
    await world.key()

    async def grow() -> None:
        await world.key()

    async def grow_later() -> None:
        world.faults.before["audit_head"] = grow

    world.faults.before["list_audit"] = grow if moment == "list_audit" else grow_later
    report = await verify_chain(world.journal, "acme")
    assert (report.problems, report.entries) == ((), 2 if moment == "list_audit" else 1)
    assert report.head.seq == 1  # what stands behind it need not have been read
    assert len(await world.entries()) == 2


@pytest.mark.parametrize("moment", ["list_audit", "audit_head"])
async def test_a_forged_last_entry_is_found_while_the_chain_grows(moment: str, world: World) -> None:
    """Both the end before the reading and the end after it are held against the entries."""
    await world.key()

    async def forge() -> None:
        entries = world.journal._audit["acme"]
        forged = replace(entries[-1], actor="key:key_innocent")
        entries[-1] = replace(forged, hash=entry_hash(forged))

    async def grow_and_forge() -> None:
        await world.key()
        await forge()

    async def grow_later() -> None:
        world.faults.before["audit_head"] = world.key

    if moment == "audit_head":
        await forge()
    world.faults.before["list_audit"] = grow_and_forge if moment == "list_audit" else grow_later
    assert [item.problem for item in (await verify_chain(world.journal, "acme")).problems] == [
        "the entry is not the one that was written last"
    ]


async def test_a_chain_that_is_pruned_meanwhile_is_whole(world: World) -> None:
    """It is read again."""
    for _ in range(5):
        await world.key()
        world.clock.advance(1)
    prune = partial(world.journal.prune, now=in_seconds(0), audit_before=in_seconds(3))
    world.faults.before["list_audit"] = prune
    report = await verify_chain(world.journal, "acme")
    assert (report.entries, report.problems) == (2, ())


def test_a_hash_covers_every_other_field_and_the_moment_not_its_notation() -> None:
    """The form is the documented one, so that anybody can compute it."""
    entry = make_entry(3)
    values = {name: getattr(entry, name) for name in AuditEntry.__slots__ if name != "hash"}
    values["at"] = "2026-01-02T03:04:08.000000+00:00"
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert entry_hash(entry) == hashlib.sha256(text.encode()).hexdigest()
    elsewhere = entry.at.astimezone(timezone(timedelta(hours=5)))
    assert entry_hash(replace(entry, at=elsewhere, hash="")) == entry_hash(entry)
    assert entry.at.tzinfo is UTC


async def test_a_chain_without_its_head_is_found() -> None:
    """Whoever took it away hides nothing."""
    journal = await make_chain(3)
    journal._heads.clear()
    assert await journal.audit_chains() == ("acme",)
    assert await problems_of(journal) == ["the chain goes on beyond its recorded end"]


async def test_an_entry_that_cannot_be_read_is_told_where_the_rest_is_sound(world: World) -> None:
    """Where it begins; what is behind it, nobody can say."""
    trail = AuditTrail(world.journal, clock=world.clock)
    for number in range(1_001):
        await trail.record(OPERATOR, organization_id="acme", action="key.updated", target=f"key:key_{number}")

    async def corrupt() -> None:
        world.faults.errors["list_audit"] = StoreCorrupt("a time in the history is wrong")

    world.faults.after["list_audit"] = corrupt  # the second page
    report = await verify_chain(world.journal, "acme")
    assert [(item.seq, item.problem) for item in report.problems] == [(1_001, "an entry from here on cannot be read")]
    assert report.entries == 1_000
    report = await verify_chain(world.journal, "acme")
    assert [(item.seq, item.problem) for item in report.problems] == [(1, "an entry from here on cannot be read")]


async def test_a_head_that_cannot_be_read_is_a_problem_of_its_chain(world: World) -> None:
    """The others can still be verified."""
    world.faults.errors["audit_head"] = StoreCorrupt("a stored head of an audit chain cannot be decoded")
    report = await verify_chain(world.journal, "acme")
    assert [(item.seq, item.problem) for item in report.problems] == [
        (0, "the recorded end of the chain cannot be read")
    ]
