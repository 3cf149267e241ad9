"""Bar charts as SVG: one bar a contender, its spread as a thin line, the figure beside it. Readable on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench.contender import Kind
    from benchmarks.bench.figures import Spread

__all__ = ["Bar", "bar_chart"]

_WIDTH: Final = 860
_LABELS: Final = 290  # where bars begin
_BARS: Final = 430  # the longest bar
_ROW: Final = 34
_TOP: Final = 66
_COLORS: Final[dict[Kind, str]] = {"gatekey": "#0f766e", "rival": "#94a3b8", "limit": "#c2410c"}
_FONT: Final = 'font-family="system-ui, -apple-system, \'Segoe UI\', Roboto, Arial, sans-serif" font-size="14"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """``text`` is the figure as it is shown."""

    label: str
    value: Spread
    text: str
    kind: Kind


def bar_chart(title: str, note: str, bars: Sequence[Bar]) -> str:
    """The bars in the given order; ``note`` says what they are and which end is better."""
    longest = max((bar.value.high for bar in bars), default=0.0) or 1.0
    height = _TOP + _ROW * len(bars) + 14
    rows = [line for index, bar in enumerate(bars) for line in _row(bar, _TOP + _ROW * index, longest)]
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    described = "; ".join(f"{bar.label}: {bar.text}" for bar in bars)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc" {_FONT}>',
            f'  <title id="title">{escape(title)}</title>',
            f'  <desc id="desc">{escape(note)}. {escape(described)}</desc>',
            f'  <rect width="{_WIDTH}" height="{height}" rx="12" fill="#ffffff"/>',
            f'  <text x="24" y="32" font-size="17" font-weight="600" fill="#0f172a">{escape(title)}</text>',
            f'  <text x="24" y="52" font-size="13" fill="#475569">{escape(note)}</text>',
            *rows,
            "</svg>",
            "",
        ]
    )


def _row(bar: Bar, top: int, longest: float) -> list[str]:
    middle = top + _ROW / 2
    length, low, high = (_BARS * value / longest for value in (bar.value.median, bar.value.low, bar.value.high))
    size = f'x="{_LABELS}" y="{top + 6}" width="{max(1.0, length):.1f}" height="{_ROW - 12}"'
    lines = [
        f'  <text x="{_LABELS - 10}" y="{middle + 5:g}" text-anchor="end" fill="#0f172a">{escape(bar.label)}</text>',
        f'  <rect {size} rx="3" fill="{_COLORS[bar.kind]}"/>',
    ]
    if high - low >= 1:
        lines.append(
            f'  <path d="M{_LABELS + low:.1f} {middle:g} H{_LABELS + high:.1f}" stroke="#0f172a" stroke-width="1.5"/>'
        )
    end = _LABELS + max(length, high) + 8
    lines.append(f'  <text x="{end:.1f}" y="{middle + 5:g}" fill="#0f172a">{escape(bar.text)}</text>')
    return lines
