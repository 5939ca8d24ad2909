"""What an engine of one's own and the APIs cost a day over its load, as a plain SVG file. Pure: a report in, text out.

Where on the path: `coe economics --plot FILE` writes what comes out.

The engine costs the same at every load; an API costs in proportion to it. Where an API's line crosses the engine's,
both cost the same: right of it the engine is cheaper. Readable in light and dark, and without colours by the dashes; no
background, it lies on whatever the page has. Floats are places in the picture only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import Final

from service.cli.economics_tables import Report
from service.domain.comparison import Offer
from service.domain.economics import fixed, per_million
from service.domain.money import PICO

SPREAD: Final = (Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(3, 2), Fraction(3))
"""Which APIs are drawn when none are named: those that cost at full load about so many times what the engine does."""

HIGHEST: Final = 2
"""The picture ends at so many times what the engine costs; a steeper line leaves it at the top."""

WIDTH, LEFT, RIGHT, TOP, DEEP = 760, 86, 24, 48, 300
"""In pixels; `DEEP` is the height of the field that the lines are in."""

STEPS: Final = (1, 2, 5, 10)
TICKS: Final = 5

STYLE: Final = """
  text { font: 13px system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .quiet { fill: #59636e; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .now { stroke: #59636e; stroke-width: 1; stroke-dasharray: 2 3; }
  .line { fill: none; stroke-width: 2; }
  .own { stroke-width: 3; }
  .s0 { stroke: #1f2328; } .f0 { fill: #1f2328; }
  .s1 { stroke: #0969da; } .f1 { fill: #0969da; }
  .s2 { stroke: #bc4c00; } .f2 { fill: #bc4c00; }
  .s3 { stroke: #1a7f37; } .f3 { fill: #1a7f37; }
  .s4 { stroke: #8250df; } .f4 { fill: #8250df; }
  .s5 { stroke: #bf3989; } .f5 { fill: #bf3989; }
  .s6 { stroke: #7d4e00; } .f6 { fill: #7d4e00; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .quiet { fill: #9198a1; } .grid { stroke: #3d444d; } .now { stroke: #9198a1; }
    .s0 { stroke: #f0f6fc; } .f0 { fill: #f0f6fc; }
    .s1 { stroke: #4493f8; } .f1 { fill: #4493f8; }
    .s2 { stroke: #f0883e; } .f2 { fill: #f0883e; }
    .s3 { stroke: #3fb950; } .f3 { fill: #3fb950; }
    .s4 { stroke: #ab7df8; } .f4 { fill: #ab7df8; }
    .s5 { stroke: #db61a2; } .f5 { fill: #db61a2; }
    .s6 { stroke: #d29922; } .f6 { fill: #d29922; }
  }
"""

DASHES: Final = ("", "", "8 4", "2 3", "10 3 2 3", "5 5", "12 4")
"""Of the engine's line, then of the others; the last is the price that the traffic is sold at."""

SOLD: Final = 6
"""The colour and dashes of that."""

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "Cost of a day over load: own engine and APIs",
        "x": "load: share of what the engine can do (%)",
        "y": "USD a day",
        "engine": "own engine",
        "own": "{name}: {usd} USD a day at any load",
        "api": "{name}: {price} USD per 1M tokens, {told}",
        "sold": "sold at {price} USD per 1M tokens, {told}",
        "from": "own is cheaper from {load} %",
        "never": "always cheaper than own",
        "now": "load now: {load} %",
    },
    "zh": {
        "title": "每日成本与负载：自建引擎与各家 API",
        "x": "负载：占引擎满载能力的百分比（%）",
        "y": "每日成本（美元）",
        "engine": "自建引擎",
        "own": "{name}：任何负载下均为每日 {usd} 美元",
        "api": "{name}：每百万词元 {price} 美元，{told}",
        "sold": "按每百万词元 {price} 美元出售，{told}",
        "from": "负载达到 {load} % 后自建更便宜",
        "never": "始终比自建便宜",
        "now": "当前负载：{load} %",
    },
}
"""What is written in the picture, by `--lang`."""

_SALE: Final = {
    "en": {"from": "profit from {load} % on", "never": "never a profit"},
    "zh": {"from": "负载达到 {load} % 后盈利", "never": "始终亏损"},
}


@dataclass(frozen=True, slots=True)
class Line:
    """From nothing at no load to `full` USD a day at full load; it meets the engine's at `meets`, if it does."""

    told: str
    full: Fraction
    meets: Fraction | None
    look: int


def svg(report: Report, lang: str = "en", against: Sequence[str] = ()) -> str:
    """The whole file. `against` names the APIs to draw (`provider/model`); none: those nearest to the engine's cost."""
    words, own = WORDS[lang], Fraction(report.account.engine.pusd_per_day, PICO)
    lines = _lines(report, lang, chosen(report, against))
    highest = max([own, *(line.full for line in lines)]) or Fraction(1)
    if own:
        highest = min(highest, HIGHEST * own)
    ticks = _ticks(highest)
    field = _Field(float(ticks[-1]))
    title = words["title"]
    height = TOP + DEEP + 62 + 20 * (len(lines) + 1)
    box = f'viewBox="0 0 {WIDTH} {height}" role="img" lang="{lang}" aria-label="{escape(title)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
        *_axes(field, words, ticks),
        *_now(field, words, report.account.load),
        *(_drawn(field, line, ticks[-1]) for line in lines),
        f'<line class="line own s0" {field.span(0, own, 1, own)}/>',
        *(_meeting(field, line, own) for line in lines if line.meets is not None),
    ]
    told_own = words["own"].format(name=report.name or words["engine"], usd=fixed(own, 2, commas=True))
    parts += _legend([(told_own, 0), *((line.told, line.look) for line in lines)])
    return "\n".join([*parts, "</svg>\n"])


def chosen(report: Report, against: Sequence[str] = ()) -> list[Offer]:
    """The APIs to draw, cheapest first. Unnamed: all, or for each of `SPREAD` the one that is nearest, by ratio.

    Of those that cost the same the best is drawn; those that are free only when named.
    """
    if against:
        return [one for one in report.offers if one.deployment.id in against]
    own, load = report.account.engine.pusd_per_day, report.account.load
    apart: dict[Fraction, Offer] = {}
    for one in report.offers:
        full = one.beside.pusd_per_day / load
        held = apart.get(full)
        if full and (held is None or one.model.quality_for("default") > held.model.quality_for("default")):
            apart[full] = one
    if len(apart) <= len(SPREAD) or not own:
        return [apart[full] for full in sorted(apart)[: len(SPREAD)]]
    nearest = {min(apart, key=lambda full: max(full / (own * times), own * times / full)) for times in SPREAD}
    return [apart[full] for full in sorted(nearest)]


def _lines(report: Report, lang: str, offers: Sequence[Offer]) -> list[Line]:
    """What is drawn beside the engine's line: the APIs, then what the traffic is sold for."""
    words, load = WORDS[lang], report.account.load
    lines = []
    for number, one in enumerate(offers, 1):
        price = fixed(per_million(one.pusd_per_token), 2)
        meets = _within(one.beside.load)
        told = words["api"].format(name=one.deployment.id, price=price, told=_meets(words, meets))
        look = (number - 1) % len(SPREAD) + 1
        lines.append(Line(told, one.beside.pusd_per_day / load / PICO, meets, look))
    sale = report.sale
    if sale is not None and report.price is not None:
        meets = _within(sale.load)
        price = fixed(per_million(Fraction(report.price)), 2)
        told = words["sold"].format(price=price, told=_meets(_SALE[lang], meets))
        lines.append(Line(told, sale.pusd_per_day / load / PICO, meets, SOLD))
    return lines


def _within(load: Fraction | None) -> Fraction | None:
    """A load that the engine can have, or `None`."""
    return load if load is not None and load <= 1 else None


def _meets(words: Mapping[str, str], meets: Fraction | None) -> str:
    return words["never"] if meets is None else words["from"].format(load=fixed(meets * 100, 1))


@dataclass(frozen=True, slots=True)
class _Field:
    """Where in the picture a load and an amount are; `top` is the amount at the upper edge."""

    top: float

    def x(self, load: Fraction | float) -> float:
        return LEFT + float(load) * (WIDTH - LEFT - RIGHT)

    def y(self, usd: Fraction | float) -> float:
        return TOP + DEEP - float(usd) / self.top * DEEP

    def span(self, x1: Fraction | float, y1: Fraction | float, x2: Fraction | float, y2: Fraction | float) -> str:
        """The ends of a line, as attributes."""
        return f'x1="{self.x(x1):.1f}" y1="{self.y(y1):.1f}" x2="{self.x(x2):.1f}" y2="{self.y(y2):.1f}"'


def _drawn(field: _Field, line: Line, top: Fraction) -> str:
    """A line from nothing on, up to full load or the upper edge."""
    end = min(Fraction(1), top / line.full) if line.full else Fraction(1)
    dashes = f' stroke-dasharray="{DASHES[line.look]}"' if DASHES[line.look] else ""
    ends = field.span(0, 0, end, line.full * end)
    return f'<line class="line s{line.look}"{dashes} {ends}><title>{escape(line.told)}</title></line>'


def _meeting(field: _Field, line: Line, own: Fraction) -> str:
    meets = line.meets or Fraction(0)
    place = f'cx="{field.x(meets):.1f}" cy="{field.y(own):.1f}"'
    return f'<circle class="f{line.look}" {place} r="4.5"><title>{escape(line.told)}</title></circle>'


def _axes(field: _Field, words: Mapping[str, str], ticks: Sequence[Fraction]) -> list[str]:
    """Both axes with their figures and labels."""
    parts, under = [], TOP + DEEP
    for percent in range(0, 101, 20):
        load = Fraction(percent, 100)
        parts += [
            f'<line class="grid" {field.span(load, 0, load, ticks[-1])}/>',
            f'<text class="quiet" x="{field.x(load):.1f}" y="{under + 20}" text-anchor="middle">{percent}</text>',
        ]
    places = 0 if all(tick.denominator == 1 for tick in ticks) else 2
    for tick in ticks:
        shown = fixed(tick, places, commas=True)
        parts += [
            f'<line class="grid" {field.span(0, tick, 1, tick)}/>',
            f'<text class="quiet" x="{LEFT - 8}" y="{field.y(tick) + 4:.1f}" text-anchor="end">{shown}</text>',
        ]
    middle, half = LEFT + (WIDTH - LEFT - RIGHT) // 2, TOP + DEEP // 2
    turned = f'transform="rotate(-90 20 {half})"'
    return [
        *parts,
        f'<text x="{middle}" y="{under + 42}" text-anchor="middle">{escape(words["x"])}</text>',
        f'<text x="20" y="{half}" text-anchor="middle" {turned}>{escape(words["y"])}</text>',
    ]


def _now(field: _Field, words: Mapping[str, str], load: Fraction) -> list[str]:
    """The load that the traffic is, where it is within the picture and not its edge."""
    if load >= 1:
        return []
    told, anchor = words["now"].format(load=fixed(load * 100, 1)), "start" if load < Fraction(1, 2) else "end"
    place = field.x(load) + (6 if anchor == "start" else -6)
    return [
        f'<line class="now" {field.span(load, 0, load, field.top)}/>',
        f'<text class="quiet" x="{place:.1f}" y="{TOP - 6}" text-anchor="{anchor}">{escape(told)}</text>',
    ]


def _legend(rows: Sequence[tuple[str, int]]) -> list[str]:
    """One row for each line, under the picture."""
    parts, place = [], TOP + DEEP + 66
    for told, look in rows:
        dashes = f' stroke-dasharray="{DASHES[look]}"' if DASHES[look] else ""
        wide = " own" if look == 0 else ""
        parts += [
            f'<path class="line{wide} s{look}"{dashes} d="M{LEFT} {place - 4}h34"/>',
            f'<text x="{LEFT + 44}" y="{place}">{escape(told)}</text>',
        ]
        place += 20
    return parts


def _ticks(highest: Fraction) -> list[Fraction]:
    """Round amounts from zero to at least the highest."""
    rough, size = highest / TICKS, Fraction(1)
    while size > rough:
        size /= 10
    while size * 10 <= rough:
        size *= 10
    step = next(size * times for times in STEPS if size * times >= rough)
    return [step * number for number in range(-(-highest // step) + 1)]
