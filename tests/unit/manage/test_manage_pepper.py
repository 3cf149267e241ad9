"""Which peppers are needed, and the loops that forget and gather in the background."""

from __future__ import annotations

import pytest

from backends.records import SecretHash
from service.auth.peppers import Peppers
from service.manage.pepper import PepperRow, PepperStatus, pepper_status
from tests.support.keys import make_key
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
