"""What one request would cost that nobody has made yet: the same sum as `money.price`, without its records.

Where on the path: `routing` does it hundreds of times for one decision; `routing.quotes` holds the same in columns.

Invariant: it is what `price` would bill for the same tokens, to the pico-dollar.
"""

from __future__ import annotations

from typing import NamedTuple

from service.domain.money import PriceQuote


class Worst(NamedTuple):
    """What may make a bill dearer than its tokens: the buckets in which cache writes may be billed, and the tier asked.

    A service tier that is asked for may be served, at its price; a cheaper one may not be.
    """

    writes: tuple[str, ...] = ()
    service_tier: str | None = None


PLAIN: Worst = Worst()
"""Nothing is written, and no tier was asked for."""


def imagined(
    quote: PriceQuote,
    input_tokens: int,
    output_tokens: int,
    reasoning_tokens: int = 0,
    read_tokens: int = 0,
    written_tokens: int = 0,
) -> int | None:
    """What `price` says of one request with so much input and output, in pico-USD; `None` when a rate is unknown.

    `read_tokens` and `written_tokens` are the parts of the input that are read from a cache and written to one for five
    minutes. The same sum without a `Usage` and a `Cost` around it: routing does it hundreds of times for one decision.
    """
    rates = quote.rates_for(input_tokens)
    if rates.input is None or rates.output is None or rates.requests is None:
        return None
    reasoning = rates.output if rates.reasoning is None else rates.reasoning
    total = input_tokens * rates.input + output_tokens * rates.output + reasoning_tokens * reasoning + rates.requests
    if read_tokens and rates.cache_read is not None:
        total += read_tokens * (rates.cache_read - rates.input)
    if written_tokens and rates.cache_write_5m is not None:
        total += written_tokens * (rates.cache_write_5m - rates.input)
    return quote.pusd(total)
