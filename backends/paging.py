"""Pages of listings, the same in every store."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from backends.errors import StoreCorrupt
from backends.records import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MAX_PAGE", "check_limit", "page_of", "readable_page"]

MAX_PAGE: Final = 1_000

_Item = TypeVar("_Item")
_Row = TypeVar("_Row")


def check_limit(limit: int) -> None:
    """Raises ``ValueError`` unless ``limit`` is 1 to 1,000."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit is 1 to {MAX_PAGE}")


def page_of(items: Sequence[_Item], limit: int, *, cursor: Callable[[_Item], str]) -> Page[_Item]:
    """``items`` holds up to one more than ``limit``; that one proves that there is a next page."""
    check_limit(limit)
    return Page(tuple(items[:limit]), cursor(items[limit - 1]) if len(items) > limit else None)


def readable_page(
    rows: Sequence[_Row], limit: int, read: Callable[[_Row], _Item], *, cursor: Callable[[_Row], str | None]
) -> Page[_Item]:
    """``rows`` likewise. Those for which ``read`` raises ``StoreCorrupt`` are left out, but count where the page ends.

    ``cursor`` gives ``None`` for a row after which nobody could ask; then the page ends at the one before it.
    """
    check_limit(limit)
    items = []
    for row in rows[:limit]:
        with suppress(StoreCorrupt):
            items.append(read(row))
    if len(rows) <= limit:
        return Page(tuple(items), None)
    cursors = map(cursor, reversed(rows[:limit]))
    return Page(tuple(items), next((found for found in cursors if found is not None), None))
