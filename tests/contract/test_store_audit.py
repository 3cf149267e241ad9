"""The audit trail: one chain for each organization, to whose end exactly one of many writers comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import Conflict
from backends.journal import NO_HASH, AuditEntry, AuditHead
from tests.support.clock import START
from tests.support.keys import entry_hash, in_seconds, make_entry

if TYPE_CHECKING:
    from backends.contract import KeyStore

WRITERS = 20


async def append(store: KeyStore, count: int, *, organization_id: str = "acme") -> list[AuditEntry]:
    entries = [make_entry(seq, organization_id=organization_id) for seq in range(1, count + 1)]
    for entry in entries:
        await store.journal.append_audit(entry)
    return entries


async def pages(
    store: KeyStore, *, limit: int, newest_first: bool = False, organization_id: str = "acme"
) -> list[list[int]]:
    found: list[list[int]] = []
    after: str | None = ""
    while after is not None:
        page = await store.journal.list_audit(organization_id, after=after, limit=limit, newest_first=newest_first)
        found.append([entry.seq for entry in page.items])
        after = page.next_after
    return found


async def verified(store: KeyStore, organization_id: str = "acme") -> int:
    """How many entries there are, after checking that they link from what was pruned to the head."""
    head = await store.journal.audit_head(organization_id)
    seq, previous = head.pruned_seq, head.pruned_hash
    after: str | None = ""
    count = 0
    while after is not None:
        page = await store.journal.list_audit(organization_id, after=after, limit=7)
        for entry in page.items:
            assert (entry.seq, entry.previous_hash) == (seq + 1, previous)
            seq, previous = entry.seq, entry.hash
            count += 1
        after = page.next_after
    assert (head.seq, head.hash) == (seq, previous)
    return count


async def test_a_chain_that_nobody_began_is_empty(store: KeyStore) -> None:
    """Its head says so."""
    assert await store.journal.audit_head("acme") == AuditHead(0, NO_HASH, 0, NO_HASH)
    assert await pages(store, limit=10) == [[]]
    assert await store.journal.audit_chains() == ()


ODD: dict[str, Any] = {
    "actor": "command:Zoë\u202e 'Q' \\ \"; DROP TABLE audit;--",
    "actor_organization_id": "g" * 63,
    "action": "key.rotated",
    "target": "import:" + "ab" * 32,
    "client_ip": "2001:db8::ffff:192.0.2.1",
    "request_id": "r" * 128,
    "before": '{"name":"' + "é" * 10_000 + '","scopes":["a","b"]}',
    "after": '{ "b": 1,  "a": 1.50, "key": "\\u0000\\ud83d\\udc1d" }',
    "at": in_seconds(0.000001),
}


async def test_an_entry_comes_back_to_the_last_character(store: KeyStore) -> None:
    """Its hash covers every one of them: JSON keeps its spaces, its order and its way of writing numbers."""
    entry = make_entry(**ODD)
    assert {field.name for field in fields(AuditEntry)} - {*ODD} == {"organization_id", "seq", "previous_hash", "hash"}
    await store.journal.append_audit(entry)
    (found,) = (await store.journal.list_audit("acme")).items
    assert found == entry
    assert found.at.isoformat() == entry.at.isoformat()


async def test_an_entry_with_empty_texts_comes_back(store: KeyStore) -> None:
    """A command has neither address nor request."""
    entry = make_entry(client_ip="", request_id="", before="", after="", actor="", target="", actor_organization_id="")
    await store.journal.append_audit(entry)
    assert (await store.journal.list_audit("acme")).items == (entry,)


async def test_an_entry_goes_to_the_end_and_moves_the_head(store: KeyStore) -> None:
    """Both in one step."""
    for seq in range(1, 4):
        await store.journal.append_audit(make_entry(seq))
        assert await store.journal.audit_head("acme") == AuditHead(seq, entry_hash("acme", seq), 0, NO_HASH)
    assert await verified(store) == 3


@pytest.mark.parametrize(
    "entry",
    [
        make_entry(2),
        make_entry(4, previous_hash=entry_hash("acme", 2)),
        make_entry(4),
        make_entry(3, previous_hash=entry_hash("acme", 1)),
        make_entry(3, previous_hash=NO_HASH),
        make_entry(1),
        make_entry(3, previous_hash=entry_hash("other", 2)),
    ],
    ids=["again", "with a gap", "one too far", "another hash", "no hash", "from the start", "of another chain"],
)
async def test_an_entry_that_does_not_continue_the_head_is_refused(store: KeyStore, entry: AuditEntry) -> None:
    """Somebody else was first; nothing is written."""
    entries = await append(store, 2)
    with pytest.raises(Conflict):
        await store.journal.append_audit(entry)
    assert (await store.journal.list_audit("acme")).items == tuple(entries)
    assert (await store.journal.audit_head("acme")).seq == 2
    await store.journal.append_audit(make_entry(3))


@pytest.mark.parametrize(
    "entry",
    [make_entry(0), make_entry(2, previous_hash=NO_HASH), make_entry(1, previous_hash="1" * 64)],
    ids=["zero", "two", "after something"],
)
async def test_a_chain_begins_with_one_after_nothing(store: KeyStore, entry: AuditEntry) -> None:
    """Which is where a verification begins."""
    with pytest.raises(Conflict):
        await store.journal.append_audit(entry)
    assert await store.journal.audit_chains() == ()


@pytest.mark.parametrize("length", [0, 3])
async def test_one_of_many_that_append_at_once_wins(store: KeyStore, length: int) -> None:
    """The others are told, and nothing of theirs is kept."""
    await append(store, length)
    contenders = [make_entry(length + 1, action=f"by.{number}") for number in range(WRITERS)]
    results = await asyncio.gather(*(store.journal.append_audit(entry) for entry in contenders), return_exceptions=True)
    assert Counter(type(result) for result in results) == {type(None): 1, Conflict: WRITERS - 1}
    last = (await store.journal.list_audit("acme", newest_first=True, limit=1)).items[0]
    assert last == contenders[results.index(None)]
    assert await verified(store) == length + 1


async def test_writers_that_try_again_all_come_in(store: KeyStore) -> None:
    """As the service does it: read the head, append, and once more when somebody was first."""

    async def write(number: int) -> None:
        while True:
            head = await store.journal.audit_head("acme")
            entry = make_entry(head.seq + 1, previous_hash=head.hash, action=f"by.{number}")
            try:
                await store.journal.append_audit(entry)
            except Conflict:
                continue
            return

    async with asyncio.timeout(60):
        await asyncio.gather(*(write(number) for number in range(8)))
    entries = (await store.journal.list_audit("acme")).items
    assert {entry.action for entry in entries} == {f"by.{number}" for number in range(8)}
    assert await verified(store) == 8


@pytest.mark.parametrize("limit", [1, 2, 6, 11, 12, 13])
async def test_entries_are_listed_by_number_in_both_directions(store: KeyStore, limit: int) -> None:
    """The tenth comes after the ninth, not after the first; also where the last page is exactly full."""
    await append(store, 12)
    expected = [list(range(1, 13))[start : start + limit] for start in range(0, 12, limit)]
    assert await pages(store, limit=limit) == expected
    newest = list(range(12, 0, -1))
    expected = [newest[start : start + limit] for start in range(0, 12, limit)]
    assert await pages(store, limit=limit, newest_first=True) == expected


async def test_a_cursor_is_a_number_beyond_which_entries_are(store: KeyStore) -> None:
    """In either direction; beyond the end there is nothing."""
    await append(store, 5)
    journal = store.journal
    assert [entry.seq for entry in (await journal.list_audit("acme", after="3")).items] == [4, 5]
    assert [entry.seq for entry in (await journal.list_audit("acme", after="3", newest_first=True)).items] == [2, 1]
    assert (await journal.list_audit("acme", after="5")).items == ()
    assert (await journal.list_audit("acme", after="1", newest_first=True)).items == ()
    assert len((await journal.list_audit("acme", after="0")).items) == 5
    assert len((await journal.list_audit("acme", after="99", newest_first=True)).items) == 5


@pytest.mark.parametrize("limit", [-1, 0, 1001])
async def test_a_limit_out_of_range_is_a_mistake(store: KeyStore, limit: int) -> None:
    """As in every listing."""
    with pytest.raises(ValueError, match="limit"):
        await store.journal.list_audit("acme", limit=limit)


async def test_chains_know_nothing_of_each_other(store: KeyStore) -> None:
    """Also those of organizations that have no record, or names that begin alike."""
    await append(store, 3)
    await append(store, 1, organization_id="acme-2")
    await append(store, 2, organization_id="0-without-a-record")
    assert await store.journal.audit_chains() == ("0-without-a-record", "acme", "acme-2")
    assert [await verified(store, name) for name in ("acme", "acme-2", "0-without-a-record")] == [3, 1, 2]


async def test_a_chain_is_pruned_from_its_start_and_stays_verifiable(store: KeyStore) -> None:
    """The head keeps where the rest begins; the chain goes on."""
    await append(store, 10)
    assert await store.journal.prune(now=START, audit_before=in_seconds(4)) == 3  # entry n is of second n
    head = await store.journal.audit_head("acme")
    assert head == AuditHead(10, entry_hash("acme", 10), 3, entry_hash("acme", 3))
    assert await pages(store, limit=4) == [[4, 5, 6, 7], [8, 9, 10]]
    assert await pages(store, limit=4, newest_first=True) == [[10, 9, 8, 7], [6, 5, 4]]
    assert [entry.seq for entry in (await store.journal.list_audit("acme", after="1", limit=1)).items] == [4]
    await store.journal.append_audit(make_entry(11))
    assert await verified(store) == 8
    assert await store.journal.prune(now=START, audit_before=in_seconds(4)) == 0


async def test_a_chain_that_was_pruned_whole_goes_on(store: KeyStore) -> None:
    """Its number and hash are remembered, and it is still a chain."""
    await append(store, 3)
    await append(store, 2, organization_id="other")
    assert await store.journal.prune(now=START, audit_before=in_seconds(99)) == 5
    assert await store.journal.audit_head("acme") == AuditHead(3, entry_hash("acme", 3), 3, entry_hash("acme", 3))
    assert await pages(store, limit=10) == [[]]
    assert await store.journal.audit_chains() == ("acme", "other")
    with pytest.raises(Conflict):
        await store.journal.append_audit(make_entry(1))
    await store.journal.append_audit(make_entry(4))
    assert await verified(store) == 1


async def test_pruning_leaves_no_gap_where_clocks_disagreed(store: KeyStore) -> None:
    """An old entry behind one that stays, stays too."""
    for seq, at in enumerate((1, 9, 2, 3, 9), start=1):
        await store.journal.append_audit(make_entry(seq, at=in_seconds(at)))
    assert await store.journal.prune(now=START, audit_before=in_seconds(5)) == 1
    assert await pages(store, limit=10) == [[2, 3, 4, 5]]
    assert await verified(store) == 4


async def test_pruning_and_appending_at_once_keep_the_chain(store: KeyStore) -> None:
    """Whoever comes first."""
    await append(store, 30)

    async def grow() -> None:
        for seq in range(31, 51):
            await store.journal.append_audit(make_entry(seq))

    async def shrink() -> int:
        return sum([await store.journal.prune(now=START, audit_before=in_seconds(at)) for at in range(2, 40, 2)])

    _, *pruned = await asyncio.gather(grow(), shrink(), shrink())
    assert sum(pruned) == 37
    assert await verified(store) == 13
