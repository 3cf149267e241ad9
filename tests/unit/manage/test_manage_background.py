"""What goes on beside the decisions: forgetting by age, and all parts started and stopped as one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from backends.journal import HourCount, UsageCount
from service.auth.credentials import Credentials
from service.auth.decision import AccessRequest, Decision, Door
from service.auth.domains import parse_target
from service.auth.reasons import Reason
from service.auth.secret import Secret
from service.manage import background as background_module
from service.manage import retention as retention_module
from service.manage import upkeep as upkeep_module
from service.manage import usage as usage_module
from service.manage.background import Background
from service.manage.retention import Retention
from service.manage.upkeep import SecretUpkeep
from service.manage.usage import UsageRecorder
from tests.support.clock import START
from tests.support.keys import DOMAIN, PEPPERS, SECRET, in_seconds, known_key, loaded, make_key
from tests.unit.manage.world import COMMAND, running, until

if TYPE_CHECKING:
    from tests.unit.manage.world import World

DAY = timedelta(days=1)
HOUR = START.replace(minute=0, second=0)


async def remember(world: World) -> None:
    """A use and an entry of now, and of 10 and 100 days ago, and a claim that is over."""
    for days in (100, 10, 0):
        at = HOUR - days * DAY
        await world.journal.add_usage([UsageCount(key_id="one", hour=at, count=1, last_used_at=at)])
        world.clock.skew(-days * DAY.total_seconds())
        await world.audit.record(COMMAND, organization_id="acme", action="key.updated", target=f"key:{days}")
        world.clock.skew(days * DAY.total_seconds())
    await world.journal.claim("one", "print", now=in_seconds(-60), until=in_seconds(-30))


@pytest.mark.parametrize(
    ("usage_days", "audit_days", "left", "pruned"),
    [(0, 0, (3, 3), 1), (50, 0, (2, 3), 2), (0, 50, (3, 2), 2), (5, 5, (1, 1), 5), (101, 101, (3, 3), 1)],
)
async def test_what_is_too_old_is_forgotten(
    usage_days: int, audit_days: int, left: tuple[int, int], pruned: int, world: World
) -> None:
    """Each after its own time, 0 being never; claims that are over in any case."""
    await remember(world)
    retention = Retention(world.journal, clock=world.clock, usage_days=usage_days, audit_days=audit_days)
    assert await retention.prune() == pruned
    hours = await world.journal.usage("one", since=HOUR - 200 * DAY, until=HOUR + DAY)
    assert (len(hours), len(await world.entries())) == left
    assert await retention.prune() == 0


async def test_forgetting_goes_on_by_itself_and_survives_a_store_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told in the log."""
    monkeypatch.setattr(retention_module, "_INTERVAL", 0.001)
    await remember(world)
    world.faults.stop("prune")
    retention = Retention(world.journal, clock=world.clock, usage_days=50, audit_days=0)
    with structlog.testing.capture_logs() as said:
        async with running(retention.run):
            await until(lambda: world.faults.calls.get("prune", 0) >= 2, "it was tried again")
            world.faults.errors.clear()
            await until(lambda: len(world.journal._hours["one"]) == 2, "it is forgotten")
    events = [event["event"] for event in said]
    assert (events[0], events[-1]) == ("retention_delayed", "retention_pruned")


# -- all of it together ---------------------------------------------------------------------------------------------------


def background_of(world: World) -> Background:
    return Background(
        usage=UsageRecorder(world.journal, clock=world.clock),
        upkeep=SecretUpkeep(world.store, peppers=PEPPERS, clock=world.clock),
        audit=world.audit,
        retention=Retention(world.journal, clock=world.clock, usage_days=50, audit_days=50),
        clock=world.clock,
    )


def asked(credentials: Credentials | Reason) -> AccessRequest:
    return AccessRequest(
        credentials=credentials, target=parse_target(DOMAIN, "https", "/"), door=Door.FORWARD, started=0.0
    )


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((usage_module, "_INTERVAL"), (upkeep_module, "_PAUSE"), (background_module, "_RESTART")):
        monkeypatch.setattr(module, name, 0.005)


async def test_a_use_is_counted_and_kept_up(world: World) -> None:
    """By one call."""
    record = make_key("one", previous_secret=PEPPERS.hash("the-secret-before"), previous_grace=60)
    await world.store.add(record)
    background = background_of(world)
    request = asked(Credentials("one", Secret(SECRET)))
    background.used(request, Decision(Reason.OK, key=loaded(record)))
    background.used(request, Decision(Reason.OK, key=loaded(record), used_previous=True))
    async with running(background.run):
        await until(lambda: not background._upkeep._queue, "the upkeep is done")
    await background.flush()
    assert await world.journal.usage(record.key_id, since=HOUR, until=HOUR + DAY) == (HourCount(HOUR, 2),)
    assert (await world.journal.last_use([record.key_id]))[record.key_id].previous_secret_used_at == START
    assert (await world.store.get(record.key_id)).previous_grace is None


@pytest.mark.parametrize(
    ("credentials", "key"),
    [(Reason.MISSING_CREDENTIALS, known_key("one")), (Credentials("one", Secret(SECRET)), None)],
)
async def test_what_is_no_use_of_a_key_is_not_counted(credentials: Any, key: Any, world: World) -> None:
    """A preflight, say."""
    background = background_of(world)
    background.used(asked(credentials), Decision(Reason.PREFLIGHT, key=key))
    await background.flush()
    assert "add_usage" not in world.faults.calls


@pytest.mark.usefixtures("_soon")
async def test_a_part_that_fails_goes_on_and_the_others_with_it(world: World) -> None:
    """A defect of ours, told in the log."""
    background = background_of(world)
    request, record = asked(Credentials("one", Secret(SECRET))), make_key("one")
    world.faults.errors["add_usage"] = RuntimeError("a defect")
    background.used(request, Decision(Reason.OK, key=loaded(record)))
    with structlog.testing.capture_logs() as said:
        async with running(background.run):
            await until(lambda: world.faults.calls.get("add_usage", 0) >= 2, "it was tried again")
            world.faults.errors.clear()
            calls = world.faults.calls["add_usage"]
            await until(lambda: world.faults.calls["add_usage"] > calls, "it goes on")
    await background.flush()
    assert await world.journal.usage(record.key_id, since=HOUR, until=HOUR + DAY) == (HourCount(HOUR, 1),)
    assert {(event["event"], event["part"], event["error_type"]) for event in said} == {
        ("background_failed", "UsageRecorder", "RuntimeError")
    }


async def test_flushing_writes_what_is_still_in_memory(world: World) -> None:
    """Uses and entries, when the process stops."""
    background = background_of(world)
    world.faults.stop("append_audit")
    await world.audit.record(COMMAND, organization_id="acme", action="key.updated", target="key:one")
    background.used(asked(Credentials("one", Secret(SECRET))), Decision(Reason.OK, key=known_key("one")))
    world.faults.errors.clear()
    await background.flush()
    assert len(await world.entries()) == 1
    assert world.faults.calls["add_usage"] == 1
