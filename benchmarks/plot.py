"""Plots as SVG that read well on a light and on a dark page, and need nothing but this file.

A plot is a row of panels. Those of ``bars`` compare drivers, those of ``lines`` show growth, both axes logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

#: One colour per series, told apart also by those who do not see red or green; the same on light and dark.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
#: Height of a bar with the space below it, and width of its label.
_ROW = 20
_LABEL = 190
_STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.faint { fill: #57606a; font-size: 11px }
.axis { stroke: #8c959f; stroke-width: 1; fill: none }
.grid { stroke: #d0d7de; stroke-width: 0.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .faint { fill: #9198a1 }
  .grid { stroke: #3d444d }
}
</style>"""


@dataclass(frozen=True)
class Bars:
    """A panel of bars: a title with the unit, and a value for each label. Rows of one colour belong together."""

    title: str
    rows: Sequence[tuple[str, float, int]]
    digits: int = 0


@dataclass(frozen=True)
class Lines:
    """A panel of lines: points (x, y) for each series, both above 0."""

    title: str
    x_title: str
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def bars(panels: Sequence[Bars], *, width: int = 860, columns: int = 2) -> str:
    """Return an SVG of panels of bars."""
    gap = 24
    column = (width - gap * (columns - 1)) / columns
    parts: list[str] = []
    top = 0.0
    for begin in range(0, len(panels), columns):
        line = panels[begin : begin + columns]
        for place, panel in enumerate(line):
            parts += _panel_of_bars(panel, place * (column + gap), top, column)
        top += 26 + max(len(panel.rows) for panel in line) * _ROW + gap
    return _svg(width, top - gap + 6, parts)


def _panel_of_bars(panel: Bars, left: float, top: float, width: float) -> list[str]:
    parts = [_text(left, top + 14, panel.title, "title")]
    most = max((value for _, value, _ in panel.rows), default=0) or 1
    start, room = left + _LABEL, width - _LABEL - 60
    for number, (label, value, colour) in enumerate(panel.rows):
        y = top + 26 + number * _ROW
        length = max(value / most * room, 1)
        place = f'x="{start:.1f}" y="{y + 2:.1f}" width="{length:.1f}" height="{_ROW - 5}"'
        parts += [
            _text(start - 6, y + 13, label, anchor="end"),
            f'<rect {place} rx="2" fill="{COLOURS[colour % len(COLOURS)]}"/>',
            _text(start + length + 5, y + 13, f"{value:,.{panel.digits}f}", "faint"),
        ]
    return parts


def lines(panels: Sequence[Lines], *, width: int = 860, columns: int = 3) -> str:
    """Return an SVG of panels of lines, with one legend for all."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    gap, height, foot = 28, 190, 62
    column = (width - gap * (columns - 1)) / columns
    parts: list[str] = []
    for number, panel in enumerate(panels):
        left, top = number % columns * (column + gap), number // columns * (height + foot)
        parts += _panel_of_lines(panel, names, left, top, column, height)
    bottom = math.ceil(len(panels) / columns) * (height + foot)
    x = 0.0
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<rect x="{x:.1f}" y="{bottom - 1:.1f}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(_text(x + 17, bottom + 9, name))
        x += 34 + 7 * len(name)
    return _svg(width, bottom + 18, parts)


def _panel_of_lines(panel: Lines, names: list[str], left: float, top: float, width: float, height: float) -> list[str]:
    points = [point for line in panel.series.values() for point in line]
    parts = [_text(left, top + 14, panel.title, "title")]
    if not points:
        return parts
    x_axis = _Axis([x for x, _ in points], left + 46, left + width - 16)
    y_axis = _Axis([y for _, y in points], top + height, top + 30, whole_decades=True)
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts.append(f'<line class="grid" x1="{left + 46:.1f}" y1="{y:.1f}" x2="{left + width:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left + 41, y + 4, short(tick), "faint", "end"))
    at_x = sorted({x for x, _ in points})
    parts += [_text(x_axis.at(x), top + height + 16, short(x), "faint", "middle") for x in at_x]
    parts.append(_text((left + 46 + left + width) / 2, top + height + 34, panel.x_title, "faint", "middle"))
    parts.append(f'<path class="axis" d="M{left + 46:.1f} {top + 30:.1f}V{top + height:.1f}H{left + width:.1f}"/>')
    for name, line in panel.series.items():
        colour = COLOURS[names.index(name) % len(COLOURS)]
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]
    return parts


class _Axis:
    """A logarithmic axis between two places on the page."""

    def __init__(self, values: list[float], begin: float, end: float, *, whole_decades: bool = False) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        if whole_decades:
            low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
        self._low, self._span = low, (high - low) or 1
        self._begin, self._end = begin, end
        decades = range(math.floor(low), math.ceil(self._low + self._span) + 1)
        self.ticks = [10.0**exponent for exponent in decades]

    def at(self, value: float) -> float:
        """Return where a value is."""
        return self._begin + (math.log10(value) - self._low) / self._span * (self._end - self._begin)


def short(value: float) -> str:
    """Return a number as axes show it: 0.1, 20, 5k, 1M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def _svg(width: float, height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">'
    return "\n".join([head, _STYLE, *parts, "</svg>"]) + "\n"
