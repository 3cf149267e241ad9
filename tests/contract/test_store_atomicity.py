"""Many callers at once, and callers that leave: every write happens whole or not at all, and exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backends.errors import Conflict, StoreUnavailable, VersionConflict
from backends.records import FoundKey, KeyState
from tests.support.clock import START
from tests.support.keys import in_seconds, make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backends.contract import KeyStore

CALLERS = 20


async def outcomes(calls: list[Awaitable[object]]) -> Counter[object]:
    """How often each result or type of error came."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    return Counter(type(result) if isinstance(result, BaseException) else result for result in results)


# -- one winner -----------------------------------------------------------------------------------------------------------


async def test_one_of_many_adds_of_the_same_api_key_wins(store: KeyStore) -> None:
    """The others are told, and leave nothing behind."""
    calls = [store.add(make_key("one", key_id=f"key_{number:02}")) for number in range(CALLERS)]
    assert await outcomes(list(calls)) == {None: 1, Conflict: CALLERS - 1}
    found = await store.find("one")
    assert found is not None
    assert (await store.list_keys()).items == (found.key,)


async def test_one_of_many_adds_of_the_same_key_id_wins(store: KeyStore) -> None:
    """No handle leads to a key that lost."""
    calls = [store.add(make_key(f"handle-{number}", key_id="key_one")) for number in range(CALLERS)]
    assert await outcomes(list(calls)) == {None: 1, Conflict: CALLERS - 1}
    found = [await store.find(f"handle-{number}") for number in range(CALLERS)]
    assert [item for item in found if item] == [FoundKey(await store.get("key_one"), organization_is_active=True)]


async def test_one_of_many_organizations_of_the_same_name_wins(store: KeyStore) -> None:
    """Organizations are unique as keys are."""
    calls = [store.add_organization(make_organization("new", name=str(number))) for number in range(CALLERS)]
    assert await outcomes(list(calls)) == {None: 1, Conflict: CALLERS - 1}


async def test_one_of_many_revocations_is_the_one(store: KeyStore) -> None:
    """So that it is recorded once."""
    await store.add(make_key("one"))
    calls = [store.set_state("key_one", KeyState.REVOKED, now=in_seconds(1)) for _ in range(CALLERS)]
    assert await outcomes(list(calls)) == {True: 1, False: CALLERS - 1}
    assert (await store.get("key_one")).version == 2


async def test_one_of_many_deletions_is_the_one(store: KeyStore) -> None:
    """Likewise."""
    await store.add(make_key("one"))
    assert await outcomes([store.delete("key_one") for _ in range(CALLERS)]) == {True: 1, False: CALLERS - 1}


async def test_one_of_many_replacements_of_the_same_version_wins(store: KeyStore) -> None:
    """Nobody's change is overwritten unseen."""
    await store.add(make_key("one"))
    calls = [store.replace(make_key("one", name=f"by-{number}"), expected_version=1) for number in range(CALLERS)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    winners = [result for result in results if not isinstance(result, BaseException)]
    assert winners == [await store.get("key_one")]
    assert {type(result) for result in results if isinstance(result, BaseException)} == {VersionConflict}


async def test_a_revocation_survives_whatever_happens_at_the_same_time(store: KeyStore) -> None:
    """Switches and replacements that come after it are refused, those before it are overruled."""
    await store.add(make_key("one"))

    async def revoke() -> None:
        while True:
            with suppress(StoreUnavailable):  # a busy machine has no connection free in time
                await store.set_state("key_one", KeyState.REVOKED, now=START)
                return

    calls: list[Awaitable[object]] = []
    for number in range(CALLERS):
        calls.append(store.set_state("key_one", KeyState.DISABLED, now=START))
        calls.append(store.set_state("key_one", KeyState.ACTIVE, now=START))
        calls.append(store.replace(make_key("one", name=f"by-{number}"), expected_version=number + 1))
        if number == CALLERS // 2:
            calls.append(revoke())
    await asyncio.gather(*calls, return_exceptions=True)
    assert (await store.get("key_one")).state is KeyState.REVOKED


async def test_an_import_and_an_add_of_the_same_key_leave_one(store: KeyStore) -> None:
    """Whoever is first."""
    record = make_key("one")
    imports = [store.add_many([], [record, make_key(f"other-{number}")]) for number in range(5)]
    await outcomes([*imports, store.add(record)])
    assert [item.key_id for item in (await store.list_keys()).items].count("key_one") == 1


# -- never half a record --------------------------------------------------------------------------------------------------


async def test_a_look_up_never_sees_half_a_switch(store: KeyStore) -> None:
    """State, time and version of a record belong together at every moment."""
    first = make_key("one")
    await store.add(first)
    done = asyncio.Event()

    async def switch() -> None:
        for version in range(2, 42):
            state = KeyState.ACTIVE if version % 2 else KeyState.DISABLED
            await store.set_state("key_one", state, now=in_seconds(version))
            await asyncio.sleep(0)
        done.set()

    async def look() -> set[int]:
        seen = set()
        while not done.is_set():
            found = await store.find("one")
            assert found is not None
            version = found.key.version
            state = KeyState.ACTIVE if version % 2 else KeyState.DISABLED
            updated_at = START if version == 1 else in_seconds(version)
            assert found.key == replace(first, state=state, updated_at=updated_at, version=version)
            seen.add(version)
            await asyncio.sleep(0)
        return seen

    *seen, _ = await asyncio.gather(look(), look(), switch())
    assert all(len(versions or ()) > 1 for versions in seen), "the look-ups met no switch"


async def test_a_look_up_never_sees_half_an_import(store: KeyStore) -> None:
    """Either none of its keys or all."""
    done = asyncio.Event()

    async def load() -> None:
        for batch in range(10):
            await store.add_many([], [make_key(f"{batch}-{number}") for number in range(5)])
            await asyncio.sleep(0)
        done.set()

    async def look() -> None:
        while not done.is_set():
            assert len((await store.list_keys()).items) % 5 == 0
            await asyncio.sleep(0)

    await asyncio.gather(look(), look(), load())


async def test_a_write_is_visible_when_its_call_returns(store: KeyStore) -> None:
    """Whoever was told "revoked" finds it revoked."""
    for number in range(CALLERS):
        await store.add(make_key(f"k{number}"))

    async def revoke_and_look(number: int) -> None:
        await store.set_state(f"key_k{number}", KeyState.REVOKED, now=START)
        found = await store.find(f"k{number}")
        assert found is not None
        assert found.key.state is KeyState.REVOKED

    await asyncio.gather(*(revoke_and_look(number) for number in range(CALLERS)))


# -- cancelled callers ----------------------------------------------------------------------------------------------------

BEFORE = make_key("one")
ADDED = make_key("two")
CHANGED = make_key("one", name="changed")

WRITES: dict[str, tuple[Callable[[KeyStore], Awaitable[object]], Callable[[KeyStore], Awaitable[object]], set[object]]]
WRITES = {
    "add": (
        lambda store: store.add(ADDED),
        lambda store: store.find("two"),
        {None, FoundKey(ADDED, organization_is_active=True)},
    ),
    "replace": (
        lambda store: store.replace(CHANGED, expected_version=1),
        lambda store: store.get("key_one"),
        {BEFORE, replace(CHANGED, version=2)},
    ),
    "set_state": (
        lambda store: store.set_state("key_one", KeyState.REVOKED, now=in_seconds(1)),
        lambda store: store.get("key_one"),
        {BEFORE, replace(BEFORE, state=KeyState.REVOKED, updated_at=in_seconds(1), version=2)},
    ),
    "delete": (
        lambda store: store.delete("key_one"),
        lambda store: store.find("one"),
        {None, FoundKey(BEFORE, organization_is_active=True)},
    ),
}


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize(("write", "read", "allowed"), WRITES.values(), ids=WRITES)
async def test_a_cancelled_write_happened_whole_or_not_at_all(
    store: KeyStore,
    write: Callable[[KeyStore], Awaitable[object]],
    read: Callable[[KeyStore], Awaitable[object]],
    allowed: set[object],
    steps: int,
) -> None:
    """Whenever its caller leaves."""
    await store.add(BEFORE)
    await cancel_after(steps, write(store))
    found = await read(store)
    assert found in allowed
    await asyncio.sleep(0)
    assert await read(store) == found
    listed = [record.api_key for record in (await store.list_keys()).items]
    assert listed == [name for name in ("one", "two") if await store.find(name) is not None]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
async def test_a_cancelled_import_happened_whole_or_not_at_all(store: KeyStore, steps: int) -> None:
    """Organizations included."""
    records = [make_key(f"k{number}", organization_id="new") for number in range(20)]
    await cancel_after(steps, store.add_many([make_organization("new")], records))
    organizations = [item.organization_id for item in (await store.list_organizations()).items]
    stored = len((await store.list_keys()).items)
    assert (stored, organizations) in ((0, ["acme"]), (20, ["acme", "new"]))


async def cancel_after(steps: int, call: Awaitable[object]) -> None:
    """Let the call run for some turns of the loop, then cancel it if it is still running."""
    task = asyncio.ensure_future(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
