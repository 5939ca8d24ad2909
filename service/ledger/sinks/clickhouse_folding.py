"""What a batch changes in the tables of the ClickHouse sink: rows that are written anew, whole.

Where on the path: below `sinks.clickhouse`. One process at a time fills the rows of a source, so what it reads here is
what it last wrote, or what a batch wrote that broke off: the same batch then finds it done and writes the rest.

What an attempt adds to reports depends on the others of its request: whenever one of them changes, all are looked at.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import orjson

from service.ledger.sinks import clickhouse_layout as layout
from service.ledger.sinks.clickhouse_client import Client, listed, quoted
from service.ledger.sinks.halves import OPEN_COLUMNS, TERMINAL_COLUMNS
from service.ledger.sinks.merging import Halves, Values, decided, merged, whole
from service.ledger.sinks.port import BASELINES, Batch, Problem

LISTED_MAX: Final = 500
"""Ids in one question: a server takes no list of any length."""

Rows = dict[str, list[bytes]]
"""Table -> rows as JSON, in the order in which they are to be written."""


class Versions:
    """Numbers that rise: by the clock, so also after a restart, and above all that was read."""

    def __init__(self) -> None:
        """None was given yet."""
        self._last = 0

    def next(self, above: Iterable[int] = ()) -> int:
        """A number above all that were given, and above those."""
        self._last = max(self._last + 1, time.time_ns(), *(number + 1 for number in above))
        return self._last


def change(client: Client, source: str, batch: Batch, writer: str, versions: Versions) -> Rows:
    """What has to be written for a batch of a writer's segment; nothing is written here.

    Problems come before the attempts: that there were two lines for a half can't be seen any more once the better one
    is stored. Raises as `Client.rows`, and TypeError for what no column takes.
    """
    attempts = merged(batch.lines, 0)
    for halves in attempts.values():
        if halves.opened is not None:
            halves.opened["writer"] = writer
    decisions = {values["id"]: values for values in map(decided, batch.lines) if values is not None}
    before = _before(client, source, attempts, decisions)
    now = {name: row.copy() for name, row in before.items()}
    problems: list[Problem] = []
    for name, halves in attempts.items():
        now[name], found = _joined(name, before.get(name), halves)
        problems += found
    _settle(now.values(), _plans(client, source, now, before, decisions))
    changed = [row for name, row in now.items() if row != before.get(name)]
    version = versions.next(row["version"] for row in before.values())
    for row in changed:
        row["version"] = version
    mine = {"source": source, "version": version}
    pairs = {(row["decision_id"], row["attempt_id"]) for row in changed if row["decision_id"] is not None}
    told = [{"segment": one.segment, "at_byte": one.offset, "what": one.what} for one in (*problems, *batch.problems)]
    return {
        table: [orjson.dumps(row | mine) for row in rows]
        for table, rows in (
            (layout.REQUESTS, [{"decision_id": one, "attempt_id": other} for one, other in sorted(pairs)]),
            (layout.PROBLEMS, told),
            (layout.DECISIONS, list(decisions.values())),
            (layout.ATTEMPTS, changed),
        )
    }


def _before(
    client: Client, source: str, attempts: Mapping[str, Halves], decisions: Collection[str]
) -> dict[str, Values]:
    """The stored attempts of every request that the batch says something of, by id."""
    found = _read(client, source, attempts)
    named = {one.opened["decision_id"] for one in attempts.values() if one.opened is not None}
    named |= {row["decision_id"] for row in found.values()} | set(decisions)
    named.discard(None)
    others: set[str] = set()
    for some in _pieces(named):
        query = (
            f"SELECT DISTINCT attempt_id FROM {layout.REQUESTS} "  # noqa: S608  # Literals of this package; values are quoted.
            f"WHERE source = {quoted(source)} AND decision_id IN {listed(some)}"
        )
        others.update(name for (name,) in client.rows(query))
    return found | _read(client, source, others - found.keys())


def _read(client: Client, source: str, names: Iterable[str]) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for some in _pieces(names):
        query = (
            f"SELECT {', '.join(layout.COLUMNS)} FROM {layout.ATTEMPTS} FINAL "  # noqa: S608  # As above.
            f"WHERE source = {quoted(source)} AND attempt_id IN {listed(some)}"
        )
        for row in client.rows(query):
            found[row[0]] = dict(zip(layout.COLUMNS, row, strict=True))
    return found


def _pieces(names: Iterable[str]) -> Iterable[list[str]]:
    # In order, so that each question is about neighbours.
    rest = iter(sorted(names))
    while some := list(itertools.islice(rest, LISTED_MAX)):
        yield some


def _joined(name: str, stored: Values | None, halves: Halves) -> tuple[Values, list[Problem]]:
    """(an attempt as it is with what a batch says of it, the halves of which there are several lines)."""
    row: Values = {**dict.fromkeys(layout.COLUMNS), **whole(halves)} if stored is None else stored.copy()
    problems = []
    for kind, new, columns in (
        ("open", halves.opened, ("at_ms", "day", *OPEN_COLUMNS)),
        ("terminal", halves.ended, TERMINAL_COLUMNS),
    ):
        rank = f"{kind}_rank"
        have = None if stored is None else stored[rank]
        if kind in halves.several or (new is not None and have is not None and new[rank] != have):
            problems.append(Problem("", 0, f"attempt {name} has more than one {kind} row"))
        if stored is not None and new is not None and (have is None or new[rank] < have):
            row.update((column, new.get(column)) for column in columns)
    row["request"] = row["decision_id"] if row["decision_id"] is not None else name
    row["attempt_id"], row["tag_list"] = name, _tags(row["tags"])
    return row, problems


def _tags(tags: str) -> list[str | None]:
    """The tags as a report takes them apart; `None` stands for none."""
    found = orjson.loads(tags)
    values = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else [found]
    told = [one if one is None or isinstance(one, str) else orjson.dumps(one).decode() for one in values]
    return told or [None]


def _plans(
    client: Client,
    source: str,
    now: Mapping[str, Values],
    before: Mapping[str, Values],
    decisions: Mapping[str, Values],
) -> Mapping[str | None, str | None]:
    """The plan of each decision that a row names: from the batch, from its rows, or from where decisions are."""
    plans: dict[str | None, str | None] = {None: None}
    plans |= {row["decision_id"]: row["plan"] for row in before.values()}
    plans |= {name: values["plan"] for name, values in decisions.items()}
    missing = {row["decision_id"] for row in now.values()} - plans.keys()
    for some in _pieces(name for name in missing if name is not None):
        query = (
            f"SELECT id, plan FROM {layout.DECISIONS} FINAL "  # noqa: S608  # As above.
            f"WHERE source = {quoted(source)} AND id IN {listed(some)}"
        )
        plans.update((name, plan) for name, plan in client.rows(query))
    return plans


def _settle(rows: Iterable[Values], plans: Mapping[str | None, str | None]) -> None:
    """Say of each attempt what it adds, beside the others of its request."""
    requests: dict[str, list[Values]] = {}
    for row in rows:
        requests.setdefault(row["request"], []).append(row)
    for its in requests.values():
        priced = all(row["state"] == "open" or row["cost_pusd"] is not None for row in its)
        crashed = [row["state"] == "unknown" for row in its]
        picked, charged = [0] * len(its), [0] * len(its)
        for bit, baseline in enumerate(BASELINES):
            finals = [
                (_rank(row), place)
                for place, row in enumerate(its)
                if row["final"] == 1 and row[baseline.column] is not None
            ]
            compared = priced and bool(finals)
            if compared:
                picked[max(finals)[1]] |= 1 << bit
            for place in range(len(its)):
                charged[place] |= int(compared or crashed[place]) << bit
        for place, row in enumerate(its):
            row["picked"], row["charged"], row["plan"] = picked[place], charged[place], plans.get(row["decision_id"])


def _rank(row: Values) -> str:
    """The order of attempts by which the last final one is the one whose baseline counts."""
    return f"{row['attempt_number'] or 0:012d}:{row['attempt_id']}"
