"""Pages of listings, the same in every store."""

from __future__ import annotations

import pytest

from backends.errors import StoreCorrupt
from backends.paging import MAX_PAGE, check_limit, page_of, readable_page


@pytest.mark.parametrize("limit", [1, 2, MAX_PAGE])
def test_a_limit_is_from_1_to_1000(limit: int) -> None:
    """Both ends included."""
    check_limit(limit)


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_another_limit_is_refused(limit: int) -> None:
    """By the check and by the page."""
    with pytest.raises(ValueError, match="1 to 1000"):
        check_limit(limit)
    with pytest.raises(ValueError, match="1 to 1000"):
        page_of(["a"], limit, cursor=str)
    with pytest.raises(ValueError, match="1 to 1000"):
        readable_page(["a"], limit, str, cursor=str)


@pytest.mark.parametrize(
    ("items", "shown", "next_after"),
    [
        ([], (), None),
        (["a"], ("a",), None),
        (["a", "b"], ("a", "b"), None),
        (["a", "b", "c"], ("a", "b"), "B"),
    ],
    ids=["nothing", "less than a page", "exactly a page", "one more"],
)
def test_one_item_more_than_the_limit_proves_a_next_page(
    items: list[str], shown: tuple[str, ...], next_after: str | None
) -> None:
    """Its cursor is that of the last item shown."""
    page = page_of(items, 2, cursor=str.upper)
    assert (page.items, page.next_after) == (shown, next_after)


@pytest.mark.parametrize(
    ("rows", "shown", "next_after"),
    [
        (["a", "b", "c"], ("A", "B"), "b"),
        (["a!", "b", "c"], ("B",), "b"),
        (["a", "b!", "c"], ("A",), "b!"),
        (["a!", "b!", "c"], (), "b!"),
        (["a!", "b!"], (), None),
        (["a", "?!", "c"], ("A",), "a"),
        (["?!", "?!", "c"], (), None),
    ],
)
def test_what_cannot_be_read_is_left_out_and_counts_where_the_page_ends(
    rows: list[str], shown: tuple[str, ...], next_after: str | None
) -> None:
    """Only a row after which nobody could ask is not the last one of its page."""

    def read(row: str) -> str:
        if row.endswith("!"):
            raise StoreCorrupt("not readable")
        return row.upper()

    page = readable_page(rows, 2, read, cursor=lambda row: None if row == "?!" else row)
    assert (page.items, page.next_after) == (shown, next_after)
