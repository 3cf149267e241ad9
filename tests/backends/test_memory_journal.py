"""What is special about the journal in memory; the contract suite holds it to everything else."""

from __future__ import annotations

import pytest

from backends.errors import StoreClosed
from backends.journal import Claim
from backends.memory_journal import MemoryJournal
from tests.support.clock import START
from tests.support.keys import in_seconds, make_entry


async def test_alone_it_is_always_open() -> None:
    """For a store that has no place for a journal of its own."""
    journal = MemoryJournal()
    await journal.append_audit(make_entry())
    assert (await journal.list_audit("acme")).items == (make_entry(),)


async def test_with_a_store_it_is_open_when_that_is() -> None:
    """And forgets nothing while it is closed."""
    is_open = True
    journal = MemoryJournal(lambda: is_open)
    await journal.claim("name", "first", now=START, until=in_seconds(60))
    is_open = False
    with pytest.raises(StoreClosed):
        await journal.claim("name", "second", now=START, until=in_seconds(60))
    is_open = True
    assert await journal.claim("name", "third", now=START, until=in_seconds(60)) == Claim("first", None)


async def test_two_journals_share_nothing() -> None:
    """Each is a world of its own."""
    one, other = MemoryJournal(), MemoryJournal()
    await one.append_audit(make_entry())
    assert await other.audit_chains() == ()


def test_no_call_waits() -> None:
    """Which is what makes each write atomic: driven by hand, a call ends at its first step."""
    journal = MemoryJournal()
    for call in (journal.append_audit(make_entry()), journal.prune(now=START), journal.audit_head("acme")):
        with pytest.raises(StopIteration):
            call.send(None)


async def test_a_chain_is_known_by_its_head_or_by_its_entries() -> None:
    """So that one whose head somebody took away is still told."""
    journal = MemoryJournal()
    await journal.append_audit(make_entry(organization_id="acme"))
    await journal.append_audit(make_entry(organization_id="other"))
    del journal._heads["acme"]
    journal._audit["other"].clear()
    assert await journal.audit_chains() == ("acme", "other")
