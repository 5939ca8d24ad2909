"""What `coe economics` found, as text: a table for people, CSV for spreadsheets, JSON for programs. Pure functions.

Where on the path: the command line prints what comes out.

Rounding: each figure once, half to even, at its last decimal. The table shows USD of a day to the cent, prices per 1M
tokens and per GPU hour to six decimals, shares to a hundredth of a percent. CSV and JSON have USD of a day to the
pico-dollar, shares to six decimals; money, tokens and shares in them are exact decimals as
text, never a float.

Invariant: all three tell the same figures. What is unknown or can't be is `-`, an empty cell, `null`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from service.domain.comparison import Offer, Unpriced
from service.domain.economics import Account, Beside, fixed, margin, per_million
from service.domain.money import PICO, divide_half_even, usd_text

SHARE_DIGITS = 6
PRICE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Report:
    """An engine, its traffic, and what the same traffic costs elsewhere.

    `name` is the deployment that the engine is, `None` without one. `price` (pico-USD per token) and `sale` are what
    the traffic is sold for, where that was said; `ratio` is what an output token is worth in input tokens. `throughput`
    and `traffic` say where these figures are from.
    """

    name: str | None
    account: Account
    throughput: str
    traffic: str
    offers: Sequence[Offer]
    unpriced: Sequence[Unpriced] = ()
    price: int | None = None
    ratio: Fraction | None = None
    notes: Sequence[str] = field(default=())

    @property
    def sale(self) -> Beside | None:
        """Revenue and profit of a day at the price."""
        return None if self.price is None else self.account.sold_at(self.price)

    @property
    def title(self) -> str:
        """What the engine is called beside the APIs."""
        return self.name or "own engine"


def as_table(report: Report) -> str:
    """The engine, its figures one below the other, the APIs, and a sentence that says who is cheaper."""
    engine, traffic = report.account.engine, report.account.traffic
    gpus = f"{engine.gpus:,} {'GPU' if engine.gpus == 1 else 'GPUs'}"
    speed = f"{_tokens(engine.input_per_s)} input + {_tokens(engine.output_per_s)} output tokens/s at full load"
    mix = f"{_tokens(traffic.input)} input + {_tokens(traffic.output)} output tokens a day"
    cached = f"{_percent(traffic.cache_share)} of the input read from a prompt cache where there is one"
    lines = [
        f"engine   {report.title}: {gpus} at {usd_text(engine.pusd_per_gpu_hour)} USD an hour; {speed}",
        f"         {report.throughput}",
        f"traffic  {mix}, {report.traffic}",
        f"         {cached}; {_tokens(traffic.request_input_tokens)} input tokens a request",
        "",
        *_aligned(_figures(report)),
        "",
    ]
    if report.offers:
        head = ("API deployment", "quality", "USD a day", "USD per 1M", "more than own", "cheaper", "own cheaper from")
        rows = [head, *(_row(one) for one in report.offers)]
        lines += [*_columns(rows), ""]
    lines += [verdict(report), *(f"Note: {note}" for note in report.notes)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def verdict(report: Report) -> str:
    """Who is cheaper for this traffic, in a sentence."""
    if not report.offers:
        return "No API deployment with a known price to compare with."
    cheaper = sum(1 for one in report.offers if one.beside.difference_pusd < 0)
    best, own = report.offers[0], report.account.engine.pusd_per_day
    whole = f"{len(report.offers)} priced API deployment{'' if len(report.offers) == 1 else 's'}"
    first = f"{best.deployment.id} at {_usd(best.beside.pusd_per_day)} USD a day"
    mine = f"{report.name or 'The engine'} costs {_usd(Fraction(own))} USD a day"
    if not cheaper:
        return f"{mine}; of {whole} none is cheaper for the same traffic. The cheapest is {first}."
    return f"{mine}; {cheaper} of {whole} would be cheaper for the same traffic, first {first}."


def as_json(report: Report) -> str:
    """One object: `engine`, `traffic`, `own`, `sale` (`null` without a price), `apis`, `unpriced`, `notes`."""
    account = report.account
    engine, traffic = account.engine, account.traffic
    told = {
        "engine": {
            "deployment": report.name,
            "gpus": engine.gpus,
            "usd_per_gpu_hour": usd_text(engine.pusd_per_gpu_hour),
            "input_tokens_per_s": _plain(engine.input_per_s),
            "output_tokens_per_s": _plain(engine.output_per_s),
            "from": report.throughput,
        },
        "traffic": {
            "input_tokens_per_day": _whole(traffic.input),
            "output_tokens_per_day": _whole(traffic.output),
            "cache_share": fixed(traffic.cache_share, SHARE_DIGITS),
            "request_input_tokens": _plain(traffic.request_input_tokens),
            "from": report.traffic,
        },
        "own": _own(report),
        "sale": _sale(report),
        "apis": [_api(one) for one in report.offers],
        "unpriced": [{"deployment": one.deployment.id, "reason": one.reason} for one in report.unpriced],
        "notes": [verdict(report), *report.notes],
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def as_csv(report: Report) -> str:
    """A line for the engine (`kind` is `own`) and one for each API, with what the JSON says of each."""
    own = _own(report)
    rows: list[Mapping[str, object]] = [
        {"deployment": report.name, "kind": "own", **{name: own[name] for name in COLUMNS if name in own}},
        *({"kind": "api", **_api(one)} for one in report.offers),
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


FORMATS: Mapping[str, Callable[[Report], str]] = {"table": as_table, "csv": as_csv, "json": as_json}
"""What `--format` chooses from."""

COLUMNS = (
    "deployment",
    "kind",
    "model",
    "provider",
    "quality",
    "usd_per_day",
    "usd_per_million",
    "difference_usd_per_day",
    "cheaper",
    "break_even_load",
    "break_even_usd_per_gpu_hour",
    "price_version",
    "obstacle",
)
"""Of the CSV, in order."""


def _own(report: Report) -> dict[str, object]:
    account, apart = report.account, _apart(report)
    return {
        "usd_per_day": usd_text(account.engine.pusd_per_day),
        "tokens_per_day": _whole(account.traffic.total),
        "tokens_per_day_at_full_load": _whole(account.engine.tokens_per_day),
        "load": fixed(account.load, SHARE_DIGITS),
        "usd_per_million": fixed(per_million(account.pusd_per_token), PRICE_DIGITS),
        "input_usd_per_million": None if apart is None else fixed(per_million(apart[0]), PRICE_DIGITS),
        "output_usd_per_million": None if apart is None else fixed(per_million(apart[1]), PRICE_DIGITS),
    }


def _sale(report: Report) -> dict[str, object] | None:
    sale = report.sale
    if sale is None or report.price is None:
        return None
    share = margin(sale)
    return {
        "usd_per_million": fixed(per_million(Fraction(report.price)), PRICE_DIGITS),
        "revenue_usd_per_day": _exact(sale.pusd_per_day),
        "profit_usd_per_day": _exact(sale.difference_pusd),
        "margin": None if share is None else fixed(share, SHARE_DIGITS),
        "break_even_load": None if sale.load is None else fixed(sale.load, SHARE_DIGITS),
        "break_even_usd_per_gpu_hour": fixed(sale.pusd_per_gpu_hour / PICO, PRICE_DIGITS),
    }


def _api(one: Offer) -> dict[str, object]:
    beside = one.beside
    return {
        "deployment": one.deployment.id,
        "model": one.model.name,
        "provider": one.deployment.provider.name,
        "quality": one.model.quality_for("default"),
        "usd_per_day": _exact(beside.pusd_per_day),
        "usd_per_million": fixed(per_million(one.pusd_per_token), PRICE_DIGITS),
        "difference_usd_per_day": _exact(beside.difference_pusd),
        "cheaper": _cheaper(beside),
        "break_even_load": None if beside.load is None else fixed(beside.load, SHARE_DIGITS),
        "break_even_usd_per_gpu_hour": fixed(beside.pusd_per_gpu_hour / PICO, PRICE_DIGITS),
        "price_version": one.version,
        "obstacle": one.obstacle,
    }


def _cheaper(beside: Beside) -> str:
    if not beside.difference_pusd:
        return "same"
    return "own" if beside.difference_pusd > 0 else "api"


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """(what, figure, unit) of the engine's own line in the table."""
    account, apart, sale = report.account, _apart(report), report.sale
    rows = [
        ("cost", _usd(Fraction(account.engine.pusd_per_day)), "USD a day"),
        ("tokens", _tokens(account.traffic.total), f"a day, {_percent(account.load)} of full load"),
        ("break-even price", _price(account.pusd_per_token), "USD per 1M tokens: what they cost"),
    ]
    if apart is not None and report.ratio is not None:
        worth = f"with an output token worth {_plain(report.ratio)} input tokens"
        rows += [
            ("  input", _price(apart[0]), f"USD per 1M, {worth}"),
            ("  output", _price(apart[1]), "USD per 1M"),
        ]
    if sale is not None and report.price is not None:
        share = margin(sale)
        rows += [
            ("revenue", _usd(sale.pusd_per_day), f"USD a day at {_short(report.price)} USD per 1M tokens"),
            ("profit", _usd(sale.difference_pusd), "USD a day"),
            ("margin", "-" if share is None else _percent(share), "of the revenue"),
            ("break-even load", "-" if sale.load is None else _percent(sale.load), _reachable(sale.load)),
            ("break-even GPU hour", fixed(sale.pusd_per_gpu_hour / PICO, PRICE_DIGITS), "USD"),
        ]
    return rows


def _row(one: Offer) -> tuple[str, ...]:
    beside = one.beside
    never = beside.load is None or beside.load > 1
    return (
        one.deployment.id,
        f"{one.model.quality_for('default'):.2f}",
        _usd(beside.pusd_per_day),
        _price(one.pusd_per_token),
        _usd(beside.difference_pusd),
        {"own": "own", "api": "API", "same": "same"}[_cheaper(beside)],
        "never" if never or beside.load is None else f"{_percent(beside.load)} load",
    )


def _reachable(load: Fraction | None) -> str:
    return "of full load" if load is not None and load <= 1 else "of full load: more than the engine can do"


def _apart(report: Report) -> tuple[Fraction, Fraction] | None:
    return None if report.ratio is None else report.account.apart(report.ratio)


def _aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Figures with their last digit below each other."""
    left, right = (max(len(row[place]) for row in rows) for place in (0, 1))
    return [f"{what:<{left}}  {figure:>{right}} {unit}" for what, figure, unit in rows]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, figures to the right, a rule under the head."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    drawn = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [drawn[0], "  ".join("-" * width for width in widths), *drawn[1:]]


def _usd(pusd: Fraction) -> str:
    """USD to the cent."""
    return fixed(pusd / PICO, 2, commas=True)


def _exact(pusd: Fraction) -> str:
    """USD to the pico-dollar."""
    return usd_text(divide_half_even(pusd.numerator, pusd.denominator))


def _price(pusd_per_token: Fraction) -> str:
    return fixed(per_million(pusd_per_token), PRICE_DIGITS)


def _short(pusd_per_token: int) -> str:
    """A price as people write it: at least two decimals."""
    whole, _, rest = fixed(per_million(Fraction(pusd_per_token)), PRICE_DIGITS).partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def _percent(share: Fraction) -> str:
    return f"{fixed(share * 100, 2)} %"


def _tokens(count: Fraction) -> str:
    """Tokens as people read them: whole, or to a hundredth where few."""
    return fixed(count, 0 if count.denominator == 1 or count >= 1_000 else 2, commas=True)


def _whole(count: Fraction) -> str:
    return fixed(count, 0)


def _plain(value: Fraction) -> str:
    """A figure without needless digits: `3000`, `0.5`, `33.333333`."""
    return fixed(value, SHARE_DIGITS).rstrip("0").rstrip(".")
