"""What a batch changes in the tables of the PostgreSQL sink: attempts by halves, and the rollups with them.

Where on the path: below `sinks.postgres`, which opens the transaction and holds the lock of whoever changes anything.

Of requests that nobody has seen everything is worked out in memory and written once. Of others, what they had added to
the rollups is subtracted before anything of them changes, and what they add then is worked out anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import add
from typing import Any, Final, NamedTuple

import orjson

from service.ledger.lines import Line
from service.ledger.sinks import postgres_layout as layout
from service.ledger.sinks.halves import DECISION_COLUMNS, WHOLE_COLUMNS
from service.ledger.sinks.merging import Halves, Values, decided, merged, whole
from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, Problem
from service.ledger.sinks.postgres_layout import Connection
from service.ledger.sinks.rollup import DIMENSIONS, LEVELS, Row, added

NUMBERS_MAX: Final = 200_000
"""Sets of dimensions whose numbers are remembered."""

Deltas = dict[tuple[int, int, int], list[int]]
"""(hour, number of the set of dimensions, writer) -> what to add, as in `Added`."""

_AT_BASELINES: Final = 14
_AT_DIMENSIONS: Final = _AT_BASELINES + len(BASELINES)
_AT_TOKENS: Final = _AT_DIMENSIONS + len(DIMENSIONS)


class Stored(NamedTuple):
    """An attempt as it stands in the table."""

    request: str
    apart: bool
    decision_id: str | None
    open_rank: str | None
    terminal_rank: str | None
    row: Row


class Numbers:
    """The numbers of sets of dimensions; `forget` when a transaction that gave some was taken back."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[str, int] = {}

    def forget(self) -> None:
        """What is remembered may not be in the table."""
        self._known.clear()

    def of(self, connection: Connection, sets: Iterable[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], int]:
        """The number of each set, given where there is none yet."""
        names = {one: orjson.dumps(one).decode() for one in sets}
        missing = {name: one for one, name in names.items() if name not in self._known}
        if missing:
            if len(self._known) > NUMBERS_MAX:
                self._known.clear()
                missing = {name: one for one, name in names.items()}
            columns = list(zip(*(one for one in missing.values()), strict=True))
            tags = ["{" + ",".join(_quoted(tag) for tag in orjson.loads(one[_TAGS])) + "}" for one in missing.values()]
            connection.execute(_PUT_DIMENSIONS, (*map(list, columns), tags, list(missing)))
            query = f"SELECT name, id FROM {layout.SCHEMA}.dimensions WHERE name = ANY(%s)"  # noqa: S608  # A literal.
            self._known.update(connection.execute(query, (list(missing),)).fetchall())
        return {one: self._known[name] for one, name in names.items()}


_TAGS: Final = DIMENSIONS.index("tags")
_PUT_DIMENSIONS: Final = (
    f"INSERT INTO {layout.SCHEMA}.dimensions ({', '.join(DIMENSIONS)}, tag_list, name) "  # noqa: S608  # Names are literals of this package.
    f"SELECT {', '.join(f'v{number}' for number in range(len(DIMENSIONS)))}, tags::text[], name "
    f"FROM unnest({', '.join(['%s::text[]'] * (len(DIMENSIONS) + 2))}) "
    f"AS v ({', '.join(f'v{number}' for number in range(len(DIMENSIONS)))}, tags, name) ON CONFLICT (name) DO NOTHING"
)


def _quoted(tag: str) -> str:
    return '"' + tag.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Change:
    """One batch on its way into the tables."""

    def __init__(self, connection: Connection, numbers: Numbers, source: int, unknown_writer: int) -> None:
        """`unknown_writer` stands for whoever opened an attempt whose open row is not there."""
        self._connection = connection
        self._numbers = numbers
        self._source = source
        self._unknown = unknown_writer
        self.problems: list[Problem] = []

    def make(self, lines: Sequence[Line], writer: int) -> None:
        """Store `lines` of a writer's segment, and change the rollups."""
        attempts = merged(lines, writer)
        decisions = {values["id"]: values for values in map(decided, lines) if values is not None}
        before = self._before(attempts, decisions)
        deltas: Deltas = {}
        self._add(before.values(), deltas, -1)
        if decisions:
            columns = [[values[name] for values in decisions.values()] for name in DECISION_COLUMNS]
            self._connection.execute(layout.PUT_DECISIONS, (self._source, *columns))
        there = {stored.row.attempt_id: stored for rows in before.values() for stored in rows}
        self._update(attempts, there)
        fresh = self._fresh(attempts, there, decisions)
        # A row that was there may join a request only now, when its beginning comes.
        known = set(before) | {
            one.opened["decision_id"] for name, one in attempts.items() if name in there and one.opened
        }
        seen = {name: rows for name, rows in fresh.items() if name not in known}
        apart = self._add(seen.values(), deltas, 1)
        with self._connection.cursor() as cursor, cursor.copy(layout.COPY) as copy:
            for name, rows in fresh.items():
                for stored in rows:
                    halves = attempts[stored.row.attempt_id]
                    copy.write_row((self._source, name in apart or name in known, *_in_order(whole(halves))))
        if before:
            self._again(there, known, deltas)
        if deltas:
            write(self._connection, deltas)

    def _before(self, attempts: Mapping[str, Halves], decisions: Collection[str]) -> dict[str, list[Stored]]:
        """The attempts of every request that the batch says something of, as they stand: by request."""
        found = [_stored(row) for row in self._connection.execute(layout.BY_ATTEMPT, (list(attempts),))]
        named = {one.opened["decision_id"] for one in attempts.values() if one.opened is not None}
        named |= {stored.decision_id for stored in found}
        named |= set(decisions)
        named.discard(None)
        rows = {stored.row.attempt_id: stored for stored in found}
        for row in self._connection.execute(layout.BY_DECISION, (list(named),)):
            stored = _stored(row)
            rows[stored.row.attempt_id] = stored
        return _by_request(rows.values())

    def _update(self, attempts: Mapping[str, Halves], there: Mapping[str, Stored]) -> None:
        """Write the halves that are new, or rank before those that are there, of attempts that have a row."""
        opened: list[Values] = []
        ended: list[Values] = []
        for name, halves in attempts.items():
            stored = there.get(name)
            ranks = (None, None) if stored is None else (stored.open_rank, stored.terminal_rank)
            for kind, new, rank, due in (
                ("open", halves.opened, ranks[0], opened),
                ("terminal", halves.ended, ranks[1], ended),
            ):
                if kind in halves.several or (new is not None and rank is not None and new[f"{kind}_rank"] != rank):
                    self.problems.append(Problem("", 0, f"attempt {name} has more than one {kind} row"))
                if stored is not None and new is not None and (rank is None or new[f"{kind}_rank"] < rank):
                    due.append(new)
        with self._connection.cursor() as cursor:
            if opened:
                cursor.executemany(layout.PUT_OPEN, opened)
            if ended:
                cursor.executemany(layout.PUT_TERMINAL, ended)

    def _fresh(
        self, attempts: Mapping[str, Halves], there: Mapping[str, Stored], decisions: Mapping[str, Values]
    ) -> dict[str, list[Stored]]:
        """The attempts of a batch that have no row yet, by request."""
        fresh = {name: halves for name, halves in attempts.items() if name not in there}
        named = {one.opened["decision_id"] for one in fresh.values() if one.opened is not None} - {None}
        query = f"SELECT id, plan FROM {layout.SCHEMA}.decisions WHERE id = ANY(%s)"  # noqa: S608  # A literal.
        plans: dict[Any, Any] = {name: values["plan"] for name, values in decisions.items()}
        plans.update(self._connection.execute(query, (list(named - plans.keys()),)).fetchall())
        return _by_request(_in_memory(name, halves, plans) for name, halves in fresh.items())

    def _again(self, there: Iterable[str], known: Iterable[str | None], deltas: Deltas) -> None:
        """Add requests of which something was there before, as all of them stands now."""
        rows = {}
        named = [name for name in known if name is not None]
        for query, asked in ((layout.BY_ATTEMPT, list(there)), (layout.BY_DECISION, named)):
            for row in self._connection.execute(query, (asked,)):
                stored = _stored(row)
                rows[stored.row.attempt_id] = stored
        now = _by_request(rows.values())
        apart = self._add(now.values(), deltas, 1)
        for state in (True, False):
            names = [
                one.row.attempt_id
                for name, its in now.items()
                for one in its
                if (name in apart) is state and one.apart is not state
            ]
            if names:
                query = f"UPDATE {layout.SCHEMA}.attempts SET apart = %s WHERE attempt_id = ANY(%s)"  # noqa: S608  # A literal.
                self._connection.execute(query, (state, names))

    def _add(self, requests: Iterable[list[Stored]], deltas: Deltas, sign: int) -> set[str]:
        """Add (1) or subtract (-1) what requests add; tells which can't be rolled up. Those add nothing."""
        apart: set[str] = set()
        found = []
        for rows in requests:
            if sign < 0 and rows[0].apart:
                continue
            its = added([one.row for one in rows])
            if its is None or not all(_fits(one.dimensions[_TAGS]) for one in its):
                apart.add(rows[0].request)
            else:
                found += its
        if found:
            numbers = self._numbers.of(self._connection, {one.dimensions for one in found})
            for one in found:
                key = (one.hour, numbers[one.dimensions], one.writer or self._unknown)
                signed = one.values if sign > 0 else [-value for value in one.values]
                deltas[key] = list(map(add, deltas[key], signed)) if key in deltas else signed
        return apart


def write(connection: Connection, deltas: Deltas) -> None:
    """Add deltas to the hours and to every coarser period that is folded; fold what is over."""
    query = f"SELECT level, before FROM {layout.SCHEMA}.folded"  # noqa: S608  # A literal.
    folded: dict[Any, Any] = dict(connection.execute(query).fetchall())
    for level in LEVELS:
        first = level is LEVELS[0]
        before = 2**62 if first else folded.get(level.table, 0)
        due: Deltas = {}
        for (hour, number, writer), values in deltas.items():
            period = hour // level.hours
            if period < before:
                key = (period, number, writer)
                due[key] = list(map(add, due[key], values)) if key in due else values
        due = {key: values for key, values in due.items() if any(values)}
        if due:
            # In one order, whoever writes.
            columns = list(zip(*((*key, *due[key]) for key in sorted(due)), strict=True))
            connection.execute(layout.UPSERT[level], [list(column) for column in columns])
            less = [key for key, values in due.items() if values[0] < 0]
            if less:
                # What has become nothing goes: a rebuilt index would not have it.
                connection.execute(layout.EMPTIED[level], [list(column) for column in zip(*less, strict=True)])
        if not first:
            newest = connection.execute(f"SELECT MAX(start) FROM {layout.SCHEMA}.{LEVELS[0].table}").fetchone()  # noqa: S608  # A literal.
            over = ((newest[0] if newest else None) or 0) // level.hours
            if over > before:
                connection.execute(layout.FOLD[level], (before, over))
                connection.execute(
                    f"INSERT INTO {layout.SCHEMA}.folded VALUES (%s, %s) "  # noqa: S608  # A literal.
                    "ON CONFLICT (level) DO UPDATE SET before = excluded.before",
                    (level.table, over),
                )


def _in_order(values: Values) -> list[Any]:
    return [values.get(name) for name in WHOLE_COLUMNS]


def _in_memory(name: str, halves: Halves, plans: Mapping[Any, Any]) -> Stored:
    values = dict(zip(WHOLE_COLUMNS, _in_order(whole(halves)), strict=True))
    decision = values["decision_id"]
    dimensions = tuple(values.get(column) for column in DIMENSIONS[:-2])
    return Stored(
        decision or name,
        apart=False,
        decision_id=decision,
        open_rank=None,
        terminal_rank=None,
        row=Row(
            0,
            name,
            values["at_ms"],
            values["writer"] or 0,
            values["state"],
            values["usage_source"],
            values["kind"],
            values["final"],
            values["attempt_number"],
            values["cost_pusd"],
            tuple(values[one.column] for one in BASELINES),
            (*dimensions, plans.get(decision), "true" if values["simulated"] == 1 else "false"),
            tuple(values[column] for column in TOKEN_COLUMNS),
        ),
    )


def _stored(found: Sequence[Any]) -> Stored:
    """A row of `layout.ROWS`."""
    attempt_id, at_ms, writer, *figures = found[5:_AT_BASELINES]
    baselines, dimensions = found[_AT_BASELINES:_AT_DIMENSIONS], found[_AT_DIMENSIONS:_AT_TOKENS]
    values: tuple[Any, ...] = (0, attempt_id, at_ms, writer or 0, *figures, baselines, dimensions, found[_AT_TOKENS:])
    state: tuple[Any, ...] = (*found[:5], Row(*values))
    return Stored(*state)


def _by_request(rows: Iterable[Stored]) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = {}
    for stored in rows:
        found.setdefault(stored.request, []).append(stored)
    return found


def _fits(tags: str) -> bool:
    """Whether an attempt with these tags can be in a rollup: it stands in the group of each, and twice is no sum."""
    found = orjson.loads(tags)
    return isinstance(found, list) and all(isinstance(tag, str) for tag in found) and len(set(found)) == len(found)
