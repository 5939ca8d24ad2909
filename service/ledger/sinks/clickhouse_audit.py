"""Whether the rows of the ClickHouse sink say what their requests say, worked out again by the server itself.

Where on the path: below `sinks.clickhouse`, behind `coe ledger verify`; of one data directory. What
`clickhouse_folding` does request by request in Python is done here by grouping, some hundred thousand attempts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from service.ledger.sinks.clickhouse_client import Client, quoted
from service.ledger.sinks.clickhouse_layout import ATTEMPTS, CHECKPOINT, DECISIONS, REQUESTS
from service.ledger.sinks.clickhouse_reports import bit, parts, together
from service.ledger.sinks.port import BASELINES, Audit

PIECE_ROWS: Final = 500_000
"""Attempts that are grouped at once: some hundred megabytes of the server's memory."""

Progress = Callable[[int, int], None]

_NUMBER: Final = "toString(ifNull(attempt_number, 0))"
_ZEROS: Final = f"substring('000000000000', 1, toUInt8(greatest(0, 12 - toInt32(length({_NUMBER})))))"
_RANK: Final = f"concat({_ZEROS}, {_NUMBER}, ':', attempt_id)"


def _wrong_baseline(number: int, column: str) -> str:
    """Whether of a request a baseline's bits are others than they should be."""
    final = f"(ifNull(final, 0) = 1 AND isNotNull({column}))"
    compared = f"(countIf({final}) > 0 AND countIf(state != 'open' AND isNull(cost_pusd)) = 0)"
    picked, charged = bit("picked", number), bit("charged", number)
    last = f"max(if({final}, {_RANK}, ''))"
    return (
        f"if({compared}, "
        f"countIf({picked}) != 1 OR max(if({picked}, {_RANK}, '')) != {last} OR countIf({charged}) != count(), "
        f"countIf({picked}) != 0 OR countIf(({charged}) != (state = 'unknown')) != 0)"
    )


_WRONG: Final = " OR ".join(f"({_wrong_baseline(number, one.column)})" for number, one in enumerate(BASELINES))


def audit(client: Client, source: str, made: str, progress: Progress | None = None) -> Audit:
    """See `Sink.audit`; nothing is being filled meanwhile."""
    mine = f"source = {quoted(source)}"
    query = (
        f"SELECT {', '.join(parts('ifNull(cost_pusd, 0)'))}, count(), countIf(isNotNull(open_rank)), "  # noqa: S608  # Names are literals of this package; values are quoted.
        f"countIf(isNotNull(terminal_rank)) FROM {ATTEMPTS} FINAL WHERE {mine}"
    )
    ((high, low, attempts, opened, ended),) = client.rows(query)
    running = client.rows(
        f"SELECT ifNull(writer, ''), count() FROM {ATTEMPTS} FINAL "  # noqa: S608  # As above.
        f"WHERE {mine} AND state = 'open' GROUP BY ifNull(writer, '')"
    )
    return Audit(
        checkpoints=checkpoints(client, source, made),
        attempts=attempts,
        opened=opened,
        ended=ended,
        running={str(name): int(count) for name, count in running},
        cost_pusd=together((high, low))[0],
        differences=tuple(_differences(client, mine, attempts, progress)),
    )


def checkpoints(client: Client, source: str, made: str) -> dict[str, int]:
    """Those of a source that are of the tables that are there now."""
    query = (
        f"SELECT segment, at_byte FROM {CHECKPOINT} FINAL "  # noqa: S608  # As above.
        f"WHERE source = {quoted(source)} AND made = {quoted(made)}"
    )
    return {str(segment): int(at) for segment, at in client.rows(query)}


def _differences(client: Client, mine: str, attempts: int, progress: Progress | None) -> Iterator[str]:
    pieces = attempts // PIECE_ROWS + 1
    wrong = planned = unnamed = 0
    for piece in range(pieces):
        if progress is not None:
            progress(piece, pieces)
        wrong += _count(
            client,
            f"SELECT count() FROM (SELECT request FROM {ATTEMPTS} FINAL "  # noqa: S608  # As above.
            f"WHERE {mine} AND cityHash64(request) % {pieces} = {piece} GROUP BY request HAVING {_WRONG})",
        )
        its = f"{mine} AND cityHash64(ifNull(decision_id, '')) % {pieces} = {piece}"
        known = f"FROM {DECISIONS} FINAL WHERE {mine} AND cityHash64(id) % {pieces} = {piece}"
        planned += _count(
            client,
            f"SELECT count() FROM {ATTEMPTS} FINAL WHERE {its} AND isNotNull(decision_id) "  # noqa: S608  # As above.
            f"AND (ifNull(decision_id, ''), ifNull(plan, '')) NOT IN (SELECT id, ifNull(plan, '') {known}) "
            f"AND (isNotNull(plan) OR ifNull(decision_id, '') IN (SELECT id {known}))",
        )
        unnamed += _count(
            client,
            f"SELECT count() FROM {ATTEMPTS} FINAL WHERE {its} AND isNotNull(decision_id) AND "  # noqa: S608  # As above.
            f"(ifNull(decision_id, ''), attempt_id) NOT IN (SELECT decision_id, attempt_id FROM {REQUESTS} "
            f"WHERE {mine} AND cityHash64(decision_id) % {pieces} = {piece})",
        )
    if wrong:
        yield f"{wrong} requests are compared with other baselines than their attempts say"
    if planned:
        yield f"{planned} attempts have another plan than their decision"
    if unnamed:
        yield f"{unnamed} attempts can't be found by their decision"
    if progress is not None:
        progress(1, 1)


def _count(client: Client, query: str) -> int:
    ((found,),) = client.rows(query)
    return int(found)
