"""What an engine of one's own costs a day, what a token of it costs, and where it breaks even. Pure and exact.

Where on the path: beside it; `coe economics` tells what comes out. `domain.comparison` prices the same traffic at APIs.

Units. Money is pico-USD, as whole numbers where it is an input and as fractions where it was divided. Tokens are those
of a day of 24 hours. A *load* is a share of what the engine can do, of all tokens alike, input and output: that is how
`SelfHosted.pusd_per_token` reckons, too. It may be above 1: then the traffic is more than the engine can do.

Invariants
1. No float, and no rounding before a figure is shown: `fixed` rounds once, half to even, as all of the house does.
2. An engine costs the same whatever it does; an API costs in proportion to the tokens. So there is one load at which
   both cost the same, one price per token, one price of a GPU hour; each follows from the others.
3. Sold for `pusd_per_token`, the traffic earns exactly what the engine costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final, NamedTuple

from service.domain.money import PICO_PER_TOKEN, divide_half_even
from service.domain.prices import SelfHosted

HOURS_A_DAY: Final = 24
SECONDS_A_DAY: Final = 86_400

REQUEST_INPUT_TOKENS: Final = Fraction(1_000)
"""Input of one request where nobody says: what chooses a price tier, and what a fee per request is spread over."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Tokens of one day: all input, cached or not, and all output, seen or not.

    `cache_share` of the input, in [0, 1], is read from a prompt cache where there is one. `request_input_tokens` are
    those of one request. Raises ValueError for less than nothing, for no tokens at all, and for a share that is none.
    """

    input: Fraction
    output: Fraction
    cache_share: Fraction = Fraction(0)
    request_input_tokens: Fraction = REQUEST_INPUT_TOKENS

    def __post_init__(self) -> None:
        """Nothing may be divided by nothing later."""
        if self.input < 0 or self.output < 0 or not self.total:
            raise ValueError(f"a day's tokens must be more than none, got {self.input} in and {self.output} out")
        if not 0 <= self.cache_share <= 1:
            raise ValueError(f"the cached share of the input must be from 0 to 1, got {self.cache_share}")
        if self.request_input_tokens <= 0:
            raise ValueError(f"a request must have input, got {self.request_input_tokens} tokens")

    @property
    def total(self) -> Fraction:
        """Input and output together."""
        return self.input + self.output

    @property
    def cached(self) -> Fraction:
        """Input tokens that are read from a cache."""
        return self.input * self.cache_share

    @property
    def requests(self) -> Fraction:
        """Requests of the day."""
        return self.input / self.request_input_tokens

    @property
    def size(self) -> int:
        """The input of one request as a price tier looks at it: above a whole bound exactly when the mean is."""
        return ceil(self.request_input_tokens)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine of one's own: what it costs to keep, and its tokens per second at full load, as measured.

    Raises ValueError for an engine without GPUs or throughput, and for a negative price.
    """

    gpus: int
    pusd_per_gpu_hour: int
    input_per_s: Fraction
    output_per_s: Fraction

    def __post_init__(self) -> None:
        """Nothing may be divided by nothing later."""
        if self.gpus < 1 or self.pusd_per_gpu_hour < 0:
            raise ValueError(f"an engine has at least one GPU at no less than 0, got {self.gpus}")
        if self.input_per_s < 0 or self.output_per_s < 0 or self.input_per_s + self.output_per_s == 0:
            raise ValueError("an engine does some tokens per second")

    @classmethod
    def of(cls, declared: SelfHosted) -> Engine:
        """As the registry declares it."""
        input_per_s, output_per_s = Fraction(declared.input_tokens_per_s), Fraction(declared.output_tokens_per_s)
        return cls(declared.gpus, declared.pusd_per_gpu_hour, input_per_s, output_per_s)

    @property
    def pusd_per_day(self) -> int:
        """What a day costs, whatever it does."""
        return self.gpus * self.pusd_per_gpu_hour * HOURS_A_DAY

    @property
    def tokens_per_day(self) -> Fraction:
        """What it does in a day at full load."""
        return (self.input_per_s + self.output_per_s) * SECONDS_A_DAY

    def traffic_at(self, load: Fraction) -> Traffic:
        """Its own mix of input and output for a day at a load above 0."""
        return Traffic(self.input_per_s * SECONDS_A_DAY * load, self.output_per_s * SECONDS_A_DAY * load)


class Beside(NamedTuple):
    """An amount for a day's traffic beside what the engine costs: somebody else's price of it, or what it is sold for.

    `pusd_per_day` is that amount, `difference_pusd` how much more it is than the engine costs. `load` is the load at
    which both are the same, `pusd_per_gpu_hour` the price of a GPU hour at which they are. For nothing at all no load
    is enough: `None`, and 0 where the engine costs nothing either.
    """

    pusd_per_day: Fraction
    difference_pusd: Fraction
    load: Fraction | None
    pusd_per_gpu_hour: Fraction


@dataclass(frozen=True, slots=True)
class Account:
    """An engine and the traffic of one day."""

    engine: Engine
    traffic: Traffic

    @property
    def load(self) -> Fraction:
        """The share of what the engine can do that the traffic is."""
        return self.traffic.total / self.engine.tokens_per_day

    @property
    def pusd_per_token(self) -> Fraction:
        """What a token costs, input and output alike: the price at which the traffic breaks even."""
        return self.engine.pusd_per_day / self.traffic.total

    def apart(self, ratio: Fraction) -> tuple[Fraction, Fraction]:
        """(pico-USD per input token, per output token) when an output token is worth `ratio` input tokens.

        The cost of the day, shared out in that ratio: with 1 both are `pusd_per_token`.
        """
        if ratio <= 0:
            raise ValueError(f"an output token must be worth something, got {ratio} input tokens")
        each = self.engine.pusd_per_day / (self.traffic.input + ratio * self.traffic.output)
        return each, each * ratio

    def beside(self, pusd_per_day: Fraction) -> Beside:
        """An amount for this traffic beside what the engine costs."""
        own = self.engine.pusd_per_day
        load = self.load * own / pusd_per_day if pusd_per_day else (None if own else Fraction(0))
        hour = pusd_per_day / (self.engine.gpus * HOURS_A_DAY)
        return Beside(pusd_per_day, pusd_per_day - own, load, hour)

    def sold_at(self, pusd_per_token: int) -> Beside:
        """The traffic sold at one price for any token: revenue, profit (`difference_pusd`), where it breaks even."""
        return self.beside(self.traffic.total * pusd_per_token)


def margin(sale: Beside) -> Fraction | None:
    """The share of the revenue that is profit; `None` without revenue."""
    return sale.difference_pusd / sale.pusd_per_day if sale.pusd_per_day else None


def per_million(pusd_per_token: Fraction) -> Fraction:
    """USD per 1M tokens."""
    return pusd_per_token / PICO_PER_TOKEN


def fixed(value: Fraction, places: int, *, commas: bool = False) -> str:
    """A figure with so many decimals, rounded once, half to even: `fixed(Fraction(1, 8), 2)` is `0.12`."""
    scaled = divide_half_even(value.numerator * 10**places, value.denominator)
    digits = str(abs(scaled)).rjust(places + 1, "0")
    whole, rest = (digits[:-places], "." + digits[-places:]) if places else (digits, "")
    return ("-" if scaled < 0 else "") + (f"{int(whole):,}" if commas else whole) + rest
