"""The two ways of serving, as fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.cases import import_lines, policies_toml
from tests.support.in_process import logged_gatekey
from tests.support.serving import running_front
from tests.support.sides import FlaskSide, FrontSide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.sides import Side


@pytest.fixture(scope="module")
def front_side() -> Iterator[FrontSide]:
    """A running service; one for all tests of a module."""
    with running_front(import_lines(), policies=policies_toml()) as front:
        yield FrontSide(front)


@pytest.fixture(scope="module")
def _flask_side() -> Iterator[FlaskSide]:
    with logged_gatekey(import_lines(), policies=policies_toml()) as logged:
        yield FlaskSide(logged)


@pytest.fixture
def flask_side(_flask_side: FlaskSide) -> FlaskSide:
    """The application in this process; nothing that was logged before is seen."""
    _flask_side.forget()
    return _flask_side


@pytest.fixture(params=["flask", "front"])
def side(request: pytest.FixtureRequest) -> Side:
    """Each way of serving in turn; nothing that was logged before is seen."""
    found: Side = request.getfixturevalue(f"{request.param}_side")
    found.forget()
    return found
