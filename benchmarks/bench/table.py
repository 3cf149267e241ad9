"""Tables of Markdown whose columns are aligned, so that they can be read on a terminal too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["table"]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines; the first column is text, the others are figures and stand to the right."""
    widths = [max(3, *(len(row[index]) for row in (heads, *rows))) for index in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * width) if index == 0 else ("-" * (width - 1) + ":") for index, width in enumerate(widths)]
    return [line(heads), line(rule), *(line(row) for row in rows)]
