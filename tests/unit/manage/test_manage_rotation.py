"""Rotation keeps the key's identifiers: the new secret counts at once, the old one for a time that its owner can end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import Conflict
from backends.records import KeyState
from service.auth.peppers import SecretMatch
from service.manage.errors import Invalid
from tests.support import leaks
from tests.support.clock import START
from tests.support.keys import PEPPERS, in_seconds
from tests.unit.manage.world import ACME

if TYPE_CHECKING:
    from service.auth.secret import Secret
    from service.manage.manager import IssuedKey
    from tests.unit.manage.world import World

DAY = 86_400


async def rotated(world: World, key_id: str, **options: Any) -> IssuedKey:
    issued = await world.manager.rotate(ACME, key_id, **options)
    leaks.register(issued.secret.reveal())
    return issued


async def accepted(world: World, key_id: str, secret: Secret) -> SecretMatch:
    """As the decision judges it at this moment."""
    record = await world.store.get(key_id)
    over = record.previous_expires_at is not None and world.clock.now() >= record.previous_expires_at
    return PEPPERS.match(secret.reveal(), record.secret, None if over else record.previous_secret)


async def test_both_secrets_count_after_a_rotation(world: World) -> None:
    """The identifiers and everything else stay."""
    old = await world.key(name="one", scopes=("orders:read",))
    new = await rotated(world, old.record.key_id)
    assert await accepted(world, old.record.key_id, new.secret) is SecretMatch.CURRENT
    assert await accepted(world, old.record.key_id, old.secret) is SecretMatch.PREVIOUS
    changed = {name for name in new.record.__slots__ if getattr(new.record, name) != getattr(old.record, name)}
    assert changed == {
        "secret",
        "previous_secret",
        "previous_expires_at",
        "previous_grace",
        "rotated_at",
        "version",
    }
    assert (new.record.rotated_at, new.record.previous_expires_at) == (START, in_seconds(30 * DAY))
    assert new.record.previous_grace == DAY
    assert world.events == [("rotated", 1)]


async def test_the_old_secret_ends_at_the_limit(world: World) -> None:
    """Also when nobody ever used the new one."""
    old = await world.key()
    await rotated(world, old.record.key_id, limit=timedelta(hours=1))
    world.clock.advance(3599)
    assert await accepted(world, old.record.key_id, old.secret) is SecretMatch.PREVIOUS
    world.clock.advance(1)
    assert await accepted(world, old.record.key_id, old.secret) is SecretMatch.NONE


async def test_no_grace_cuts_the_old_secret_at_once(world: World) -> None:
    """Whatever the limit says."""
    old = await world.key()
    new = await rotated(world, old.record.key_id, grace=timedelta(0), limit=timedelta(0))
    assert await accepted(world, old.record.key_id, old.secret) is SecretMatch.NONE
    assert (new.record.previous_secret, new.record.previous_expires_at, new.record.previous_grace) == (None, None, None)


async def test_a_part_of_a_second_of_grace_is_one(world: World) -> None:
    """Not none."""
    old = await world.key()
    assert (await rotated(world, old.record.key_id, grace=timedelta(milliseconds=1))).record.previous_grace == 1


async def test_a_rotation_during_a_rotation_ends_the_older_secret(world: World) -> None:
    """The one in force becomes the previous one, with a time of its own; it was in use, and so its grace had begun."""
    first = await world.key()
    second = await rotated(world, first.record.key_id)
    used = replace(second.record, previous_grace=None, previous_expires_at=in_seconds(DAY))
    await world.store.replace(used, expected_version=second.record.version)
    world.clock.advance(60)
    third = await rotated(world, first.record.key_id, grace=timedelta(hours=2))
    assert await accepted(world, first.record.key_id, third.secret) is SecretMatch.CURRENT
    assert await accepted(world, first.record.key_id, second.secret) is SecretMatch.PREVIOUS
    assert await accepted(world, first.record.key_id, first.secret) is SecretMatch.NONE
    assert third.record.previous_grace == 7200
    assert third.record.previous_expires_at == in_seconds(60 + 30 * DAY)


async def test_a_rotation_that_was_never_used_is_replaced_by_the_next(world: World) -> None:
    """Its answer may have been lost: the secret that everybody uses goes on, with the new times."""
    first = await world.key()
    second = await rotated(world, first.record.key_id)
    world.clock.advance(60)
    third = await rotated(world, first.record.key_id, grace=timedelta(hours=2))
    assert await accepted(world, first.record.key_id, third.secret) is SecretMatch.CURRENT
    assert await accepted(world, first.record.key_id, second.secret) is SecretMatch.NONE
    assert await accepted(world, first.record.key_id, first.secret) is SecretMatch.PREVIOUS
    assert (third.record.previous_grace, third.record.rotated_at) == (7200, in_seconds(60))
    assert third.record.previous_expires_at == in_seconds(60 + 30 * DAY)


async def test_a_secret_that_was_never_used_stays_where_the_older_one_is_over(world: World) -> None:
    """There is no other one that anybody could be using."""
    first = await world.key()
    second = await rotated(world, first.record.key_id, limit=timedelta(hours=1))
    world.clock.advance(3600)
    await rotated(world, first.record.key_id)
    assert await accepted(world, first.record.key_id, second.secret) is SecretMatch.PREVIOUS
    assert await accepted(world, first.record.key_id, first.secret) is SecretMatch.NONE


async def test_no_grace_cuts_also_what_was_kept_for_an_unused_secret(world: World) -> None:
    """Only the newest is left."""
    first = await world.key()
    second = await rotated(world, first.record.key_id)
    third = await rotated(world, first.record.key_id, grace=timedelta(0))
    for secret, match in ((first, SecretMatch.NONE), (second, SecretMatch.NONE), (third, SecretMatch.CURRENT)):
        assert await accepted(world, first.record.key_id, secret.secret) is match


async def test_a_cancelled_rotation_never_was(world: World) -> None:
    """The old secret is the only one again, without an end."""
    old = await world.key()
    new = await rotated(world, old.record.key_id)
    record = await world.manager.cancel_rotation(ACME, old.record.key_id)
    assert await accepted(world, old.record.key_id, old.secret) is SecretMatch.CURRENT
    assert await accepted(world, old.record.key_id, new.secret) is SecretMatch.NONE
    assert record.secret == old.record.secret
    assert (record.previous_secret, record.previous_expires_at, record.previous_grace, record.rotated_at) == (None,) * 4
    assert await world.actions() == ["key.created", "key.rotated", "key.rotation_cancelled"]


async def test_the_old_secret_can_be_cut(world: World) -> None:
    """The new one goes on."""
    old = await world.key()
    new = await rotated(world, old.record.key_id)
    record = await world.manager.cut_previous(ACME, old.record.key_id)
    assert await accepted(world, old.record.key_id, old.secret) is SecretMatch.NONE
    assert await accepted(world, old.record.key_id, new.secret) is SecretMatch.CURRENT
    assert record.rotated_at == START
    assert await world.actions() == ["key.created", "key.rotated", "key.previous_secret_cut"]


async def test_a_revoked_keys_old_secret_can_be_cut_but_not_brought_back(world: World) -> None:
    """Taking away is always possible."""
    old = await world.key()
    await rotated(world, old.record.key_id)
    await world.manager.set_state(ACME, old.record.key_id, KeyState.REVOKED)
    with pytest.raises(Conflict, match="revoked"):
        await world.manager.cancel_rotation(ACME, old.record.key_id)
    assert (await world.manager.cut_previous(ACME, old.record.key_id)).previous_secret is None


@pytest.mark.parametrize("rotate", [False, True])
async def test_where_no_old_secret_counts_there_is_nothing_to_cancel_or_cut(rotate: bool, world: World) -> None:  # noqa: FBT001 - a column
    """Never rotated, or over: a dead secret must not come back to life."""
    old = await world.key()
    if rotate:
        await rotated(world, old.record.key_id, limit=timedelta(seconds=5))
        world.clock.advance(5)
    for call in (
        world.manager.cancel_rotation(ACME, old.record.key_id),
        world.manager.cut_previous(ACME, old.record.key_id),
    ):
        with pytest.raises(Conflict):
            await call
    assert (await accepted(world, old.record.key_id, old.secret) is SecretMatch.CURRENT) is not rotate


async def test_two_rotations_at_once_leave_the_secret_that_is_in_use(world: World) -> None:
    """The later one counts, as if the other one had never been."""
    old = await world.key()
    others: list[IssuedKey] = []

    async def other() -> None:
        others.append(await rotated(world, old.record.key_id))

    world.faults.before["replace"] = other
    mine = await rotated(world, old.record.key_id)
    assert await accepted(world, old.record.key_id, mine.secret) is SecretMatch.CURRENT
    assert await accepted(world, old.record.key_id, old.secret) is SecretMatch.PREVIOUS
    assert await accepted(world, old.record.key_id, others[0].secret) is SecretMatch.NONE


@pytest.mark.parametrize(
    ("grace", "limit", "problem"),
    [
        (-1, DAY, "grace: must be 0 to 366 days"),
        (367 * DAY, DAY, "grace: must be 0 to 366 days"),
        (DAY, 0, "limit: must be more than 0 and at most 366 days"),
        (DAY, -1, "limit: must be more than 0 and at most 366 days"),
        (DAY, 367 * DAY, "limit: must be more than 0 and at most 366 days"),
    ],
)
async def test_times_out_of_range_are_refused(grace: int, limit: int, problem: str, world: World) -> None:
    """By name."""
    issued = await world.key()
    with pytest.raises(Invalid, match=problem):
        await world.manager.rotate(
            ACME, issued.record.key_id, grace=timedelta(seconds=grace), limit=timedelta(seconds=limit)
        )
    assert await world.store.get(issued.record.key_id) == issued.record
