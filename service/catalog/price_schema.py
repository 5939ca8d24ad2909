"""Prices as providers.yaml writes them: dated lists, tiers, windows, service tiers, and engines of one's own.

Where on the path: part of `schema`; `price_book` turns these into `domain.prices`.

Units: every token price is per 1,000,000 tokens, in the currency that the entry names.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.catalog.fields import NAME, NAME_SHAPE, Day, Number, OneOrMany, Text, Whole
from service.catalog.words import CURRENCY_SHAPE

MAX_MULTIPLIER = Decimal(10)
"""A window or service tier that multiplies by more is a typing error."""

MAX_WINDOWS = 24
"""Windows of a price, and spans of a window: one for every hour of the day. All are compared with each other."""

MAX_TIERS = 50
"""Tiers of a price; vendors have up to four."""

MAX_RATE = Decimal(1_000_000)
"""A price per 1M tokens in any currency; the bound that counts, in USD, is checked after conversion."""

MAX_ENGINE_TOKENS_PER_S = 100_000_000
"""Throughput of one deployment: a thousand times what a rack does today."""

RATE_DECIMALS = 6
"""Digits after the point that a price per 1M tokens may have, so that the price of one token is a whole pico-unit."""

Rate = Annotated[Decimal, Number(Decimal(0), MAX_RATE, decimals=RATE_DECIMALS)]
Factor = Annotated[Decimal, Number(Decimal(0), MAX_MULTIPLIER, above=True, decimals=RATE_DECIMALS)]
SPAN = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
Span = Annotated[
    str, Text("a span of hours", SPAN, "write HH:MM-HH:MM, such as 01:00-04:00; an end at midnight is 24:00")
]
DAYS = r"(?:mon|tue|wed|thu|fri|sat|sun)(?:-(?:mon|tue|wed|thu|fri|sat|sun))?"
DayRange = Annotated[str, Text("days of the week", DAYS, "write mon, tue, … or a range such as mon-fri")]


class Entry(BaseModel):
    """What every mapping of the file shares: unknown fields are errors, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class RateFields(Entry):
    """The rates that are optional everywhere."""

    cache_read: Rate | None = Field(
        None, description="Price of 1M input tokens read from the prompt cache. Absent: the full input price. 0: free."
    )
    cache_write: Rate | None = Field(
        None, description="Price of 1M input tokens written to the prompt cache, for 5 minutes. Absent: as input."
    )
    cache_write_1h: Rate | None = Field(
        None, description="Price of 1M input tokens written to the prompt cache for longer. Absent: as cache_write."
    )
    reasoning: Rate | None = Field(None, description="Price of 1M hidden thinking tokens. Absent: the output price.")
    audio_in: Rate | None = Field(None, description="Price of 1M audio input tokens. Absent: the input price.")
    audio_out: Rate | None = Field(None, description="Price of 1M audio output tokens. Absent: the output price.")
    image: Rate | None = Field(None, description="Price of 1M image input tokens. Absent: the input price.")


class TierEntry(RateFields):
    """Prices of the whole request once its input is larger than a bound."""

    above_input_tokens: Annotated[int, Whole(1, 100_000_000)] = Field(
        description="The tier applies when the request has more input tokens than this (cached ones counted)."
    )
    input: Rate = Field(description="Price of 1M input tokens in this tier.")
    output: Rate = Field(description="Price of 1M output tokens in this tier.")


class WindowEntry(Entry):
    """Hours of the week in which the whole price is multiplied. Write `utc`, or `hours` with `zone`."""

    utc: Annotated[list[Span], Field(max_length=MAX_WINDOWS), OneOrMany()] | None = Field(
        None, description="Spans of hours in UTC, HH:MM-HH:MM, the end excluded. Quote them."
    )
    hours: Annotated[list[Span], Field(max_length=MAX_WINDOWS), OneOrMany()] | None = Field(
        None, description="Spans of hours in `zone`, HH:MM-HH:MM, the end excluded. Quote them."
    )
    zone: Annotated[str, Text("a time zone")] | None = Field(
        None, description="IANA time zone of `hours`, such as Asia/Shanghai."
    )
    days: Annotated[list[DayRange], OneOrMany()] | None = Field(
        None, description="Days of the week on which a span may begin, such as mon-fri. Absent: every day."
    )
    except_on: Annotated[str, Text("a calendar")] | None = Field(
        None, alias="except", description="Calendar whose days are never in the window, such as cn-holidays."
    )
    multiply: Factor = Field(description="Factor on every price of the entry within the window.")


class PriceEntry(RateFields):
    """One line of a price history: what a deployment costs from a day on."""

    from_day: Annotated[date, Day()] = Field(
        alias="from", description="First day (UTC) on which this price applies. The newest such entry wins."
    )
    until: Annotated[date, Day()] | None = Field(
        None, description="First day (UTC) on which this price no longer applies. Absent: until the next entry."
    )
    currency: Annotated[str, Text("a currency", r"[A-Z]{3}", CURRENCY_SHAPE)] = Field(
        "USD", description="The vendor's own currency, ISO 4217; one other than USD needs a rate in currency.rates."
    )
    input: Rate | None = Field(None, description="Price of 1M fresh input tokens. null: unknown, never free.")
    output: Rate | None = Field(None, description="Price of 1M visible output tokens. null: unknown, never free.")
    request: Rate | None = Field(None, description="Price of one request, beside its tokens. Absent: none.")
    tiers: list[TierEntry] = Field(
        default_factory=list,
        max_length=MAX_TIERS,
        description="Prices by size of the input, ascending; the whole request moves to the tier.",
    )
    windows: list[WindowEntry] = Field(
        default_factory=list,
        max_length=MAX_WINDOWS,
        description="Hours of the week in which the price is multiplied; they must not overlap.",
    )
    service_tiers: dict[Annotated[str, Text("a service tier", NAME, NAME_SHAPE)], Factor] = Field(
        default_factory=dict, description="Factor by the service tier that the vendor reports: {batch: 0.5}."
    )
    regions: dict[Annotated[str, Text("a region", NAME, NAME_SHAPE)], Factor] = Field(
        default_factory=dict,
        description="Factor by where the vendor processes, for a provider with that `price_region`: {eu: 1.1}.",
    )
    source: Annotated[str, Text("a source")] | None = Field(None, description="Where the price was read.")
    checked: Annotated[date, Day()] | None = Field(None, description="Day on which it was read there.")


class SelfHostedEntry(Entry):
    """An engine of one's own: what an hour costs and what it does in a second at full load."""

    gpus: Annotated[int, Whole(1, 100_000)] = Field(description="Number of GPUs (or machines) that the price is for.")
    usd_per_gpu_hour: Annotated[Decimal, Number(Decimal(0), Decimal(10_000), decimals=6)] = Field(
        description="USD per GPU and hour, all in."
    )
    input_tokens_per_s: Annotated[int, Whole(0, MAX_ENGINE_TOKENS_PER_S)] = Field(
        description="Input tokens per second of the whole engine at full load."
    )
    output_tokens_per_s: Annotated[int, Whole(0, MAX_ENGINE_TOKENS_PER_S)] = Field(
        description="Output tokens per second of the whole engine at full load."
    )
    utilization: Annotated[Decimal, Number(Decimal(0), Decimal(1), above=True, decimals=6)] | None = Field(
        None, description="Share of full load that is really used, above 0 up to 1. Absent: 1."
    )
    concurrency: Annotated[int, Whole(1, 100_000)] | None = Field(
        None, description="Requests at once at full load. With it, routing prices the engine by how busy it is."
    )
