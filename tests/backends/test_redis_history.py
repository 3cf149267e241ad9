"""What is kept beside the keys in Redis: nonsense in it is told as such, and by no other exception."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreCorrupt
from backends.records import KeyFilter
from tests.support.clock import START
from tests.support.keys import in_seconds, make_entry

if TYPE_CHECKING:
    from tests.support.redis_kind import Hand

ENTRY = {name: getattr(make_entry(), name) for name in type(make_entry()).__slots__} | {"at": START.isoformat()}


@pytest.mark.parametrize(
    "value",
    [
        "telltale ",
        "99999999999999999999 ",
        "1 99999999999999999999",
        "-99999999999999999999 ",
        f"{'9' * 5_000} ",
        "1 telltale",
    ],
    ids=lambda value: value[:24],
)
async def test_a_last_use_that_a_hand_has_broken_is_corrupt(hand: Hand, value: str) -> None:
    """Also where a listing looks at it; the message repeats nothing."""
    hand.ask("HSET", hand.own("last_use"), "key_one", value)
    for call in (
        lambda: hand.store.journal.last_use(["key_one"]),
        lambda: hand.store.list_keys(where=KeyFilter(last_used_before=START)),
    ):
        with pytest.raises(StoreCorrupt) as caught:
            await call()
        assert "99" not in str(caught.value)
        assert "telltale" not in str(caught.value)


@pytest.mark.parametrize(("hour", "count"), [("99999999999999", "1"), ("telltale", "1"), ("1", "telltale")])
async def test_a_count_that_a_hand_has_broken_is_corrupt(hand: Hand, hour: str, count: str) -> None:
    """Its hour may be in no calendar."""
    hand.ask("HSET", hand.own("usage:key_one"), hour, count)
    with pytest.raises(StoreCorrupt):
        await hand.store.journal.usage("key_one", since=START, until=in_seconds(3600))


BROKEN: dict[str, str] = {
    "no JSON": "{",
    "no object": "[]",
    "too deep": "[" * 100_000,
    "without a time": json.dumps({**ENTRY, "at": None}),
    "without a zone": json.dumps({**ENTRY, "at": "2026-01-01T00:00:00"}),
    "before the calendar": json.dumps({**ENTRY, "at": "0001-01-01T00:00:00+05:00"}),
    "after the calendar": json.dumps({**ENTRY, "at": "9999-12-31T23:59:59-05:00"}),
    "without an actor": json.dumps({name: value for name, value in ENTRY.items() if name != "actor"}),
    "a number that is text": json.dumps({**ENTRY, "seq": "1"}),
}


@pytest.mark.parametrize("entry", BROKEN.values(), ids=BROKEN)
async def test_an_audit_entry_that_a_hand_has_broken_is_corrupt(hand: Hand, entry: str) -> None:
    """It is no entry, and no chain goes on over it."""
    hand.ask("XADD", hand.own("audit:acme"), "1-0", "entry", entry)
    with pytest.raises(StoreCorrupt):
        await hand.store.journal.list_audit("acme")


@pytest.mark.parametrize(
    "head", ["{", "[]", "[1e999,2,3,4]", '["x","","0",""]', "[" * 100_000], ids=lambda head: head[:20]
)
async def test_a_head_that_a_hand_has_broken_is_corrupt(hand: Hand, head: str) -> None:
    """Where the chain ends is not known then."""
    hand.ask("HSET", hand.own("audit"), "acme", head)
    with pytest.raises(StoreCorrupt):
        await hand.store.journal.audit_head("acme")
