"""The steps by which a schema comes to be what this version of the code uses: numbered, only ever forward.

A step must be safe while processes of the version before it go on: it adds, and takes nothing away that they use.
A step that is released is never changed; a mistake in it is mended by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backends.postgres_migrations import m0001_keys, m0002_journal

__all__ = ["MIGRATIONS", "OLDEST_USABLE", "SCHEMA_VERSION", "Migration"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. Code made for the versions from ``compatible_from`` on works with the schema after it."""

    version: int
    title: str
    compatible_from: int
    sql: str


MIGRATIONS: Final = (
    Migration(1, "organizations, keys, their announcements and the list of changes", 1, m0001_keys.SQL),
    Migration(2, "use counts, audit trail and claims", 1, m0002_journal.SQL),
)

SCHEMA_VERSION: Final = MIGRATIONS[-1].version
"""The version that this code was made for."""

OLDEST_USABLE: Final = 2
"""The oldest schema that this code can work with."""
