"""Pages of listings, the same in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from backends.records import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MAX_PAGE", "check_limit", "page_of"]

MAX_PAGE: Final = 1_000

_Item = TypeVar("_Item")


def check_limit(limit: int) -> None:
    """Raises ``ValueError`` unless ``limit`` is 1 to 1,000."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit is 1 to {MAX_PAGE}")


def page_of(items: Sequence[_Item], limit: int, *, cursor: Callable[[_Item], str]) -> Page[_Item]:
    """``items`` holds up to one more than ``limit``; that one proves that there is a next page."""
    check_limit(limit)
    return Page(tuple(items[:limit]), cursor(items[limit - 1]) if len(items) > limit else None)
