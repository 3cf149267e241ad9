"""Imports: nobody sees half of one, whoever dies in the middle leaves nothing, and the server is never held up for long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backends.errors import Conflict, NotFound, StoreUnavailable
from backends.records import FoundKey, KeyState
from backends.redis_import_scripts import BEGIN_IMPORT, COMMIT_IMPORT, STAGE
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.redis_kind import by_hand, kind_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from backends.records import KeyRecord
    from backends.redis import RedisKeyStore
    from tests.support.redis_kind import Hand

MANY = [make_key(f"k{number:04}", organization_id="more") for number in range(750)]
MORE = make_organization("more")


@pytest.fixture(params=["valkey", "redis"])
async def hand(request: pytest.FixtureRequest, require_all: bool) -> AsyncIterator[Hand]:  # noqa: FBT001 - a fixture
    """Beside a store with two keys."""
    async with by_hand(kind_named(request.param, require_all=require_all).server()) as hand:
        yield hand


async def listed(store: RedisKeyStore) -> list[str]:
    return [record.api_key for record in (await store.list_keys(limit=1_000)).items]


async def traces(hand: Hand) -> set[bytes]:
    """What stands under the prefix beside markers and lists."""
    return {name for name in hand.ask("KEYS", f"{hand.prefix}:*") if not name.endswith((b"}:epoch", b"}:disabled"))}


class Died(BaseException):
    """What ends a process in the middle of an import, and lets nothing clean up."""


async def die_in_the_middle(hand: Hand) -> None:
    """Leave an import half written, as a process that is killed does."""
    store = hand.another()
    await store.open()

    async def leave(import_id: str) -> None:
        assert import_id

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._imports, "_take_back", leave)

        def records() -> Iterator[KeyRecord]:
            yield from MANY[:600]
            raise Died

        with pytest.raises(Died):
            await store.add_many([MORE], records())
    await store.close()


async def test_nothing_of_an_import_is_seen_before_it_is_whole(hand: Hand) -> None:
    """By no way of looking, though most of it is written already; then all of it, at once."""
    seen: list[object] = []

    def records() -> Iterator[KeyRecord]:
        yield from MANY[:-1]
        written = hand.ask("EXISTS", *(hand.record(record.api_key) for record in MANY))
        seen.append(written)
        yield MANY[-1]

    async def look() -> tuple[object, ...]:
        store = hand.store
        found = await store.find(MANY[0].api_key)
        try:
            got: object = await store.get(MANY[0].key_id)
        except NotFound:
            got = None
        return found, got, await listed(store)

    importing = asyncio.ensure_future(hand.store.add_many([MORE], records()))
    nothing = (None, None, ["one", "two"])
    everything = (
        FoundKey(MANY[0], organization_is_active=True),
        MANY[0],
        [*(record.api_key for record in MANY), "one", "two"],
    )
    looks = []
    while not importing.done():
        looks.append(await look())
    assert await importing == len(MANY)
    assert seen == [700], "the import was not half written when it was looked at"
    assert await look() == everything
    assert nothing in looks
    # one look is three calls: an import may be finished between two of them
    for found, got, keys in looks:
        assert found in (None, everything[0])
        assert got in (None, everything[1])
        assert keys in (nothing[2], everything[2])


async def test_a_failed_import_leaves_nothing_at_all(hand: Hand) -> None:
    """No name more than before, whatever went wrong and wherever."""
    before = await traces(hand)
    broken = [*MANY, make_key("x", key_id="key_one", organization_id="more")]
    with pytest.raises(Conflict):
        await hand.store.add_many([MORE], broken)
    with pytest.raises(NotFound):
        await hand.store.add_many([MORE], [*MANY, make_key("x", organization_id="nobody")])

    def records() -> Iterator[KeyRecord]:
        yield from MANY
        raise LookupError("the file is broken here")

    with pytest.raises(LookupError):
        await hand.store.add_many([MORE], records())
    assert await traces(hand) == before
    assert hand.ask("GET", hand.own("disabled")) == b"[]"


async def test_an_import_that_was_never_finished_is_not_there_and_is_taken_back(hand: Hand) -> None:
    """Its records stay unseen for ever; the next import takes them away."""
    before = await traces(hand)
    await die_in_the_middle(hand)
    assert len(await traces(hand)) > len(before) + 500
    assert await hand.store.find(MANY[0].api_key) is None
    with pytest.raises(NotFound):
        await hand.store.get(MANY[0].key_id)
    assert await hand.store.delete(MANY[0].key_id) is False
    with pytest.raises(NotFound):
        await hand.store.set_state(MANY[0].key_id, KeyState.REVOKED, now=START)
    assert await listed(hand.store) == ["one", "two"]
    with pytest.raises(NotFound):
        await hand.store.get_organization("more")
    hand.ask("DEL", hand.own("import"))  # its time is over
    assert await hand.store.add_many([], []) == 0
    assert await traces(hand) == before
    assert hand.ask("GET", hand.own("disabled")) == b"[]"


async def test_a_key_of_an_unfinished_import_can_be_added(hand: Hand) -> None:
    """As soon as nobody works on that import any more."""
    await die_in_the_middle(hand)
    hand.ask("DEL", hand.own("import"))
    record = make_key(MANY[0].api_key, key_id="key_other")
    await hand.store.add(record)
    assert await hand.store.find(record.api_key) == FoundKey(record, organization_is_active=True)


async def test_pruning_takes_back_an_unfinished_import(hand: Hand) -> None:
    """Where nobody imports again."""
    await die_in_the_middle(hand)
    hand.ask("DEL", hand.own("import"))
    await hand.store.journal.prune(now=START)
    assert hand.ask("EXISTS", *(hand.record(record.api_key) for record in MANY)) == 0


async def test_one_import_writes_at_a_time(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one waits, but not for ever; so does an add of a key that the first one has."""
    await die_in_the_middle(hand)  # and nobody knows yet that it is dead
    monkeypatch.setattr("backends.redis_imports._PATIENCE", 0.2)
    monkeypatch.setattr("backends.redis_writes._WAITS", 3)
    with pytest.raises(StoreUnavailable, match="another import"):
        await hand.store.add_many([], [make_key("new")])
    with pytest.raises(StoreUnavailable, match="import under way"):
        await hand.store.add(make_key(MANY[0].api_key))
    await hand.store.add(make_key("new"))
    assert 0 < hand.ask("PTTL", hand.own("import")) <= 15_000


async def test_imports_at_once_are_made_one_after_the_other(hand: Hand) -> None:
    """Each key once, whoever brought it; the sum of what they report is what there is."""
    batches = [[make_key(f"k{number}") for number in range(start, start + 400)] for start in (0, 200, 400)]
    stores = [hand.another() for _ in batches]
    for store in stores:
        await store.open()
    counts = await asyncio.gather(*(store.add_many([], batch) for store, batch in zip(stores, batches, strict=True)))
    for store in stores:
        await store.close()
    assert sum(counts) == 800
    assert len(await listed(hand.store)) == 802


async def test_an_importer_that_slept_too_long_writes_nothing_more(hand: Hand) -> None:
    """Somebody has taken its beginning back meanwhile."""
    wire = hand.store._wire
    assert await wire.run(BEGIN_IMPORT, "00000000000000aa", 15_000) == [b"done"]
    hand.ask("DEL", hand.own("import"))  # its time is over
    assert await hand.store.add_many([], [make_key("other")]) == 1
    assert (await wire.run(STAGE, "00000000000000aa", 15_000))[0] == b"lost"
    assert (await wire.run(COMMIT_IMPORT, "00000000000000aa", 1))[0] == b"lost"
    assert await listed(hand.store) == ["one", "other", "two"]


async def test_a_lost_answer_to_the_last_step_takes_nothing_back(hand: Hand) -> None:
    """It was carried out: the records are there, and stay."""
    run = hand.store._wire.run

    async def lose_the_last(script: object, *arguments: object, **options: object) -> object:
        answer = await run(script, *arguments, **options)  # type: ignore[arg-type]  # passed on as they came
        if script is COMMIT_IMPORT:
            raise StoreUnavailable("the answer is lost")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hand.store._wire, "run", lose_the_last)
        with pytest.raises(StoreUnavailable):
            await hand.store.add_many([MORE], MANY)
    assert len(await listed(hand.store)) == len(MANY) + 2


async def test_no_step_of_an_import_holds_the_server_up(hand: Hand) -> None:
    """However many records come, one script writes 100 of them, or a megabyte."""
    sizes: list[int] = []
    run = hand.store._wire.run

    async def note(script: object, *arguments: object, **options: object) -> object:
        if script is STAGE:
            sizes.append((len(arguments) - 2) // 6)
        return await run(script, *arguments, **options)  # type: ignore[arg-type]  # passed on as they came

    large = [make_key(f"large-{number}", metadata='{"x":"' + "x" * 30_000 + '"}') for number in range(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hand.store._wire, "run", note)
        assert await hand.store.add_many([MORE], [*MANY, *large]) == len(MANY) + len(large)
    assert sizes[:7] == [100] * 7
    assert max(sizes[8:]) < 40
    assert sum(sizes) == len(MANY) + len(large)


async def test_an_import_with_a_disabled_organization_lets_nobody_pass(hand: Hand) -> None:
    """From its first moment."""
    await hand.store.add_many([make_organization("off", is_active=False)], [make_key("k", organization_id="off")])
    found = await hand.store.find("k")
    assert found is not None
    assert not found.organization_is_active
