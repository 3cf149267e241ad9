"""Bar charts as SVG: one bar a contender, its spread as a thin line, the figure beside it. Light or dark as the reader likes."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench.contender import Kind
    from benchmarks.bench.figures import Spread

__all__ = ["Bar", "bar_chart"]

_WIDTH: Final = 890
_LABELS: Final = 320  # where bars begin
_BARS: Final = 430  # the longest bar
_ROW: Final = 34
_TOP: Final = 66
_LEGEND: Final[dict[Kind, str]] = {"gatekey": "Gatekey", "rival": "others", "limit": "the limit"}
_LEGEND_WIDTHS: Final[dict[Kind, int]] = {"gatekey": 92, "rival": 80, "limit": 78}
_SPREAD: Final = "Thin lines: from the smallest to the largest round."
_STYLE: Final = """
    .card { fill: #ffffff } text { fill: #0f172a } .note { fill: #475569 }
    .gatekey { fill: #0f766e } .rival { fill: #94a3b8 } .limit { fill: #c2410c }
    .halo { stroke: #ffffff; stroke-width: 5 } .spread { stroke: #0f172a; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117 } text { fill: #e6edf3 } .note { fill: #9198a1 }
      .gatekey { fill: #14a295 } .rival { fill: #64748b } .limit { fill: #ea580c }
      .halo { stroke: #0d1117 } .spread { stroke: #e6edf3 }
    }
  """
"""A card of its own in either case, for a page whose colours are not those that the reader's system prefers."""
_FONT: Final = 'font-family="system-ui, -apple-system, \'Segoe UI\', Roboto, Arial, sans-serif" font-size="14"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """``text`` is the figure as it is shown."""

    label: str
    value: Spread
    text: str
    kind: Kind


def bar_chart(title: str, note: str, bars: Sequence[Bar]) -> str:
    """The bars in the given order; ``note`` says what they are and which end is better. Each chart says what its marks mean."""
    longest = max((bar.value.high for bar in bars), default=0.0) or 1.0
    height = _TOP + _ROW * len(bars) + 34
    rows = [line for index, bar in enumerate(bars) for line in _row(bar, _TOP + _ROW * index, longest)]
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    described = "; ".join(f"{bar.label}: {bar.text}" for bar in bars)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc" {_FONT}>',
            f'  <title id="title">{escape(title)}</title>',
            f'  <desc id="desc">{escape(note)}. {escape(described)}</desc>',
            f"  <style>{_STYLE}</style>",
            f'  <rect width="{_WIDTH}" height="{height}" rx="12" class="card"/>',
            f'  <text x="24" y="32" font-size="17" font-weight="600">{escape(title)}</text>',
            f'  <text x="24" y="52" font-size="13" class="note">{escape(note)}</text>',
            *_legend({bar.kind for bar in bars}),
            *rows,
            f'  <text x="{_LABELS}" y="{height - 14}" font-size="12" class="note">{_SPREAD}</text>',
            "</svg>",
            "",
        ]
    )


def _row(bar: Bar, top: int, longest: float) -> list[str]:
    middle = top + _ROW / 2
    length, low, high = (_BARS * value / longest for value in (bar.value.median, bar.value.low, bar.value.high))
    size = f'x="{_LABELS}" y="{top + 6}" width="{max(1.0, length):.1f}" height="{_ROW - 12}"'
    lines = [
        f'  <text x="{_LABELS - 10}" y="{middle + 5:g}" text-anchor="end">{escape(bar.label)}</text>',
        f'  <rect {size} rx="3" class="{bar.kind}"/>',
    ]
    if high - low >= 1:
        reach = f'd="M{_LABELS + low:.1f} {middle:g} H{_LABELS + high:.1f}"'
        lines += [f'  <path {reach} class="halo"/>', f'  <path {reach} class="spread"/>']
    end = _LABELS + max(length, high) + 8
    lines.append(f'  <text x="{end:.1f}" y="{middle + 5:g}">{escape(bar.text)}</text>')
    return lines


def _legend(kinds: set[Kind]) -> list[str]:
    """In the upper right corner, of the colours that occur."""
    lines = []
    left = _WIDTH - 24 - sum(_LEGEND_WIDTHS[kind] for kind in kinds)
    for kind, text in _LEGEND.items():
        if kind in kinds:
            lines.append(f'  <rect x="{left}" y="22" width="12" height="12" rx="2" class="{kind}"/>')
            lines.append(f'  <text x="{left + 18}" y="32" font-size="13" class="note">{text}</text>')
            left += _LEGEND_WIDTHS[kind]
    return lines
