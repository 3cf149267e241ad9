"""What every store checks alike before it changes a key."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import Conflict, StoreError, VersionConflict
from backends.records import KeyState
from backends.rules import check_replacement, check_state, replacement
from tests.support.keys import make_key

STORED: dict[str, Any] = {"api_key": "key-one", "organization_id": "acme", "state": "active", "version": 3}


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        ({}, None),
        ({"version": 4}, VersionConflict),
        ({"version": None}, VersionConflict),
        ({"api_key": "another"}, Conflict),
        ({"organization_id": "another"}, Conflict),
        ({"state": "disabled"}, None),
        ({"state": None}, None),
        ({"state": "revoked"}, Conflict),
        ({"state": KeyState.REVOKED}, Conflict),
        ({"version": 4, "state": "revoked", "api_key": "another"}, VersionConflict),
    ],
    ids=str,
)
def test_a_replacement_is_for_the_version_read_and_moves_nothing(
    stored: dict[str, Any], error: type[StoreError] | None
) -> None:
    """Who came too late hears of that first."""
    given = {**STORED, **stored}
    if error is None:
        return check_replacement(make_key(), expected_version=3, **given)
    with pytest.raises(error):
        check_replacement(make_key(), expected_version=3, **given)
    return None


def test_what_replaces_a_key_has_the_next_version() -> None:
    """Counted from what is stored, whatever stands in what was handed over; a refused one is none at all."""
    stored = make_key(version=3)
    changed = make_key(name="changed", version=99)
    assert replacement(stored, changed, expected_version=3) == make_key(name="changed", version=4)
    with pytest.raises(VersionConflict):
        replacement(stored, changed, expected_version=2)
    with pytest.raises(Conflict):
        replacement(make_key(organization_id="globex", version=3), changed, expected_version=3)
    with pytest.raises(Conflict):
        replacement(make_key(state=KeyState.REVOKED, version=3), changed, expected_version=3)


@pytest.mark.parametrize("wanted", KeyState)
@pytest.mark.parametrize("stored", [*KeyState, *(state.value for state in KeyState), None])
def test_only_a_revoked_key_keeps_its_state(stored: str | None, wanted: KeyState) -> None:
    """As text or as what was decoded; revoking it once more is no conflict."""
    if stored != "revoked" or wanted is KeyState.REVOKED:
        return check_state(stored, wanted)
    with pytest.raises(Conflict):
        check_state(stored, wanted)
    return None
