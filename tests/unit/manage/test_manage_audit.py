"""Writing the audit trail: one chain for each organization, nothing lost while the store is away, nothing twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog

from backends.errors import Conflict, StoreUnavailable
from backends.memory_journal import MemoryJournal
from service.manage.audit import AuditTrail
from service.manage.chain import verify_chain
from tests.support.clock import START
from tests.support.keys import in_seconds
from tests.unit.manage.world import ACME, OPERATOR, World, running, until

if TYPE_CHECKING:
    from service.manage.actor import Actor


async def record(trail: AuditTrail, name: str = "one", organization_id: str = "acme", actor: Actor = ACME) -> None:
    await trail.record(actor, organization_id=organization_id, action="key.updated", target=f"key:{name}")


async def targets(world: World, organization_id: str = "acme") -> list[str]:
    return [entry.target.removeprefix("key:") for entry in await world.entries(organization_id)]


async def is_whole(world: World, organization_id: str = "acme") -> bool:
    return not (await verify_chain(world.journal, organization_id)).problems


async def test_each_organization_has_a_chain_of_its_own(world: World) -> None:
    """Numbered from 1, each entry with the hash of the one before."""
    for name in ("one", "two"):
        for organization_id in ("acme", "globex"):
            await record(world.audit, name, organization_id, OPERATOR)
    for organization_id in ("acme", "globex"):
        first, second = await world.entries(organization_id)
        assert (first.seq, second.seq, second.previous_hash) == (1, 2, first.hash)
        assert (first.actor_organization_id, first.before, first.after) == ("gatekey", "{}", "{}")
        assert await is_whole(world, organization_id)


async def test_many_writers_make_one_chain(world: World) -> None:
    """In one process and in several."""
    trails = [AuditTrail(world.journal, clock=world.clock) for _ in range(4)]
    await asyncio.gather(*(record(trail, f"{number}") for number in range(20) for trail in trails))
    assert len(await world.entries()) == 80
    assert await is_whole(world)
    assert [trail.kept for trail in trails] == [0] * 4


async def test_who_is_overtaken_tries_again(world: World) -> None:
    """Between reading the head and appending."""
    other = AuditTrail(world.journal, clock=world.clock)
    world.faults.before["append_audit"] = lambda: record(other, "other")
    await record(world.audit, "mine")
    assert await targets(world) == ["other", "mine"]
    assert await is_whole(world)


async def test_entries_that_the_store_does_not_take_are_written_when_it_is_back(world: World) -> None:
    """In order, with the time of what was done; the caller is not kept waiting."""
    world.faults.stop("append_audit")
    with structlog.testing.capture_logs() as said:
        await record(world.audit, "one")
        world.clock.advance(5)
        await record(world.audit, "two")
        await record(world.audit, "three", "globex", OPERATOR)
        assert (world.audit.kept, world.faults.calls["append_audit"]) == (3, 1)
        async with running(world.audit.run):
            await until(lambda: world.faults.calls["append_audit"] > 1, "it was tried again")
            world.faults.errors.clear()
            await until(lambda: world.audit.kept == 0, "they are written")
    assert await targets(world) == ["one", "two"]
    assert await targets(world, "globex") == ["three"]
    assert [entry.at for entry in await world.entries()] == [START, in_seconds(5)]
    assert await is_whole(world)
    assert [event["event"] for event in said] == ["audit_delayed", "audit_caught_up"]


async def test_what_comes_after_the_storm_is_written_at_once(world: World) -> None:
    """The trail does not stay careful."""
    world.faults.stop("audit_head")
    await record(world.audit, "one")
    world.faults.errors.clear()
    await world.audit.flush()
    await record(world.audit, "two")
    assert await targets(world) == ["one", "two"]


async def test_an_entry_whose_answer_was_lost_is_not_written_twice(world: World) -> None:
    """It is looked up before it is tried again."""
    world.faults.unanswered.add("append_audit")
    await record(world.audit, "one")
    assert (world.audit.kept, await targets(world)) == (1, ["one"])
    world.faults.unanswered.clear()
    await record(AuditTrail(world.journal, clock=world.clock), "by another process")
    await world.audit.flush()
    await world.audit.flush()
    await record(world.audit, "two")
    assert (world.audit.kept, await targets(world)) == (0, ["one", "by another process", "two"])
    assert await is_whole(world)


@pytest.mark.parametrize("done", [False, True])
async def test_a_cancelled_caller_loses_nothing(done: bool, world: World) -> None:  # noqa: FBT001 - a column
    """Whether the entry was appended or not."""
    arrived = asyncio.Event()

    async def stay() -> None:
        if done:
            await entered()
        arrived.set()
        await asyncio.Event().wait()

    async def entered() -> None:
        kept = world.audit._chains["acme"][0]
        assert kept.attempt is not None
        await MemoryJournal.append_audit(world.journal, kept.attempt)

    world.faults.before["append_audit"] = stay
    call = asyncio.create_task(record(world.audit, "one"))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await record(world.audit, "two")
    assert await targets(world) == ["one", "two"]
    assert await is_whole(world)


async def test_a_chain_that_never_lets_one_in_does_not_stop_the_others(world: World) -> None:
    """It is tried again later."""
    world.faults.errors["append_audit"] = Conflict("again")
    await record(world.audit, "one")
    assert world.audit.kept == 1
    assert world.faults.calls["append_audit"] == 50
    world.faults.errors.clear()
    await world.audit.flush()
    assert await targets(world) == ["one"]


async def test_what_cannot_be_kept_is_told_as_a_whole(world: World) -> None:
    """In the log, so that it is not lost silently."""
    trail = AuditTrail(world.journal, clock=world.clock, most_kept=2)
    world.faults.stop("append_audit")
    with structlog.testing.capture_logs() as said:
        for name in ("one", "two", "three"):
            await record(trail, name)
    (lost,) = [event for event in said if event["event"] == "audit_entry_lost"]
    assert (lost["log_level"], trail.kept) == ("error", 2)
    assert lost["entry"]["target"] == "key:three"
    assert lost["entry"]["actor"] == "key:key_acme"
    world.faults.errors.clear()
    await trail.flush()
    assert await targets(world) == ["one", "two"]


async def test_a_change_is_not_refused_because_its_entry_cannot_be_written(world: World) -> None:
    """It has happened."""
    world.faults.stop("append_audit")
    issued = await world.key()
    assert await world.store.get(issued.record.key_id) == issued.record
    world.faults.errors.clear()
    await world.audit.flush()
    assert await world.actions() == ["key.created"]


async def test_flushing_into_a_store_that_is_away_is_no_error(world: World) -> None:
    """A process that stops has no better idea."""
    world.faults.errors["audit_head"] = StoreUnavailable("down")
    await record(world.audit)
    await world.audit.flush()
    assert world.audit.kept == 1
