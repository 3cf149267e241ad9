"""An application with the keys of ``management_api``, and the way to ask whichever one a module runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.in_process import logged_gatekey
from tests.support.management_api import LINES, Api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey


@pytest.fixture(scope="module")
def logged() -> Iterator[LoggedGatekey]:
    """One for all tests of a module that says nothing else."""
    with logged_gatekey(LINES) as found:
        yield found


@pytest.fixture
def api(logged: LoggedGatekey) -> Api:
    """The management API of the module's application."""
    return Api(logged.app)
