"""What a use causes: the current pepper for its secret, the end of a rotation's grace; once, and never back again."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from backends.errors import StoreCorrupt, VersionConflict
from backends.records import SecretHash
from service.auth.peppers import Peppers, SecretMatch, UnknownPepper
from service.auth.secret import Secret
from service.manage import upkeep as upkeep_module
from service.manage.pepper import PepperRow, pepper_status
from service.manage.upkeep import SecretUpkeep
from tests.support import leaks
from tests.support.keys import PEPPERS, SECRET, in_seconds, loaded, make_key
from tests.unit.manage.world import ACME, running, until

if TYPE_CHECKING:
    from backends.records import KeyRecord
    from tests.unit.manage.world import World

OLD_SECRET = "the-old-secret-of-the-tests"
leaks.register(OLD_SECRET)
FIRST = {1: b"p" * 32}
BOTH = {**FIRST, 2: b"q" * 32}
DAY = 86_400


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "_PAUSE", 0.005)


def upkeep_of(world: World, *, current: int = 1, **options: Any) -> SecretUpkeep:
    return SecretUpkeep(world.store, peppers=Peppers(BOTH, current=current), clock=world.clock, **options)


def use(upkeep: SecretUpkeep, record: KeyRecord, *, previous: bool = False) -> None:
    upkeep.used(loaded(record), previous_secret=previous, secret=Secret(OLD_SECRET if previous else SECRET))


async def worked(upkeep: SecretUpkeep) -> None:
    """All that was noted is done."""
    async with running(upkeep.run):
        await until(lambda: not upkeep._queue, "the work is done")


async def add(world: World, **fields: Any) -> KeyRecord:
    record = make_key("one", **fields)
    await world.store.add(record)
    return record


def rotation(**fields: Any) -> dict[str, Any]:
    """A key whose new secret was not used yet."""
    return {
        "previous_secret": PEPPERS.hash(OLD_SECRET),
        "previous_expires_at": in_seconds(30 * DAY),
        "previous_grace": DAY,
        "rotated_at": in_seconds(-60),
        **fields,
    }


# -- peppers --------------------------------------------------------------------------------------------------------------


async def test_a_secret_under_an_older_pepper_gets_the_current_one(world: World) -> None:
    """The same secret, and nothing else changes."""
    record = await add(world)
    upkeep = upkeep_of(world, current=2)
    use(upkeep, record)
    await worked(upkeep)
    stored = await world.store.get(record.key_id)
    assert stored == replace(record, secret=Peppers(BOTH, current=2).hash(SECRET))
    assert Peppers(BOTH, current=2).match(SECRET, stored.secret) is SecretMatch.CURRENT


async def test_the_secret_from_before_a_rotation_too(world: World) -> None:
    """Where it was the one that was used."""
    record = await add(world, **rotation())
    upkeep = upkeep_of(world, current=2)
    use(upkeep, record, previous=True)
    await worked(upkeep)
    stored = await world.store.get(record.key_id)
    assert stored.previous_secret == Peppers(BOTH, current=2).hash(OLD_SECRET)
    assert stored.secret == record.secret


@pytest.mark.parametrize(("current", "version"), [(1, 1), (2, 2)])
async def test_an_imported_sha256_becomes_a_plain_hash_at_its_first_use(
    current: int, version: int, world: World
) -> None:
    """From then on it can be exported in the contract's form."""
    record = await add(world, secret=PEPPERS.wrap_sha256(bytes.fromhex(_sha256(SECRET))))
    upkeep = upkeep_of(world, current=current)
    use(upkeep, record)
    await worked(upkeep)
    stored = (await world.store.get(record.key_id)).secret
    assert (stored.pepper_version, stored.prehashed) == (version, False)
    assert Peppers(BOTH, current=2).match(SECRET, stored) is SecretMatch.CURRENT


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("prehashed", [False, True])
async def test_a_newer_pepper_is_never_taken_back(prehashed: bool, world: World) -> None:  # noqa: FBT001 - a column
    """A process whose current pepper is the older one leaves the hash alone."""
    newer = Peppers(BOTH, current=2)
    record = await add(
        world, secret=newer.wrap_sha256(bytes.fromhex(_sha256(SECRET))) if prehashed else newer.hash(SECRET)
    )
    upkeep = upkeep_of(world, current=1)
    use(upkeep, record)
    assert not upkeep._queue


async def test_nothing_is_noted_where_nothing_is_to_do(world: World) -> None:
    """The common case, and cases that cannot be."""
    upkeep = upkeep_of(world)
    record = await add(world)
    use(upkeep, record)
    upkeep.used(loaded(record), previous_secret=True, secret=Secret(SECRET))  # there is none
    upkeep.used(loaded(replace(record, secret=SecretHash(0, bytes(32)))), previous_secret=False, secret=None)
    assert not upkeep._queue
    assert not upkeep._noted


async def test_a_key_is_noted_once_however_often_it_is_used(world: World) -> None:
    """By all threads; again only after a while."""
    record = await add(world)
    upkeep = upkeep_of(world, current=2)

    def use_often() -> None:
        for _ in range(200):
            use(upkeep, record)

    threads = [threading.Thread(target=use_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(upkeep._queue) <= 8
    await worked(upkeep)
    calls = world.faults.calls["rehash"]
    use(upkeep, record)
    assert not upkeep._queue
    world.clock.advance(60)
    async with running(upkeep.run):
        await until(lambda: not upkeep._noted, "it is forgotten")
        use(upkeep, record)
        await until(lambda: world.faults.calls["rehash"] > calls, "it is tried again")


async def test_what_is_noted_is_bounded(world: World) -> None:
    """The rest comes again with a later use."""
    upkeep = upkeep_of(world, current=2, most_noted=3)
    for number in range(5):
        use(upkeep, make_key(f"key-{number}"))
    assert len(upkeep._queue) == len(upkeep._noted) == 3


async def test_a_use_wakes_the_work_from_any_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for the next look around."""
    monkeypatch.setattr(upkeep_module, "_PAUSE", 3600)
    record = await add(world)
    upkeep = upkeep_of(world, current=2)
    async with running(upkeep.run):
        await until(lambda: upkeep._wake is not None, "it runs")
        await asyncio.to_thread(use, upkeep, record)
        await until(lambda: world.faults.calls.get("rehash"), "it was woken")


async def test_a_use_after_the_loop_has_ended_is_no_error(world: World) -> None:
    """Threads may still answer requests while the process stops."""
    upkeep = upkeep_of(world, current=2)
    ended = asyncio.new_event_loop()
    ended.close()
    upkeep._loop, upkeep._wake = ended, asyncio.Event()
    use(upkeep, make_key("one"))
    assert len(upkeep._queue) == 1


async def test_the_work_waits_for_a_store_that_is_away(world: World) -> None:
    """Nothing that was noted is forgotten."""
    record = await add(world)
    upkeep = upkeep_of(world, current=2)
    world.faults.stop("rehash")
    use(upkeep, record)
    async with running(upkeep.run):
        await until(lambda: world.faults.calls.get("rehash", 0) >= 2, "it was tried again")
        world.faults.errors.clear()
        await until(lambda: not upkeep._queue, "the work is done")
    assert (await world.store.get(record.key_id)).secret.pepper_version == 2


async def test_one_key_that_cannot_be_done_does_not_hold_up_the_others(world: World) -> None:
    """It is told in the log, without its secret."""
    record = await add(world, **rotation())
    upkeep = upkeep_of(world, current=2)
    world.faults.errors["get"] = StoreCorrupt("broken")
    use(upkeep, record)
    with structlog.testing.capture_logs() as said:
        await worked(upkeep)
    assert [event for event in said if event["event"] == "secret_upkeep_failed"] == [
        {
            "event": "secret_upkeep_failed",
            "log_level": "warning",
            "key_id": record.key_id,
            "error_type": "StoreCorrupt",
        }
    ]
    world.faults.errors.clear()
    assert (await world.store.get(record.key_id)).secret.pepper_version == 2


# -- a rolling update from one pepper to the next -------------------------------------------------------------------------


async def test_a_pepper_is_replaced_without_a_failed_request(world: World) -> None:
    """Accepted first, current later, removed when nothing needs it; old and new processes side by side all the time."""
    old, accepting, new = Peppers(FIRST, current=1), Peppers(BOTH, current=1), Peppers(BOTH, current=2)
    after = Peppers({2: BOTH[2]}, current=2)
    record = await add(world)

    async def verified(*processes: Peppers) -> None:
        stored = (await world.store.get(record.key_id)).secret
        for peppers in processes:
            assert peppers.match(SECRET, stored) is SecretMatch.CURRENT
            upkeep = SecretUpkeep(world.store, peppers=peppers, clock=world.clock)
            use(upkeep, await world.store.get(record.key_id))
            await worked(upkeep)

    await verified(old, accepting)  # first roll-out: pepper 2 is accepted
    assert (await pepper_status(world.store, accepting)).rows == (
        PepperRow(version=1, configured=True, current=True, secrets=1, removable=False),
        PepperRow(version=2, configured=True, current=False, secrets=0, removable=False),
    )
    for _ in range(3):  # second roll-out: pepper 2 is current, here and there
        await verified(accepting, new)
    assert world.faults.calls["rehash"] == 1
    status = await pepper_status(world.store, new)
    assert [(row.version, row.secrets, row.removable) for row in status.rows] == [(1, 0, True), (2, 1, False)]
    await verified(accepting, new, after)  # third roll-out: pepper 1 is gone
    with pytest.raises(UnknownPepper):
        old.match(SECRET, (await world.store.get(record.key_id)).secret)


# -- the end of a grace ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({}, DAY),
        ({"previous_expires_at": in_seconds(60)}, 60),
        ({"previous_expires_at": None}, DAY),
        ({"rotated_at": None}, DAY),
    ],
)
async def test_the_first_use_of_the_new_secret_begins_the_grace(fields: dict[str, Any], end: int, world: World) -> None:
    """Counted from the use, not from when it was written; never beyond the limit."""
    record = await add(world, **rotation(**fields))
    upkeep = upkeep_of(world)
    use(upkeep, record)
    world.clock.advance(5)
    await worked(upkeep)
    stored = await world.store.get(record.key_id)
    assert (stored.previous_expires_at, stored.previous_grace) == (in_seconds(end), None)
    assert (stored.updated_at, stored.version) == (in_seconds(5), 2)
    assert stored.previous_secret == record.previous_secret


@pytest.mark.parametrize("grace", [None, DAY])
async def test_an_old_secret_that_is_over_goes_at_the_next_use(grace: int | None, world: World) -> None:
    """And with it the need for its pepper."""
    record = await add(world, **rotation(previous_expires_at=in_seconds(60), previous_grace=grace))
    upkeep = upkeep_of(world)
    world.clock.advance(60)
    use(upkeep, record)
    await worked(upkeep)
    stored = await world.store.get(record.key_id)
    assert stored == replace(
        record,
        previous_secret=None,
        previous_expires_at=None,
        previous_grace=None,
        updated_at=in_seconds(60),
        version=2,
    )
    use(upkeep, stored)
    assert not upkeep._queue


async def test_an_old_secret_of_another_rotation_stays(world: World) -> None:
    """Somebody rotated in the moment before the one that is over is taken away."""
    record = await add(world, **rotation(previous_expires_at=in_seconds(60)))
    upkeep = upkeep_of(world)
    world.clock.advance(60)
    use(upkeep, record)
    new = await world.manager.rotate(ACME, record.key_id)
    leaks.register(new.secret.reveal())
    await worked(upkeep)
    assert await world.store.get(record.key_id) == new.record


async def test_a_use_of_the_old_secret_begins_nothing(world: World) -> None:
    """The client has not changed over yet."""
    record = await add(world, **rotation())
    upkeep = upkeep_of(world)
    use(upkeep, record, previous=True)
    assert not upkeep._queue


async def test_several_processes_move_the_end_once(world: World) -> None:
    """The first one; later uses, and the same use told late, change nothing."""
    record = await add(world, **rotation())
    upkeeps = [upkeep_of(world) for _ in range(3)]
    for upkeep in upkeeps:
        use(upkeep, record)
        world.clock.advance(10)
    await asyncio.gather(*(worked(upkeep) for upkeep in upkeeps))
    stored = await world.store.get(record.key_id)
    assert (stored.previous_expires_at, stored.version) == (in_seconds(DAY), 2)
    use(upkeeps[0], stored)
    assert not upkeeps[0]._queue


async def test_a_pepper_and_a_grace_at_once(world: World) -> None:
    """Both are done."""
    record = await add(world, **rotation())
    upkeep = upkeep_of(world, current=2)
    use(upkeep, record)
    await worked(upkeep)
    stored = await world.store.get(record.key_id)
    assert (stored.previous_grace, stored.secret.pepper_version) == (None, 2)


async def test_a_change_in_between_is_kept(world: World) -> None:
    """The end is moved on what the key is then."""
    record = await add(world, **rotation())
    upkeep = upkeep_of(world)
    use(upkeep, record)

    async def rename() -> None:
        await world.manager.update_key(ACME, record.key_id, {"name": "renamed"})

    world.faults.before["replace"] = rename
    await worked(upkeep)
    stored = await world.store.get(record.key_id)
    assert (stored.name, stored.previous_grace, stored.version) == ("renamed", None, 3)


@pytest.mark.parametrize("operation", ["rotate", "cancel", "cut", "delete"])
async def test_another_rotation_or_its_end_is_left_alone(operation: str, world: World) -> None:
    """What was used is not in force any more, or has nothing beside it."""
    record = await add(world, **rotation())
    upkeep = upkeep_of(world)
    use(upkeep, record)
    calls: dict[str, Any] = {
        "rotate": lambda: world.manager.rotate(ACME, record.key_id, grace=timedelta(hours=1)),
        "cancel": lambda: world.manager.cancel_rotation(ACME, record.key_id),
        "cut": lambda: world.manager.cut_previous(ACME, record.key_id),
        "delete": lambda: world.manager.delete_key(ACME, record.key_id),
    }
    await calls[operation]()
    before = (await world.store.list_keys()).items
    await worked(upkeep)
    assert (await world.store.list_keys()).items == before


async def test_a_key_that_is_changed_all_the_time_is_given_up(world: World) -> None:
    """Its next use tries again."""
    record = await add(world, **rotation())
    upkeep = upkeep_of(world)
    use(upkeep, record)
    world.faults.errors["replace"] = VersionConflict("again")
    with structlog.testing.capture_logs() as said:
        await worked(upkeep)
    assert [event["error_type"] for event in said] == ["VersionConflict"]
    assert world.faults.calls["replace"] == 5
