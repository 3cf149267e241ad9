"""What every store checks alike before it changes a key: who was first, what is fixed, what is final."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backends.errors import Conflict, VersionConflict
from backends.records import KeyState

if TYPE_CHECKING:
    from backends.records import KeyRecord

__all__ = ["check_replacement", "check_state", "replacement"]


def check_replacement(
    record: KeyRecord, *, expected_version: int, api_key: str, organization_id: str, state: object, version: int
) -> None:
    """Raises ``VersionConflict`` or ``Conflict`` unless ``record`` may replace what is stored; see ``KeyStore.replace``.

    The last four are of the stored key; also where the rest of it cannot be decoded.
    """
    if version != expected_version:
        raise VersionConflict("the key was changed meanwhile")
    if (record.api_key, record.organization_id) != (api_key, organization_id):
        raise Conflict("a key's api_key and organization are fixed")
    check_state(state, record.state)


def replacement(current: KeyRecord, record: KeyRecord, *, expected_version: int) -> KeyRecord:
    """What is stored in the place of ``current``: ``record`` with the next version; raises as ``check_replacement``."""
    check_replacement(
        record,
        expected_version=expected_version,
        api_key=current.api_key,
        organization_id=current.organization_id,
        state=current.state,
        version=current.version,
    )
    return replace(record, version=current.version + 1)


def check_state(stored: object, wanted: KeyState) -> None:
    """Raises ``Conflict`` where the stored state, as text or as ``KeyState``, is final and another one is wanted."""
    if stored == KeyState.REVOKED and wanted is not KeyState.REVOKED:
        raise Conflict("a revoked key stays revoked")
