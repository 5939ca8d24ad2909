"""Made-up bills: wire usage times price book, by the router's code and by a reference that shares nothing with it.

    .venv/bin/python tests/costs.py [--seed 20261122] [--cases 50000] [--case 4711]

A case is one usage object in the manner of one vendor, made from buckets that are known, and one deployment out of a
registry file that is made up too: dates, tiers, peak hours with holidays, service tiers, regions, currencies, rates
left out. The router reads both as always (file to quote, JSON to buckets, both to a cost). The reference reads the
decimals of the same file by itself: it compares minutes instead of times, adds fractions instead of integers and rounds
with `decimal`. Exits with 1 when a bucket or a pico-dollar differs. The small size of it runs with every test.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from service.catalog.load import load_bytes
from service.domain.catalog import Deployment
from service.domain.money import price
from service.ledger.reproduced import difference
from service.upstream.protocols import PROTOCOLS
from service.upstream.quirks import QUIRKS

SEED = 20261122
CASES = 50_000
CASES_PER_BOOK = 50
BOOKS_PER_FILE = 40
START = datetime(2026, 1, 1, tzinfo=UTC)
RATES = ("cache_read", "cache_write", "cache_write_1h", "reasoning", "audio_in", "audio_out", "image")
PARTS = {"cache_write": "cache_write_5m"}
"""Names of the file whose bucket has another."""

CURRENCIES = {"USD": Decimal(1), "CNY": Decimal("0.1406"), "JPY": Decimal("0.006512345"), "KWD": Decimal("3.253")}
HOLIDAYS = [((1, 1), (1, 3)), ((2, 15), (2, 23)), ((4, 4), (4, 6)), ((5, 1), (5, 5)), ((6, 19), (6, 21)),
            ((9, 25), (9, 27)), ((10, 1), (10, 7))]  # fmt: skip
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SHAPES = {
    "plain": "", "openai": "", "moonshot": "cached_tokens:cached_tokens", "xai": "reasoning_beside",
    "deepseek": "cached_tokens:prompt_cache_hit_tokens", "alibaba": "cache_write_marked", "anthropic": "cache_marked",
    "gemini": "reasoning_in_total", "openrouter": "usage_cost", "ticks": "usage_cost:cost_in_usd_ticks",
}  # fmt: skip
"""Manners of telling usage, and the quirks of a provider that has them."""


@dataclass
class Case:
    """One bill: what was used, how it is told, where and when; and what the reference makes of it."""

    number: int
    entries: list[dict[str, Any]]
    region: str | None
    shape: str
    at: datetime
    buckets: dict[str, int]
    wire: dict[str, Any]
    told_tier: str | None
    asked_tier: str | None

    def wrong(self, deployment: Deployment) -> str | None:
        """What the router makes of it that the reference does not, `None` when they agree."""
        quote = deployment.prices.quote(self.at)
        expected = None if (entry := _entry_at(self.entries, self.at)) is None else self._due(entry)
        if quote is None or entry is None:
            return None if quote is None and entry is None else f"a price by one of them alone: {quote}, {entry}"
        body = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}], "usage": self.wire}
        if self.told_tier is not None:
            body["service_tier"] = self.told_tier
        usage = PROTOCOLS["openai_chat"].answer(json.dumps(body).encode(), deployment).usage
        if usage is None or {name: count for name, count in usage.as_dict().items() if name != "requests"} != {
            name: count for name, count in self.buckets.items() if count
        }:
            return f"buckets {usage}, used were {self.buckets}"
        cost = price(usage, quote, self.asked_tier)
        if cost.pusd != expected:
            return f"{cost.pusd} pico-USD, the reference has {expected}"
        return difference(
            {}, {"state": "settled", "usage": usage.as_dict(), "price": cost.as_dict(), "cost_pusd": expected}
        )

    def kinds(self) -> Iterator[str]:
        """What is special about it, so that a run can say that it had some of each."""
        entry = _entry_at(self.entries, self.at)
        if entry is None:
            yield "without a price"
            return
        prompt = sum(count for name, count in self.buckets.items() if name not in ("output", "reasoning", "audio_out"))
        if any(prompt > tier["above_input_tokens"] for tier in entry.get("tiers", ())):
            yield "above a tier"
        if self._peak(entry):
            yield "in a window"
        if self.region:
            yield "in a region"
        if entry.get("currency", "USD") != "USD":
            yield "in another currency"
        if self._served(entry.get("service_tiers", {})) != 1:
            yield "in a service tier"
        if self.buckets["cache_write_5m"] or self.buckets["cache_write_1h"]:
            yield "with cache writes"

    def _due(self, entry: Mapping[str, Any]) -> int:
        """Pico-USD by the reference."""
        if "cost" in self.wire:
            return _nearest(Fraction(str(self.wire["cost"])) * 10**12)
        if "cost_in_usd_ticks" in self.wire:
            return self.wire["cost_in_usd_ticks"] * 100
        prompt = sum(self.buckets[name] for name in self.buckets if name not in ("output", "reasoning", "audio_out"))
        millionths = Fraction(0)
        for name, count in self.buckets.items():
            millionths += count * Fraction(_listed(entry, name, prompt))
        due = millionths + Fraction(Decimal(entry.get("request", "0"))) * 10**6
        if self._peak(entry):
            due *= Fraction(entry["windows"][0]["multiply"])
        if self.region:
            due *= Fraction(entry["regions"][self.region])
        due *= self._served(entry.get("service_tiers", {}))
        return _nearest(due * Fraction(CURRENCIES[entry.get("currency", "USD")]) * 10**6)

    def _served(self, tiers: Mapping[str, str]) -> Fraction:
        if self.told_tier is not None:
            return Fraction(tiers.get(self.told_tier, "1"))
        return max(Fraction(1), Fraction(tiers.get(self.asked_tier, "1"))) if self.asked_tier else Fraction(1)

    def _peak(self, entry: Mapping[str, Any]) -> bool:
        """Whether the first window of an entry holds: in minutes since Monday 00:00 of its own clock."""
        for window in entry.get("windows", ()):
            local = self.at + timedelta(hours=8 if "hours" in window else 0)
            minute = local.hour * 60 + local.minute
            for span in window.get("utc") or window["hours"]:
                begin, end = ((int(one[:2]) * 60 + int(one[3:])) for one in span.split("-"))
                since = 0 if begin < end else 1440
                for day in (0, 1):  # the span of this day, and that of the day before
                    clock = minute + 1440 * day
                    on = (local - timedelta(days=day)).weekday()
                    first, _, last = window["days"].partition("-")
                    begins = WEEK.index(first)
                    within = (on - begins) % 7 <= (WEEK.index(last or first) - begins) % 7
                    free = window.get("except") and _holiday(self.at - timedelta(days=day) + timedelta(hours=8))
                    if within and not free and begin <= clock < end + since:
                        return True
        return False


def _holiday(china: datetime) -> bool:
    return china.year == 2026 and any(first <= (china.month, china.day) <= last for first, last in HOLIDAYS)


def _nearest(amount: Fraction) -> int:
    """Half to even, by `decimal` rather than by fractions: exact, for the precision is larger than any quotient."""
    with localcontext() as context:
        context.prec = 400
        whole, rest = divmod(amount.numerator, amount.denominator)
        tail = Decimal(rest) / Decimal(amount.denominator)
        if tail * amount.denominator == rest:
            return (
                whole + int(tail.quantize(Decimal(1), ROUND_HALF_EVEN)) if tail != Decimal("0.5") else whole + whole % 2
            )
        return whole + (1 if tail > Decimal("0.5") else 0)


def _entry_at(entries: list[dict[str, Any]], at: datetime) -> dict[str, Any] | None:
    """The entry of an instant: the newest one that has begun, unless it has ended."""
    day = at.date()
    begun = [one for one in entries if one["from"] <= day]
    newest = max(begun, key=lambda one: one["from"], default=None)
    return None if newest is None or ("until" in newest and newest["until"] <= day) else newest


def _listed(entry: Mapping[str, Any], bucket: str, prompt: int) -> Decimal:
    """The price of 1M tokens of a bucket for a prompt of a size, in the entry's currency: what is said, else whose it has."""
    name = {bucket: name for name, bucket in PARTS.items()}.get(bucket, bucket)
    above = [tier for tier in entry.get("tiers", ()) if prompt > tier["above_input_tokens"]]
    level = max(above, key=lambda tier: tier["above_input_tokens"], default=None)

    def own(rates: Mapping[str, Any], which: str) -> Decimal:
        if which in rates:
            return Decimal(rates[which])
        if which in ("output", "reasoning", "audio_out"):
            return Decimal(rates["output"])
        return own(rates, "cache_write") if which == "cache_write_1h" else Decimal(rates["input"])

    if level is None:
        return own(entry, name)
    if name in level or name in ("input", "output"):
        return Decimal(level[name])
    # Left out in a tier: never under what the base says, nor under what the tier's own prices come to.
    filled = dict(level)
    if name == "cache_write_1h" and "cache_write" not in level and "cache_write" in entry:
        filled["cache_write"] = max(Decimal(entry["cache_write"]), Decimal(level["input"]))
    return max([own(filled, name), *([Decimal(entry[name])] if name in entry else [])])


class Maker:
    """Makes cases up, all of them from one seed."""

    def __init__(self, seed: int, number: int) -> None:
        self._chance = random.Random(f"{seed}/{number}")

    def rate(self, most: int = 60) -> str:
        """A price per 1M tokens as a decimal with up to six digits behind the point."""
        chance = self._chance
        digits = chance.choice([0, 1, 2, 3, 6])
        return str(Decimal(chance.randint(0, most * 10**digits)).scaleb(-digits))

    def entries(self, region: str | None) -> list[dict[str, Any]]:
        """A price history."""
        chance = self._chance
        later = chance.sample(range(1, 330), chance.choice([0, 0, 1, 2]))
        days = sorted([chance.choice([0, 0, 0, 30]), *(day + 30 for day in later)])
        entries = [self._entry(START.date() + timedelta(days=day), region) for day in days]
        if chance.random() < 0.1:
            entries[-1]["until"] = entries[-1]["from"] + timedelta(days=40)
        return entries

    def _entry(self, begins: date, region: str | None) -> dict[str, Any]:
        chance = self._chance
        entry: dict[str, Any] = {"from": begins, "input": self.rate(), "output": self.rate(90)}
        entry |= {name: self.rate() for name in RATES if chance.random() < 0.4}
        entry |= {"currency": chance.choice(["USD", "USD", *CURRENCIES])}
        if chance.random() < 0.2:
            entry["request"] = self.rate(1)
        if chance.random() < 0.5:
            bounds = sorted(
                chance.sample([100, 1_000, 16_000, 32_000, 128_000, 200_000, 272_000], chance.randint(1, 3))
            )
            entry["tiers"] = [
                {"above_input_tokens": bound, "input": self.rate(), "output": self.rate(90)}
                | {name: self.rate() for name in RATES if chance.random() < 0.3}
                for bound in bounds
            ]
        if chance.random() < 0.4:
            entry["windows"] = [self._window()]
        if chance.random() < 0.5:
            factors = {
                "batch": "0.5",
                "flex": "0.5",
                "priority": chance.choice(["1.25", "1.8", "2"]),
                "odd": "0.333333",
            }
            entry["service_tiers"] = factors
        if region:
            entry["regions"] = {region: chance.choice(["1.1", "1.2", "1.5", "0.7"])}
        return entry

    def _window(self) -> dict[str, Any]:
        chance = self._chance
        marks = sorted(chance.sample(range(0, 1440, 15), 4))
        spans = [f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}" for begin, end in
                 ((marks[0], marks[1]), (marks[2], marks[3]) if chance.random() < 0.6 else (marks[3], marks[0]))]  # fmt: skip
        if chance.random() < 0.3:
            spans = spans[:1]
        window: dict[str, Any] = {"multiply": chance.choice(["2", "0.5", "1.75", "0.333333"])}
        window["days"] = chance.choice(["mon-fri", "sat-sun", "mon-sun", "fri-mon", "wed"])
        window |= {"hours": spans, "zone": "Asia/Shanghai"} if chance.random() < 0.4 else {"utc": spans}
        if chance.random() < 0.5:
            window["except"] = "cn-holidays"
        return window

    def instant(self, entries: list[dict[str, Any]]) -> datetime:
        """An instant, half of the time at an edge of something."""
        chance = self._chance
        at = START + timedelta(seconds=chance.randrange(400 * 86_400))
        if chance.random() < 0.5:
            minutes = [0]
            for entry in entries:
                for window in entry.get("windows", ()):
                    spans = "".join(window.get("utc") or window["hours"]).replace("-", "")
                    minutes += [int(spans[i : i + 2]) * 60 + int(spans[i + 3 : i + 5]) for i in range(0, len(spans), 5)]
            first, _ = chance.choice(HOLIDAYS)
            day = chance.choice([at, datetime(2026, *first, tzinfo=UTC), *(_midnight(one["from"]) for one in entries)])
            at = day.replace(hour=0, minute=0, second=0) + timedelta(minutes=chance.choice(minutes))
            at += timedelta(hours=chance.choice([0, 0, -8, 8])) + timedelta(microseconds=chance.choice([0, -1, 1]))
        return at

    def buckets(self, shape: str) -> dict[str, int]:
        """What was used, as far as this manner of telling it can tell."""
        chance = self._chance

        def some(share: float) -> int:
            return (
                chance.choice([1, 99, 1_000, chance.randint(0, 5_000), chance.randint(0, 300_000)])
                if chance.random() < share
                else 0
            )

        rich = shape in ("openai", "alibaba", "openrouter", "ticks", "xai")
        told = {"input": some(0.9), "output": some(0.9)}
        if shape != "plain":
            told["cache_read"] = some(0.6)
        if shape not in ("plain", "anthropic"):
            told["reasoning"] = some(0.5)
        if shape in ("openai", "alibaba", "anthropic"):
            told["cache_write_5m"] = some(0.3)
        if shape in ("alibaba", "anthropic"):
            told["cache_write_1h"] = some(0.3)
        if rich:
            told |= {"audio_in": some(0.2), "audio_out": some(0.2), "image": some(0.2)}
        if not sum(count for name, count in told.items() if name not in ("output", "reasoning", "audio_out")):
            told["input"] = 1  # there is no chat without a prompt
        return {name: told.get(name, 0) for name in (
            "input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "audio_in", "audio_out",
            "image")}  # fmt: skip

    def case(self, number: int, entries: list[dict[str, Any]], region: str | None, shape: str) -> Case:
        """One bill of a deployment."""
        chance = self._chance
        tiers = [None, None, None, "default", "batch", "flex", "priority", "odd", "nobody"]
        buckets = self.buckets(shape)
        wire = told_as(shape, buckets, chance)
        return Case(
            number,
            entries,
            region,
            shape,
            self.instant(entries),
            buckets,
            wire,
            chance.choice(tiers),
            chance.choice(tiers),
        )


def told_as(shape: str, used: Mapping[str, int], chance: random.Random) -> dict[str, Any]:
    """A usage object that tells these buckets in the manner of a vendor."""
    writes = used["cache_write_5m"] + used["cache_write_1h"]
    prompt = used["input"] + used["cache_read"] + writes + used["audio_in"] + used["image"]
    said = used["output"] + used["audio_out"]
    completion = said if shape in ("xai", "gemini") else said + used["reasoning"]
    wire: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if shape == "anthropic":  # beside the prompt, as on its own wire; the total shows it
        wire["prompt_tokens"] = used["input"]
        wire |= {"cache_read_input_tokens": used["cache_read"], "cache_creation_input_tokens": writes}
        wire["cache_creation"] = {"ephemeral_5m_input_tokens": used["cache_write_5m"],
                                  "ephemeral_1h_input_tokens": used["cache_write_1h"]}  # fmt: skip
    if chance.random() < 0.7 or shape in ("gemini", "anthropic"):
        wire["total_tokens"] = prompt + said + used["reasoning"]
    inside, outside = {}, {"reasoning_tokens": used["reasoning"], "audio_tokens": used["audio_out"]}
    if shape in ("openai", "xai", "alibaba", "openrouter", "ticks"):
        inside = {"cached_tokens": used["cache_read"], "audio_tokens": used["audio_in"], "image_tokens": used["image"]}
    if shape == "openai":
        inside["cache_write_tokens"] = used["cache_write_5m"]
    if shape == "alibaba":
        inside["cache_creation_input_tokens"] = writes
        inside["cache_creation"] = {"ephemeral_5m_input_tokens": used["cache_write_5m"],
                                    "ephemeral_1h_input_tokens": used["cache_write_1h"]}  # fmt: skip
    if shape == "moonshot":
        wire["cached_tokens"] = used["cache_read"]
        inside = chance.choice([{}, {"cached_tokens": used["cache_read"]}, {"cached_tokens": 0}])
    if shape == "deepseek":
        wire["prompt_cache_hit_tokens"] = used["cache_read"]
        wire["prompt_cache_miss_tokens"] = used["input"]
    if shape == "gemini":
        inside = {"cached_tokens": used["cache_read"]}
        outside = {}
    if shape == "openrouter":
        wire["cost"] = str(Decimal(chance.randint(0, 10**9)).scaleb(-chance.choice([6, 9, 13])))
    if shape == "ticks":
        wire["cost_in_usd_ticks"] = chance.randint(0, 10**12)
    if shape not in ("plain", "anthropic"):
        wire |= {"prompt_tokens_details": inside or None, "completion_tokens_details": outside or None}
    return wire


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def cases(seed: int, count: int) -> Iterator[tuple[Case, Deployment]]:
    """So many cases, with the deployment of each as the router has read it."""
    number, file = 0, 0
    while number < count:
        maker, books = Maker(seed, file), []
        for _ in range(BOOKS_PER_FILE):
            region = maker._chance.choice([None, None, "eu"])
            books.append((region, maker._chance.choice(list(SHAPES)), maker.entries(region)))
        catalog = load_bytes(written(books).encode(), f"file {file}", {}, now=START, known_quirks=QUIRKS)
        for place, (region, shape, entries) in enumerate(books):
            deployment = catalog.by_id[f"p{place}/m{place}"]
            for _ in range(CASES_PER_BOOK):
                if number == count:
                    return
                yield maker.case(number, entries, region, shape), deployment
                number += 1
        file += 1


def written(books: list[tuple[str | None, str, list[dict[str, Any]]]]) -> str:
    """A registry file with these price books. JSON is YAML; decimals are written as they are, without quotes."""
    rates = ", ".join(f"{name}: {rate}" for name, rate in CURRENCIES.items() if name != "USD")
    lines = ["version: 1", f"currency: {{rates: {{{rates}}}, as_of: 2026-11-21}}", "providers:"]
    for place, (region, shape, _) in enumerate(books):
        more = f", price_region: {region}" if region else ""
        quirks = f", quirks: ['{SHAPES[shape]}']" if SHAPES[shape] else ""
        lines.append(f"  p{place}: {{base_url: 'http://127.0.0.1:9/v1'{more}{quirks}}}")
    lines.append("models:")
    for place, (_, _, entries) in enumerate(books):
        lines += [
            f"  m{place}:",
            "    deployments:",
            f"      - provider: p{place}",
            f"        name: m{place}",
            "        prices:",
        ]
        lines += [f"          - {_flow(entry)}" for entry in entries]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(f"'{one}'" if isinstance(one, str) else _flow(one) for one in value) + "]"
    return str(value)


def played(seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """(how many of what was compared, what differs)."""
    compared: Counter[str] = Counter()
    wrong: list[str] = []
    for case, deployment in cases(seed, count):
        compared[case.shape] += 1
        compared.update(case.kinds())
        problem = case.wrong(deployment)
        if problem is not None:
            wrong.append(f"case {case.number} ({case.shape}): {problem}")
    return compared, wrong


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--case", type=int, help="this one alone, in words")
    asked = parser.parse_args()
    if asked.case is not None:
        for case, deployment in cases(asked.seed, asked.case + 1):
            if case.number == asked.case:
                sys.stdout.write(f"{case}\n{case.wrong(deployment) or 'as the reference has it'}\n")
                return int(case.wrong(deployment) is not None)
    begun = time.monotonic()
    compared, wrong = played(asked.seed, asked.cases)
    told = ", ".join(f"{kind} {count}" for kind, count in compared.items())
    sys.stdout.write(f"{asked.cases} bills, {len(wrong)} differ, {time.monotonic() - begun:.0f} s: {told}\n")
    sys.stdout.write("".join(f"{one}\n" for one in wrong[:20]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
