"""Do the books balance? The journal of a router against what the vendors themselves saw, and the money computed again.

Used after a soak and after kills. Nothing of `service` is used to judge it but the names of the token buckets: rows are
read as JSON, prices come from the test's own table, costs are computed with fractions and rounded once.

- every attempt has one open row and one terminal row;
- every request that a vendor saw was announced by an open row;
- a row that claims the vendor's own numbers has them, and costs what they cost at the price of its version;
- a row that was refused costs nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

from service.domain.money import Usage
from service.simulator import SeenRequest

NAME: Final = re.compile(r"Question (\S+)")
UPSTREAM_ID: Final = re.compile(r"chatcmpl-sim-(\d+)")
CHAT: Final = "/chat/completions"
PICO: Final = 10**12
MILLION: Final = 10**6
WRONG_SHOWN: Final = 40

PER_TOKEN: Final[Mapping[str, str]] = {
    "input": "input",
    "cache_read": "cache_read",
    "cache_write_5m": "input",
    "output": "output",
    "reasoning": "output",
}
"""Which price a bucket has, in registries that name three."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as its vendor saw it: `number` is part of the answer's id, `usage` is what it bills (`None`: nothing)."""

    number: int
    vendor: str
    name: str
    outcome: str
    usage: dict[str, int] | None

    @classmethod
    def of(cls, request: SeenRequest) -> Self | None:
        """From the simulator's log; `None` for what was no question of the crowd's."""
        found = NAME.search(_text(request.body)) if request.path.endswith(CHAT) else None
        if found is None:
            return None
        billed = request.billed
        usage = None if billed is None else _counts(billed)
        return cls(request.number, request.vendor, found[1], request.outcome.value, usage)


def _counts(usage: Usage) -> dict[str, int]:
    return {bucket: count for bucket in PER_TOKEN if (count := getattr(usage, bucket))}


def _text(body: bytes) -> str:
    """What the prompt says, escaped or not: the name is ASCII."""
    return body.decode("utf-8", "replace")


class TruthLog:
    """What vendors saw, one line of JSON each in a file that is only ever added to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, requests: Iterable[SeenRequest]) -> int:
        """Write down those that were questions of the crowd; how many."""
        seen = [one for request in requests if (one := Seen.of(request)) is not None]
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(one)) + "\n" for one in seen)
        return len(seen)

    def read(self) -> Iterator[Seen]:
        """All of it."""
        with self._path.open(encoding="utf-8") as file:
            for line in file:
                yield Seen(**json.loads(line))


@dataclass(frozen=True, slots=True)
class ListPrice:
    """Per million tokens in one currency, and what one unit of that is in USD."""

    input: Fraction
    cache_read: Fraction
    output: Fraction
    usd: Fraction = Fraction(1)

    def pusd(self, usage: Mapping[str, int]) -> int:
        """The cost in pico-USD: exact, then rounded once, half to even."""
        rates = {"input": self.input, "cache_read": self.cache_read, "output": self.output}
        total = sum(count * rates[PER_TOKEN[bucket]] for bucket, count in usage.items())
        return round(total * self.usd * PICO / MILLION)


YUAN: Final = Fraction(1406, 10_000)
PRICES: Final[Mapping[str, ListPrice]] = {
    "alpha/alpha-model@2026-01-01": ListPrice(Fraction(15, 100), Fraction(15, 1000), Fraction(120, 100)),
    "beta/beta-model@2026-01-01": ListPrice(Fraction(25, 100), Fraction(25, 1000), Fraction(220, 100)),
    "deltacny/deltacny-model@2026-01-01": ListPrice(Fraction(35, 10), Fraction(35, 100), Fraction(32), YUAN),
    "alpha/baseline-model@2026-01-01": ListPrice(Fraction(10), Fraction(10), Fraction(50)),
}
"""What `stage.registry` says for the vendors alpha, beta and deltacny, by the version that a row names: written here once
more, so that it isn't read from where the router reads it."""


@dataclass(slots=True)
class Books:
    """What the journal says: rows by attempt. `ends` keeps the first terminal row and `double` counts every other."""

    opens: dict[str, dict[str, Any]] = field(default_factory=dict)
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    twice_opened: Counter[str] = field(default_factory=Counter)
    twice_ended: Counter[str] = field(default_factory=Counter)
    torn: int = 0

    @classmethod
    def read(cls, data_dir: Path) -> Self:
        """Every row of every segment. A last line without its end is counted, not read; so is one that is no JSON."""
        books = cls()
        for path in sorted((data_dir / "journal").glob("*.jsonl")):
            with path.open("rb") as file:
                for raw in file:
                    books.take(raw)
        return books

    def take(self, raw: bytes) -> None:
        """One line."""
        if b'"t":"open"' not in raw and b'"t":"terminal"' not in raw and raw.endswith(b"}\n"):
            return  # decisions are most of the bytes
        try:
            line = json.loads(raw)
        except ValueError:
            self.torn += 1
            return
        if line["t"] == "open":
            self._put(self.opens, self.twice_opened, line["e"])
        elif line["t"] == "terminal":
            self._put(self.ends, self.twice_ended, line["e"])

    @staticmethod
    def _put(rows: dict[str, dict[str, Any]], twice: Counter[str], row: dict[str, Any]) -> None:
        attempt = row["attempt_id"]
        if attempt in rows:
            twice[attempt] += 1
        else:
            rows[attempt] = row

    @property
    def total_pusd(self) -> int:
        """Everything that was booked."""
        return sum(end["cost_pusd"] or 0 for end in self.ends.values())

    def states(self) -> Counter[str]:
        """How attempts ended, by state."""
        return Counter(end["state"] for end in self.ends.values())


COUNTED: Final = re.compile(
    r'coe_spend_(pusd|tokens)_total\{model="(.*?)",provider="(.*?)",intent="(.*?)",(?:usage_source|kind)="(.*?)"\} (\d+)'
)


def counter_faults(books: Books, page: str) -> list[str]:
    """Where /metrics of the one process that wrote these books, and is at rest, says another sum than its journal.

    By model, provider, intent and source of the usage (of tokens: kind), in whole pico-dollars and tokens.
    """
    booked, counted = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for attempt, end in books.ends.items():
        opened = books.opens[attempt]
        whose = opened["model"], opened["provider"], opened["intent"]
        booked["pusd", *whose, end["usage_source"]] += end.get("cost_pusd") or 0
        for bucket, count in end.get("usage", {}).items():
            if bucket != "requests":
                booked["tokens", *whose, bucket] += count
    for what, *labels, value in COUNTED.findall(page):
        counted[what, *labels] += int(value)
    return [
        f"{' '.join(one)}: counted {counted[one]}, booked {booked[one]}"
        for one in sorted({*booked, *counted})
        if counted[one] != booked[one]
    ]


def faults_of(books: Books, seen: Iterable[Seen], prices: Mapping[str, ListPrice]) -> tuple[list[str], Counter[str]]:
    """(everything that does not balance, how many of what was compared). `prices` are by the row's price version."""
    wrong: list[str] = []
    compared: Counter[str] = Counter()
    wrong += [f"{attempt}: {1 + more} open rows" for attempt, more in books.twice_opened.items()]
    wrong += [f"{attempt}: {1 + more} terminal rows" for attempt, more in books.twice_ended.items()]
    wrong += [f"{attempt}: no terminal row" for attempt in books.opens.keys() - books.ends.keys()]
    wrong += [f"{attempt}: a terminal row, and no open row" for attempt in books.ends.keys() - books.opens.keys()]
    truths: dict[int, Seen] = {}
    asked: Counter[tuple[str, str]] = Counter()
    for one in seen:
        truths[one.number] = one
        asked[one.vendor, one.name] += 1
    announced = Counter((row["provider"], _tag(row)) for row in books.opens.values())
    wrong += [
        f"{vendor} saw {name} {count} times more than announced"
        for (vendor, name), count in (asked - announced).items()
    ]
    compared["requests that vendors saw"] = asked.total()
    compared["attempts"] = len(books.opens)
    for attempt, end in books.ends.items():
        opened = books.opens.get(attempt)
        if opened is not None:
            wrong += (f"{attempt}: {problem}" for problem in _row_faults(opened, end, truths, prices, compared))
    return wrong, compared


def _row_faults(
    opened: Mapping[str, Any],
    end: Mapping[str, Any],
    truths: Mapping[int, Seen],
    prices: Mapping[str, ListPrice],
    compared: Counter[str],
) -> Iterator[str]:
    cost, usage = end["cost_pusd"], {b: n for b, n in end.get("usage", {}).items() if b in PER_TOKEN and n}
    if end["state"] == "refused":
        compared["refused rows"] += 1
        if cost != 0:
            yield f"refused, and costs {cost}"
        return
    if end["state"] == "unknown":
        compared["rows of crashes"] += 1
        if cost != opened["reserved_pusd"]:
            yield f"a crash, booked at {cost} and reserved at {opened['reserved_pusd']}"
        return
    price = prices.get(opened["price_version"])
    if price is None:
        yield f"no such price: {opened['price_version']}"
        return
    if price.pusd(usage) != cost:
        yield f"costs {cost}, and its own usage costs {price.pusd(usage)}"
    if end["usage_source"] != "provider":
        compared["estimated rows"] += 1
        return
    found = UPSTREAM_ID.fullmatch(end.get("upstream_id") or "")
    truth = truths.get(int(found[1])) if found else None
    if truth is None:
        compared["rows whose answer lost its name on the way"] += 1
        return
    compared["rows with the vendor's own numbers"] += 1
    if (truth.vendor, truth.name) != (opened["provider"], _tag(opened)):
        yield f"has the answer of {truth.name} at {truth.vendor}"
    elif truth.usage != usage:
        yield f"booked {usage}, the vendor counts {truth.usage}"


def _tag(row: Mapping[str, Any]) -> str:
    tags = row.get("tags") or [""]
    return str(tags[0])
