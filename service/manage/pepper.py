"""Which peppers the stored secrets need, and whether an old one may be taken out of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.contract import KeyStore
    from service.auth.peppers import Peppers

__all__ = ["PepperRow", "PepperStatus", "pepper_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PepperRow:
    """One version that is configured or needed.

    ``removable``: no stored secret needs it, and none will (it is older than the current one). A *newer* one without
    secrets is the next current one: accepted first, current later.
    """

    version: int
    configured: bool
    current: bool
    secrets: int
    removable: bool


@dataclass(frozen=True, slots=True)
class PepperStatus:
    """``rows`` by version; ``problems`` are sentences about what does not fit."""

    rows: tuple[PepperRow, ...]
    problems: tuple[str, ...] = ()


async def pepper_status(store: KeyStore, peppers: Peppers) -> PepperStatus:
    """Count the stored secrets by pepper and hold them against the settings; may take long."""
    counts = await store.count_peppers()
    rows = tuple(
        PepperRow(
            version=version,
            configured=version in peppers.versions,
            current=version == peppers.current,
            secrets=counts.get(version, 0),
            removable=version in peppers.versions and version < peppers.current and not counts.get(version),
        )
        for version in sorted(peppers.versions | set(counts))
    )
    return PepperStatus(rows, tuple(_problem(row) for row in rows if row.secrets and not row.configured))


def _problem(row: PepperRow) -> str:
    return (
        f"pepper {row.version} is not configured, and this many stored secrets need it: {row.secrets}; "
        "their keys are answered with 503 until it is configured again"
    )
