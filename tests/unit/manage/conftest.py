"""The world that the management works on."""

from __future__ import annotations

import pytest

from tests.unit.manage.world import World, new_world


@pytest.fixture
async def world() -> World:
    return await new_world()
