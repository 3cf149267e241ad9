"""Claims of idempotent requests: of many that come at once one is done, and the others get its answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from backends.journal import Claim
from tests.support.clock import START
from tests.support.keys import in_seconds

if TYPE_CHECKING:
    from backends.contract import KeyStore

SOON = in_seconds(60)
CALLERS = 20


async def test_whoever_claims_first_has_it(store: KeyStore) -> None:
    """Whoever comes later is told whose it is; another name is free."""
    journal = store.journal
    assert await journal.claim("name", "first", now=START, until=SOON) is None
    assert await journal.claim("name", "second", now=START, until=SOON) == Claim("first", None)
    assert await journal.claim("name", "first", now=START, until=SOON) == Claim("first", None)
    assert await journal.claim("Name", "second", now=START, until=SOON) is None


@pytest.mark.parametrize("left_over", [False, True])
async def test_exactly_one_of_many_claims_wins(store: KeyStore, left_over: bool) -> None:  # noqa: FBT001 - a parameter
    """Also where a claim that is over lies about."""
    if left_over:
        await store.journal.claim("name", "old", now=in_seconds(-100), until=in_seconds(-1))
    calls = [store.journal.claim("name", f"by-{number}", now=START, until=SOON) for number in range(CALLERS)]
    results = await asyncio.gather(*calls)
    winner = results.index(None)
    assert Counter(results) == {None: 1, Claim(f"by-{winner}", None): CALLERS - 1}


@pytest.mark.parametrize(("now", "is_over"), [(59.999999, False), (60, True), (61, True)])
async def test_a_claim_ends_at_its_very_time(store: KeyStore, now: float, is_over: bool) -> None:  # noqa: FBT001 - a parameter
    """By the caller's clock, whatever the store's says."""
    await store.journal.claim("name", "first", now=START, until=SOON)
    held = await store.journal.claim("name", "second", now=in_seconds(now), until=in_seconds(120))
    assert held == (None if is_over else Claim("first", None))
    expected = Claim("second" if is_over else "first", None)
    assert await store.journal.claim("name", "third", now=in_seconds(0), until=SOON) == expected


async def test_an_answer_is_kept_for_whoever_asks_again(store: KeyStore) -> None:
    """Until its own time, to the last character."""
    answer = '{"status":201,"body":"Zoë 鍵 \\u0000 ' + "x" * 70_000 + '"}'
    await store.journal.claim("name", "first", now=START, until=SOON)
    await store.journal.settle("name", answer, until=in_seconds(86_400))
    for now in (0, 60, 86_399.999999):
        held = await store.journal.claim("name", "again", now=in_seconds(now), until=in_seconds(99_999))
        assert held == Claim("first", answer)
    assert await store.journal.claim("name", "new", now=in_seconds(86_400), until=in_seconds(99_999)) is None
    held = await store.journal.claim("name", "again", now=in_seconds(86_401), until=in_seconds(99_999))
    assert held == Claim("new", None)


async def test_an_empty_answer_is_an_answer(store: KeyStore) -> None:
    """And not a request that is under way."""
    await store.journal.claim("name", "first", now=START, until=SOON)
    await store.journal.settle("name", "", until=SOON)
    assert await store.journal.claim("name", "again", now=START, until=SOON) == Claim("first", "")


async def test_a_claim_that_was_given_up_is_free(store: KeyStore) -> None:
    """The request failed, so it may be made again."""
    await store.journal.claim("name", "first", now=START, until=SOON)
    await store.journal.claim("other", "first", now=START, until=SOON)
    await store.journal.release("name")
    assert await store.journal.claim("name", "second", now=START, until=SOON) is None
    assert await store.journal.claim("other", "second", now=START, until=SOON) == Claim("first", None)


async def test_what_nobody_claimed_is_neither_settled_nor_released(store: KeyStore) -> None:
    """No answer appears out of nothing."""
    await store.journal.settle("name", "answer", until=SOON)
    await store.journal.release("name")
    assert await store.journal.claim("name", "first", now=START, until=SOON) is None
    assert await store.journal.claim("name", "second", now=START, until=SOON) == Claim("first", None)


@pytest.mark.parametrize("name", ["*", "a:b", "{tag}", "'; DROP TABLE claims;--", "n" * 512, "Zoë 鍵", "%", "a b"])
async def test_a_name_means_nothing_but_itself(store: KeyStore, name: str) -> None:
    """Clients choose them."""
    assert await store.journal.claim(name, "fingerprint", now=START, until=SOON) is None
    assert await store.journal.claim("another", "fingerprint", now=START, until=SOON) is None
    assert await store.journal.claim(name, "other", now=START, until=SOON) == Claim("fingerprint", None)


async def test_claims_that_are_over_are_pruned(store: KeyStore) -> None:
    """Settled or not; the others stay."""
    journal = store.journal
    for number in range(6):
        await journal.claim(f"n{number}", "f", now=START, until=in_seconds(number))
    await journal.settle("n1", "kept for longer", until=in_seconds(99))
    await journal.settle("n5", "kept for less", until=in_seconds(1))
    assert await journal.prune(now=in_seconds(3)) == 4  # n0, n2, n3 and n5
    assert await journal.prune(now=in_seconds(3)) == 0
    assert await journal.claim("n1", "x", now=in_seconds(3), until=SOON) == Claim("f", "kept for longer")
    assert await journal.claim("n4", "x", now=in_seconds(3), until=SOON) == Claim("f", None)
