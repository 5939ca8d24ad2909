"""What the ClickHouse sink is asked about money: sums by group, and what was spent by whom.

Where on the path: below `sinks.clickhouse`. Each is one look through the attempts, of which only the columns that it
needs are read; there are no rollups.

Invariant: money is summed in two parts, of 2^32 pico-USD and below, that Python puts together: a sum of 64 bits would
overflow at 9.2 million USD, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from service.ledger.sinks.clickhouse_client import Client
from service.ledger.sinks.clickhouse_layout import ATTEMPTS
from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, CostSums, Spent
from service.ledger.sinks.rollup import PLAIN, Totals, told

_PART: Final = "toInt64(4294967296)"

SIMULATED: Final = "if(ifNull(simulated, 0) = 1, 'true', 'false')"

_KEYS: Final[Mapping[str, str]] = {
    "model": "model",
    "provider": "provider",
    "intent": "intent",
    "language": "language",
    "key": "key_id",
    "tag": "arrayJoin(tag_list)",
    "day": "day",
    "policy": "policy",
    "plan": "plan",
    "requested": "requested_model",
    "simulated": SIMULATED,
}

_BILLABLE: Final = "(state NOT IN ('open', 'refused') AND ifNull(kind, '') != 'cache')"

_COUNTS: Final[Mapping[str, str]] = {
    "requests": "uniqExact(request)",
    "attempts": "count()",
    "open": "countIf(state = 'open')",
    "simulated_attempts": "countIf(ifNull(simulated, 0) = 1)",
    "billable": f"countIf({_BILLABLE})",
    "guessed": f"countIf({_BILLABLE} AND ifNull(usage_source, '') != 'provider')",
    "unpriced": "countIf(state != 'open' AND isNull(cost_pusd))",
}
"""By the names of `COUNTED` that are about no baseline, in their order."""


def bit(column: str, number: int) -> str:
    """Whether a baseline's bit is set."""
    return f"bitAnd({column}, {1 << number}) != 0"


def parts(amount: str) -> tuple[str, str]:
    """The sum of an amount that is never NULL, as two."""
    high = f"intDiv({amount}, {_PART})"
    return f"sum({high})", f"sum({amount} - {high} * {_PART})"


def together(found: Sequence[int]) -> tuple[int, ...]:
    """Sums of which each is two."""
    return tuple((high << 32) + low for high, low in zip(found[::2], found[1::2], strict=True))


def sums(
    client: Client, by: Sequence[str], since_ms: int | None, until_ms: int | None, compared: int
) -> list[CostSums]:
    """See `Sink.sums`; the groupings are known ones."""
    keys = [f"{_KEYS[name]} AS key_{number}" for number, name in enumerate(by)]
    counts = [*_COUNTS.values(), *(f"countIf({bit('picked', number)})" for number in range(compared))]
    tokens = [f"sum(ifNull({column}, 0))" for column in TOKEN_COLUMNS]
    amounts = [*parts("ifNull(cost_pusd, 0)")]
    for number, one in enumerate(BASELINES[:compared]):
        amounts += parts(f"if({bit('picked', number)}, ifNull({one.column}, 0), 0)")
        amounts += parts(f"if({bit('charged', number)}, ifNull(cost_pusd, 0), 0)")
    scope = [f"at_ms >= {since_ms:d}"] if since_ms is not None else []
    scope += [f"at_ms < {until_ms:d}"] if until_ms is not None else []
    query = f"SELECT {', '.join([*keys, *counts, *tokens, *amounts])} FROM {ATTEMPTS} FINAL"  # noqa: S608  # Literals of this package, chosen by name.
    if scope:
        query += f" WHERE {' AND '.join(scope)}"
    if by:
        query += f" GROUP BY {', '.join(f'key_{number}' for number in range(len(by)))}"
    found: dict[tuple[Any, ...], Totals] = {}
    halves = len(by) + PLAIN + compared + len(TOKEN_COLUMNS)
    for row in client.rows(query):
        if row[len(by) + 1]:
            found[tuple(row[: len(by)])] = (*row[len(by) : halves], *together(row[halves:]))
    return told(found, compared)


_WHO: Final = f"writer, key_id, tags, day, {SIMULATED}"


def spent(client: Client, since_ms: int) -> list[Spent]:
    """See `Sink.spent`."""
    query = (
        f"SELECT {_WHO}, {', '.join(parts('ifNull(cost_pusd, 0)'))} FROM {ATTEMPTS} FINAL "  # noqa: S608  # As above.
        f"WHERE at_ms >= {since_ms:d} AND isNotNull(writer) AND ifNull(cost_pusd, 0) > 0 GROUP BY {_WHO}"
    )
    return [
        Spent(writer, key_id, tuple(orjson.loads(tags)), day, (high << 32) + low, simulated == "true")
        for writer, key_id, tags, day, simulated, high, low in client.rows(query)
    ]
