"""The ratios as a picture: what each way of finding leaks makes of the time of one operation; a plain SVG."""

from __future__ import annotations

from html import escape
from math import log10
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

COLOURS: Final = {
    "tracked": "#1f77b4",
    "accelerated": "#2ca02c",
    "contrib": "#9467bd",
    "warnings + debug": "#ff7f0e",
    "tracemalloc(16)": "#d62728",
}
LEFT: Final = 270
WIDTH: Final = 900
BAR: Final = 13
TICKS: Final = (1, 1.2, 1.5, 2, 3, 5, 10, 20)
_INK: Final = "#57606a"


def _x(ratio: float) -> float:
    return LEFT + (WIDTH - LEFT - 70) * max(0.0, log10(ratio)) / log10(TICKS[-1])


def _text(x: float, y: float, words: str, *, end: bool = False, size: int = 12) -> str:
    anchor = "end" if end else "start"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{_INK}">{escape(words)}</text>'
    )


def svg(works: Mapping[str, Mapping[str, float]], caption: str) -> str:
    """Return the picture of ratios by work and by way."""
    lines, y = [_text(10, 20, "Time of one operation, as a multiple of the untracked one (logarithmic)", size=14)], 50.0
    for place, (way, colour) in enumerate(COLOURS.items()):
        lines.append(f'<rect x="{10 + 170 * place}" y="32" width="12" height="12" fill="{colour}"/>')
        lines.append(_text(27 + 170 * place, 42, way))
    y += 20
    top = y
    for name, ratios in works.items():
        lines.append(_text(LEFT - 10, y + BAR, name, end=True))
        for way, colour in COLOURS.items():
            if way in ratios:
                width = max(1.0, _x(ratios[way]) - LEFT)
                lines.append(f'<rect x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>')
                lines.append(_text(LEFT + width + 4, y + BAR - 3, f"{ratios[way]:.2f}", size=10))
                y += BAR
        y += BAR / 2
    grid = [
        f'<line x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="{top}" y2="{y:.1f}" stroke="#d0d7de"/>'
        + _text(_x(tick) - 4, y + 14, f"{tick:g}", size=10)
        for tick in TICKS
    ]
    foot = _text(10, y + 34, caption, size=10)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 44:.0f}" font-family="sans-serif">'
    back = f'<rect width="{WIDTH}" height="{y + 44:.0f}" fill="#ffffff"/>'
    return "\n".join([head, back, *grid, *lines, foot, "</svg>", ""])
