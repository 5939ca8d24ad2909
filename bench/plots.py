"""Line charts as plain SVG: a logarithmic axis below, or a linear one; a linear one from zero at the left.

Readable in light and dark.

Pure: figures in, text out. No library draws, so that the pictures in docs can be made again anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 78, 28, 56, 62
TICKS = 5
"""Of the axis at the left, about."""

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .quiet { fill: #59636e; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .line { fill: none; stroke-width: 2; }
  .s0 { stroke: #0969da; } .f0 { fill: #0969da; }
  .s1 { stroke: #bc4c00; } .f1 { fill: #bc4c00; }
  .s2 { stroke: #1a7f37; } .f2 { fill: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .quiet { fill: #9198a1; } .grid { stroke: #3d444d; }
    .s0 { stroke: #4493f8; } .f0 { fill: #4493f8; }
    .s1 { stroke: #f0883e; } .f1 { fill: #f0883e; }
    .s2 { stroke: #3fb950; } .f2 { fill: #3fb950; }
  }
"""
"""No background: it lies on whatever the page has, and both sets of colours stand out from it."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line: what it shows, and its points (x, y) from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of up to three lines. Units belong into the labels of the axes.

    Without `ticks` the axis below is logarithmic; each of its points has its figure, and one at x = 0 stands apart.
    With `ticks` it is linear, and has figures there.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    ticks: Sequence[float] = ()

    def svg(self) -> str:
        """The whole file."""
        box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
            f"<style>{STYLE}</style>",
            f'<text class="title" x="{LEFT}" y="22">{escape(self.title)}</text>',
            *self._legend(),
            *self._across(),
            *self._up(),
        ]
        for number, series in enumerate(self.series):
            path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in series.points)
            parts.append(f'<polyline class="line s{number}" points="{path}"/>')
            for x, y in series.points:
                told = escape(f"{series.name}: {y:,.4g} at {x:,g}")
                place = f'cx="{self._x(x):.1f}" cy="{self._y(y):.1f}"'
                size = 1.5 if self.ticks else 3.5
                parts.append(f'<circle class="f{number}" {place} r="{size}"><title>{told}</title></circle>')
        return "\n".join([*parts, "</svg>\n"])

    def _legend(self) -> list[str]:
        """Names of the lines under the title."""
        parts, left = [], float(LEFT)
        for number, series in enumerate(self.series):
            parts += [
                f'<circle class="f{number}" cx="{left + 5:.0f}" cy="38" r="4"/>',
                f'<text class="quiet" x="{left + 14:.0f}" y="42">{escape(series.name)}</text>',
            ]
            left += 34 + 7.2 * len(series.name)
        return parts

    def _xs(self) -> list[float]:
        return sorted({x for series in self.series for x, _ in series.points})

    def _bounds(self) -> tuple[float, float]:
        """The exponents of ten at both ends; room for x = 0 is one step to the left."""
        positive = [x for x in self._xs() if x > 0]
        low, high = math.log10(positive[0]), math.log10(positive[-1])
        if 0 in self._xs():
            low -= 1
        return low, high if high > low else low + 1

    def _x(self, x: float) -> float:
        if self.ticks:
            first, *_, last = self._xs()
            return LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        low, high = self._bounds()
        exponent = math.log10(x) if x > 0 else low
        return LEFT + (exponent - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _y(self, y: float) -> float:
        top = self._steps()[-1]
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    def _steps(self) -> list[float]:
        """Round figures from zero to above the largest one."""
        largest = max((y for series in self.series for _, y in series.points), default=1.0) or 1.0
        rough = largest / TICKS
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * times for times in (1, 2, 2.5, 5, 10) if size * times >= rough)
        return [step * number for number in range(math.ceil(largest / step) + 1)]

    def _across(self) -> list[str]:
        """The axis below: each point that was measured has its figure."""
        parts = []
        for x in self.ticks or self._xs():
            place, under = self._x(x), HEIGHT - BOTTOM + 20
            parts += [
                f'<line class="grid" x1="{place:.1f}" y1="{TOP}" x2="{place:.1f}" y2="{HEIGHT - BOTTOM}"/>',
                f'<text class="quiet" x="{place:.1f}" y="{under}" text-anchor="middle">{short(x)}</text>',
            ]
        middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
        parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 14}" text-anchor="middle">{escape(self.x_label)}</text>')
        return parts

    def _up(self) -> list[str]:
        """The axis at the left."""
        parts = []
        for y in self._steps():
            place = self._y(y)
            parts += [
                f'<line class="grid" x1="{LEFT}" y1="{place:.1f}" x2="{WIDTH - RIGHT}" y2="{place:.1f}"/>',
                f'<text class="quiet" x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{short(y)}</text>',
            ]
        middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
        turned = f'transform="rotate(-90 18 {middle:.0f})"'
        parts.append(f'<text x="18" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(self.y_label)}</text>')
        return parts


def short(value: float) -> str:
    """A figure for an axis: 1,500; 12.5k; 1M."""
    for least, size, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{value / size:g}{letter}"
    return f"{value:,g}"
