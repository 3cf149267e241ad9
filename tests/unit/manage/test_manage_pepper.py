"""Which peppers are needed, and the loops that forget and gather in the background."""

from __future__ import annotations

from typing import Any

import pytest

from backends.records import KeyState, SecretHash
from service.auth.peppers import Peppers
from service.manage.pepper import PepperRow, PepperStatus, pepper_status
from tests.support.keys import in_seconds, make_key
from tests.unit.manage.world import World  # noqa: TC001 - a fixture's type


@pytest.mark.parametrize(
    ("configured", "current", "needed", "rows"),
    [
        ({1}, 1, [], [(1, True, True, 0, False)]),
        ({1}, 1, [1, 1], [(1, True, True, 2, False)]),
        ({1, 2}, 2, [1, 2], [(1, True, False, 1, False), (2, True, True, 1, False)]),
        ({1, 2}, 2, [2], [(1, True, False, 0, True), (2, True, True, 1, False)]),
        ({1, 2}, 1, [1], [(1, True, True, 1, False), (2, True, False, 0, False)]),
        ({1, 2}, 1, [2], [(1, True, True, 0, False), (2, True, False, 1, False)]),
        ({2}, 2, [1, 3], [(1, False, False, 1, False), (2, True, True, 0, False), (3, False, False, 1, False)]),
    ],
)
async def test_a_pepper_may_go_when_it_is_older_than_the_current_one_and_nothing_needs_it(
    configured: set[int],
    current: int,
    needed: list[int],
    rows: list[tuple[int, bool, bool, int, bool]],
    world: World,
) -> None:
    """A newer one without secrets is the next current one."""
    for number, version in enumerate(needed):
        await world.store.add(make_key(f"key-{number}", secret=SecretHash(version, bytes(32))))
    peppers = Peppers({version: bytes([version]) * 32 for version in configured}, current=current)
    status = await pepper_status(world.store, peppers)
    assert status.rows == tuple(
        PepperRow(version=version, configured=known, current=now, secrets=secrets, removable=removable)
        for version, known, now, secrets, removable in rows
    )
    assert len(status.problems) == len(set(needed) - configured)


async def test_secrets_without_their_pepper_are_a_problem(world: World) -> None:
    """Told with their number; previous secrets count too."""
    await world.store.add(make_key("one", secret=SecretHash(1, bytes(32)), previous_secret=SecretHash(7, bytes(32))))
    rows = (
        PepperRow(version=1, configured=True, current=True, secrets=1, removable=False),
        PepperRow(version=7, configured=False, current=False, secrets=1, removable=False),
    )
    problem = (
        "pepper 7 is not configured, and this many stored secrets need it: 1; "
        "their keys are answered with 503 until it is configured again"
    )
    assert await pepper_status(world.store, Peppers({1: b"p" * 32}, current=1)) == PepperStatus(rows, (problem,))


async def test_what_can_never_be_presented_again_needs_no_pepper(world: World) -> None:
    """Secrets of revoked keys, and old ones whose time is over; those of disabled and expired keys may come back."""
    old = SecretHash(1, bytes(32))
    new = SecretHash(2, bytes(32))
    now = in_seconds(60)
    fields: list[dict[str, Any]] = [
        {"secret": old, "previous_secret": old, "state": KeyState.REVOKED},
        {"secret": new, "previous_secret": old, "previous_expires_at": now},
        {"secret": new, "previous_secret": SecretHash(3, bytes(32)), "previous_expires_at": in_seconds(61)},
        {"secret": new, "previous_secret": SecretHash(4, bytes(32))},
        {"secret": SecretHash(5, bytes(32)), "state": KeyState.DISABLED},
        {"secret": SecretHash(6, bytes(32)), "expires_at": in_seconds(0)},
    ]
    for number, given in enumerate(fields):
        await world.store.add(make_key(f"key-{number}", **given))
    peppers = Peppers({1: b"p" * 32, 2: b"q" * 32}, current=2)
    status = await pepper_status(world.store, peppers, now=now)
    assert {row.version: row.secrets for row in status.rows} == {1: 0, 2: 3, 3: 1, 4: 1, 5: 1, 6: 1}
    assert [row.version for row in status.rows if row.removable] == [1]
    assert {row.version: row.secrets for row in (await pepper_status(world.store, peppers)).rows} == {
        1: 0, 2: 3, 4: 1, 5: 1, 6: 1
    }  # fmt: skip


async def test_all_pages_are_counted(world: World) -> None:
    """Each key once."""
    await world.store.add_many([], [make_key(f"k{number}") for number in range(2_500)])
    (row,) = (await pepper_status(world.store, Peppers({1: b"p" * 32}, current=1))).rows
    assert row.secrets == 2_500
