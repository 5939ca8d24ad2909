"""What the able of a shortlist cost at an instant: their quotes, and the rates in them as columns of numbers.

Where on the path: `shortlist` holds one of these until a price changes; `columns` multiplies its sheets.

Invariants
1. The quotes are those that the price books give for every instant of the span.
2. A sheet tells the same prices as the quotes do: `rounded` gives what `money.imagined` gives, to the pico-USD.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from service.domain.catalog import Deployment, Model
from service.domain.money import FX_SCALE, ONE, PriceQuote, divide_half_even
from service.domain.prices import DAWN, DUSK
from service.routing.prefixes import WRITES, dearest_input, writes_of

Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Able = tuple[tuple[Deployment, Model], ...]

SUM_MOST: Final = 2**62
"""No sum in a column gets larger: half of what 64 bits hold."""


class Rates(NamedTuple):
    """What one row costs for prompts of a size, in pico-units of its currency a token (`fee`: a request).

    `writes` and `marked_writes` are what a token costs more that is written to a cache: of any request, and of one that
    marks what to write. `dearest` and `marked_dearest` are the highest prices of an input token in the same two cases,
    `dear` that of an output token. A sum is pico-USD after it was multiplied by `factor` / `divisor`.
    """

    fresh: int
    said: int
    thought: int
    fee: int
    writes: int
    marked_writes: int
    dearest: int
    marked_dearest: int
    dear: int
    factor: int
    divisor: int


FREE: Final = Rates(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1)
"""What stands in a row without a price."""


class Sheet(NamedTuple):
    """The rates of all rows, as columns. `None` for writes: nobody bills them.

    `foreign` are the rows whose sums are still to be multiplied, `factor` and `divisor` are theirs. `unpriced` flags
    the rows without a known price, `None` where there are none. `most` is more than any rate is, in either currency.
    """

    fresh: Whole
    said: Whole
    thought: Whole
    fee: Whole
    writes: Whole | None
    marked_writes: Whole | None
    dearest: Whole
    marked_dearest: Whole
    dear: Whole
    foreign: Whole | None
    factor: Whole
    divisor: Whole
    unpriced: Flags | None
    most: int

    def holds(self, tokens: int) -> bool:
        """Whether so many tokens at the highest rate, and a fee, stay within what a column can hold."""
        return tokens < SUM_MOST and (tokens + 1) * self.most < SUM_MOST

    def priced(self, row: int) -> bool:
        """Whether a row has a known price."""
        return self.unpriced is None or not self.unpriced[row]

    def rounded(self, total: Whole) -> Whole:
        """Sums in pico-units as pico-USD, as `money.divide_half_even` rounds them. Changes them in place."""
        if self.foreign is None:
            return total
        # Whole and rest are multiplied apart: a product of both would not fit.
        whole, rest = np.divmod(total[self.foreign], self.divisor)
        more, rest = np.divmod(rest * self.factor, self.divisor)
        whole = whole * self.factor + more
        twice = 2 * rest
        whole += (twice > self.divisor) | ((twice == self.divisor) & (whole % 2 == 1))
        total[self.foreign] = whole
        return total


class Quotes:
    """What every row costs, from an instant until another one.

    `gaps` are the rows whose price is unknown for some prompt. `plain`: all are known, in USD and outside any window.
    """

    __slots__ = ("_able", "_bounds", "_rates", "_sheets", "each", "gaps", "plain", "since", "until")

    def __init__(self, able: Able, at: datetime) -> None:
        since, until = DAWN, DUSK
        for deployment, _ in able:
            first, last = deployment.prices.steady(at)
            since, until = max(since, first), min(until, last)
        self.since = since
        self.until = until
        self.each: tuple[PriceQuote | None, ...] = tuple([one.prices.quote(at) for one, _ in able])
        self.gaps = tuple([row for row, quote in enumerate(self.each) if not priced(quote)])
        self.plain = not self.gaps and all(
            one is not None and one.multiplier == ONE and one.fx.nano_usd == FX_SCALE for one in self.each
        )
        self._able = able
        bounds = {tier.above_input_tokens for quote in self.each if quote is not None for tier in quote.tiers}
        self._bounds = sorted(bounds)
        self._rates: dict[int, tuple[Rates | None, ...]] = {}
        self._sheets: dict[int, Sheet | None] = {}

    def rates(self, input_tokens: int) -> tuple[Rates | None, ...]:
        """The rates for a prompt of a size, `None` where the price is unknown: the same between two bounds of tiers."""
        span = bisect_left(self._bounds, input_tokens) if self._bounds else 0
        found = self._rates.get(span)
        if found is None:
            rows = zip(self._able, self.each, strict=True)
            found = tuple([_rates(deployment, quote, input_tokens) for (deployment, _), quote in rows])
            self._rates[span] = found
        return found

    def pusd(self, sums: list[int], input_tokens: int) -> list[int | None]:
        """Sums in pico-units of each row as pico-USD, for a prompt of a size; `None` where the price is unknown."""
        if self.plain:
            return [*sums]
        rows = zip(self.rates(input_tokens), sums, strict=True)
        return [
            None
            if rates is None
            else total
            if rates.factor == rates.divisor
            else divide_half_even(total * rates.factor, rates.divisor)
            for rates, total in rows
        ]

    def sheet(self, input_tokens: int) -> Sheet | None:
        """The same as columns; `None` when a rate is too large for one."""
        span = bisect_left(self._bounds, input_tokens) if self._bounds else 0
        if span not in self._sheets:
            self._sheets[span] = _sheet(self.rates(input_tokens))
        return self._sheets[span]


def priced(quote: PriceQuote | None) -> bool:
    """Whether a price is known for a prompt of any size."""
    if quote is None:
        return False
    every = (quote.rates, *[tier.rates for tier in quote.tiers])
    return quote.known and all(rates.requests is not None for rates in every)


def _sheet(rows: Sequence[Rates | None]) -> Sheet | None:
    known = [row or FREE for row in rows]
    most = max([max(map(abs, row[:9])) * max(1, -(-row.factor // row.divisor)) for row in known]) + 1
    if most >= SUM_MOST or max([row.factor * row.divisor for row in known]) >= SUM_MOST:
        return None
    *rates, factor, divisor = (column_of(column) for column in zip(*known, strict=True))
    fresh, said, thought, fee, writes, marked_writes, dearest, marked_dearest, dear = rates
    foreign = np.flatnonzero((factor != 1) | (divisor != 1))
    return Sheet(
        fresh,
        said,
        thought,
        fee,
        writes if writes.any() else None,
        marked_writes if marked_writes.any() else None,
        dearest,
        marked_dearest,
        dear,
        foreign if foreign.size else None,
        factor[foreign],
        divisor[foreign],
        np.array([row is None for row in rows]) if None in rows else None,
        most,
    )


def _rates(deployment: Deployment, quote: PriceQuote | None, input_tokens: int) -> Rates | None:
    if quote is None:
        return None
    rates = quote.rates_for(input_tokens)
    if not quote.known or rates.input is None or rates.output is None or rates.requests is None:
        return None
    factor = quote.multiplier.numerator * quote.fx.nano_usd
    divisor = quote.multiplier.denominator * FX_SCALE
    shared = math.gcd(factor, divisor)
    thought = rates.output if rates.reasoning is None else rates.reasoning
    marked = 0 if rates.cache_write_5m is None else rates.cache_write_5m - rates.input
    unasked = writes_of(deployment, marked=False)
    return Rates(
        rates.input,
        rates.output,
        thought,
        rates.requests,
        marked if unasked else 0,
        marked,
        dearest_input(rates, unasked),
        dearest_input(rates, WRITES),
        max(rates.output, thought),
        factor // shared,
        divisor // shared,
    )


def column_of(values: Sequence[int]) -> Whole:
    """A column of whole numbers that nobody changes."""
    column = np.array(values, dtype=np.int64)
    column.flags.writeable = False
    return column
