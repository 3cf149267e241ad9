"""The journal as a part of its store: shared by processes, as lasting as the keys, and silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.journal import Claim, HourCount, LastUse, UsageCount
from tests.support.clock import START
from tests.support.keys import in_seconds, make_entry, make_key
from tests.support.recorder import watching

if TYPE_CHECKING:
    from backends.contract import KeyStore
    from backends.journal import Journal
    from tests.support.stores import StoreUnderTest

SOON = in_seconds(60)


async def write_everything(journal: Journal) -> None:
    """Every write that a journal has, so that something is there afterwards."""
    await journal.add_usage([UsageCount(key_id="key_one", hour=START, count=2, last_used_at=START)])
    for seq in (1, 2):
        await journal.append_audit(make_entry(seq))
    for name in ("name", "given-up", "over"):
        await journal.claim(name, "fingerprint", now=START, until=SOON)
    await journal.settle("name", "answer", until=SOON)
    await journal.settle("over", "answer", until=START)
    await journal.release("given-up")
    await journal.prune(now=START, usage_before=START, audit_before=in_seconds(2))


async def assert_everything_is_there(journal: Journal) -> None:
    assert await journal.usage("key_one", since=START, until=SOON) == (HourCount(START, 2),)
    assert dict(await journal.last_use(["key_one"])) == {"key_one": LastUse(START)}
    assert (await journal.list_audit("acme")).items == (make_entry(2),)
    head = await journal.audit_head("acme")
    assert (head.seq, head.pruned_seq) == (2, 1)
    assert await journal.audit_chains() == ("acme",)
    assert await journal.claim("name", "other", now=START, until=SOON) == Claim("fingerprint", "answer")


async def test_what_was_written_is_there_after_opening_again(store: KeyStore) -> None:
    """It opens and closes with its store."""
    await write_everything(store.journal)
    await store.close()
    await store.open()
    await assert_everything_is_there(store.journal)


async def test_what_was_written_is_there_for_another_process(under_test: StoreUnderTest, store: KeyStore) -> None:
    """Which has its own store object."""
    other = under_test.another()
    await other.open()
    await write_everything(store.journal)
    await assert_everything_is_there(other.journal)
    await other.close()


async def test_nothing_of_it_is_announced(store: KeyStore) -> None:
    """Else its flushes would empty every cache for ever."""
    await store.add(make_key("one"))
    async with watching(store) as recorder:
        await write_everything(store.journal)
        assert await recorder.changes(store) == set()


async def test_nothing_of_it_changes_a_key(store: KeyStore) -> None:
    """Neither what is found nor the version that a change must name."""
    await store.add(make_key("one"))
    await write_everything(store.journal)
    assert (await store.list_keys()).items == (make_key("one"),)
    assert (await store.replace(make_key("one", name="renamed"), expected_version=1)).version == 2


async def test_a_deleted_key_leaves_its_trail(store: KeyStore) -> None:
    """Who deleted it is asked afterwards."""
    await store.add(make_key("one"))
    await write_everything(store.journal)
    await store.delete("key_one")
    assert (await store.journal.list_audit("acme")).items == (make_entry(2),)


async def test_the_back_door_shows_it(under_test: StoreUnderTest, store: KeyStore) -> None:
    """Otherwise the search for secrets would not look there."""
    await store.journal.append_audit(make_entry(after='{"name":"told-in-the-trail"}'))
    await store.journal.claim("told-as-a-name", "told-as-a-fingerprint", now=START, until=SOON)
    await store.journal.settle("told-as-a-name", "told-as-an-answer", until=SOON)
    used = UsageCount(key_id="key_told-as-used", hour=START, count=1, last_used_at=START)
    await store.journal.add_usage([used])
    stored = await under_test.stored()
    for text in (b"told-in-the-trail", b"told-as-a-fingerprint", b"told-as-an-answer", b"key_told-as-used"):
        assert text in stored
