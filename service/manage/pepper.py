"""Which peppers the stored secrets need, and whether an old one may be taken out of the settings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backends.records import KeyState
from service.auth.clock import SystemClock
from service.manage.changes import has_previous

if TYPE_CHECKING:
    from datetime import datetime

    from backends.contract import KeyStore
    from service.auth.peppers import Peppers

__all__ = ["PepperRow", "PepperStatus", "pepper_status"]

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PepperRow:
    """One version that is configured or needed.

    ``secrets``: those that may still be presented. ``removable``: none of them needs it, and none will (it is older
    than the current one). A *newer* one without secrets is the next current one: accepted first, current later.
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


async def pepper_status(store: KeyStore, peppers: Peppers, *, now: datetime | None = None) -> PepperStatus:
    """Count the stored secrets by pepper and hold them against the settings; reads every key and may take long."""
    counts = await _needed(store, now or SystemClock().now())
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


async def _needed(store: KeyStore, now: datetime) -> Counter[int]:
    """Secrets that may still be presented, by pepper: those of revoked keys, and old ones that are over, need none."""
    counts: Counter[int] = Counter()
    after: str | None = ""
    while after is not None:
        page = await store.list_keys(after=after, limit=_PAGE)
        for record in page.items:
            if record.state is not KeyState.REVOKED:
                counts[record.secret.pepper_version] += 1
                if record.previous_secret is not None and has_previous(record, now):
                    counts[record.previous_secret.pepper_version] += 1
        after = page.next_after
    return counts


def _problem(row: PepperRow) -> str:
    return (
        f"pepper {row.version} is not configured, and this many stored secrets need it: {row.secrets}; "
        "their keys are answered with 503 until it is configured again"
    )
