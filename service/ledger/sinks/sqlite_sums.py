"""Cost sums of the SQLite sink: one query for any grouping, and its rows as values.

Where on the path: beside it; `sqlite` asks with it.

Invariant
1. Money is summed in two halves of 32 bits that Python puts together: SUM() would overflow at 9.2 million USD.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from service.ledger.sinks.port import GROUPINGS, TOKEN_COLUMNS, CostSums

_GROUP_SQL: Mapping[str, str] = {
    "model": "a.model",
    "provider": "a.provider",
    "intent": "a.intent",
    "language": "a.language",
    "key": "a.key_id",
    "tag": "t.value",
    "day": "a.day",
    "policy": "a.policy",
    "plan": "CASE WHEN json_valid(d.json) THEN json_extract(d.json, '$.plan') END",
    "requested": "a.requested_model",
    "simulated": "CASE a.simulated WHEN 1 THEN 'true' ELSE 'false' END",
}

_MONEY_SUMS = {
    "cost": "a.cost_pusd",
    "baseline": "CASE WHEN a.pick = r.pick AND r.unpriced = 0 THEN a.baseline_pusd END",
    "compared": "CASE WHEN (r.pick IS NOT NULL AND r.unpriced = 0) OR a.state = 'unknown' THEN a.cost_pusd END",
}

# `pick` names the one attempt of a request whose baseline counts: the last of its final ones. A request is known by its
# decision, an id of ours: the request id may be the caller's, and two callers may send the same.
_SCOPE_SQL = """
WITH a AS (
    SELECT *, COALESCE(decision_id, attempt_id) AS request,
        CASE WHEN final = 1 AND baseline_pusd IS NOT NULL
            THEN printf('%012d:%s', COALESCE(attempt_number, 0), attempt_id) END AS pick
    FROM attempts
    WHERE at_ms >= COALESCE(:since_ms, -9223372036854775808) AND at_ms < COALESCE(:until_ms, 9223372036854775807)
),
r AS (
    SELECT COALESCE(b.decision_id, b.attempt_id) AS request,
        MAX(CASE WHEN b.final = 1 AND b.baseline_pusd IS NOT NULL
            THEN printf('%012d:%s', COALESCE(b.attempt_number, 0), b.attempt_id) END) AS pick,
        MAX(b.state <> 'open' AND b.cost_pusd IS NULL) AS unpriced
    FROM attempts b
    WHERE b.decision_id IN (SELECT decision_id FROM a)
        OR (b.decision_id IS NULL AND b.attempt_id IN (SELECT attempt_id FROM a))
    GROUP BY 1
)
"""


def sums_query(by: Sequence[str]) -> str:
    """The query for these groupings; raises ValueError for one that nobody knows."""
    for name in by:
        if name not in _GROUP_SQL:
            raise ValueError(f"costs can't be grouped by {name!r}; choose from {', '.join(GROUPINGS)}")
    keys = [f"{_GROUP_SQL[name]} AS key_{number}" for number, name in enumerate(by)]
    tokens = [f"COALESCE(SUM(a.{column}), 0) AS {column}" for column in TOKEN_COLUMNS]
    money = [
        f"COALESCE(SUM(({value}) >> 32), 0) AS {name}_high, COALESCE(SUM(({value}) & 4294967295), 0) AS {name}_low"
        for name, value in _MONEY_SUMS.items()
    ]
    counts = [
        "COUNT(DISTINCT a.request) AS requests",
        "COUNT(*) AS attempts",
        "COALESCE(SUM(a.state = 'open'), 0) AS open_attempts",
        "COALESCE(SUM(a.simulated = 1), 0) AS simulated_attempts",
        "COALESCE(SUM(a.state NOT IN ('open', 'refused')), 0) AS billable_attempts",
        "COALESCE(SUM(a.state NOT IN ('open', 'refused') AND a.usage_source IS NOT 'provider'), 0) AS guessed_attempts",
        "COALESCE(SUM(a.state <> 'open' AND a.cost_pusd IS NULL), 0) AS unpriced_attempts",
        "COALESCE(SUM(a.pick = r.pick AND r.unpriced = 0), 0) AS compared_requests",
    ]
    tables = "a JOIN r ON r.request = a.request"
    if "tag" in by:
        tables += " LEFT JOIN json_each(a.tags) AS t"
    if "plan" in by:
        tables += " LEFT JOIN decisions AS d ON d.id = a.decision_id"
    grouping = f" GROUP BY {', '.join(str(number + 1) for number in range(len(by)))}" if by else ""
    # Every piece is a literal of this file, chosen by name; the instants are bound.
    return f"{_SCOPE_SQL} SELECT {', '.join([*keys, *counts, *tokens, *money])} FROM {tables}{grouping}"  # noqa: S608  # See above.


def sums_of(row: sqlite3.Row, keys: int) -> CostSums:
    """A row of it, of which the first columns are the keys."""

    def money(name: str) -> int:
        return (int(row[f"{name}_high"]) << 32) + int(row[f"{name}_low"])

    return CostSums(
        keys=tuple(row[number] for number in range(keys)),
        requests=row["requests"],
        attempts=row["attempts"],
        open_attempts=row["open_attempts"],
        simulated_attempts=row["simulated_attempts"],
        billable_attempts=row["billable_attempts"],
        guessed_attempts=row["guessed_attempts"],
        unpriced_attempts=row["unpriced_attempts"],
        compared_requests=row["compared_requests"],
        tokens={column: row[column] for column in TOKEN_COLUMNS},
        cost_pusd=money("cost"),
        baseline_pusd=money("baseline"),
        compared_pusd=money("compared"),
    )
