"""The tables of the ClickHouse sink. Literal SQL, for servers from 18.16 to today's.

Where on the path: below `sinks.clickhouse`; what a row of attempts is stands in `halves`.

There are no transactions and nothing is changed where it stands: a row is written again with a higher version, and of
several rows with one key the newest counts (`FINAL`). Each table is partitioned by source, the id of the data directory
that its rows are from, so that a directory's rows can be dropped at once.

An attempt's row carries what it adds to a report: its request, its plan, and as bits which baselines are counted at it
(`picked`) and in which its cost is compared (`charged`). A report is then one look through one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from service.ledger.sinks.halves import DEFAULTS, OPEN_COLUMNS, TERMINAL_COLUMNS, Kind, kind_of
from service.ledger.sinks.port import LAYOUT

PREFIX: Final = "coe_ledger_"
DAMAGED: Final = "coe_ledger_damaged_"
"""What damaged tables are called from then on; the next ones that are damaged take their place."""

VERSION: Final = LAYOUT

LAYOUT_TABLE: Final = f"{PREFIX}layout"
ATTEMPTS: Final = f"{PREFIX}attempts"
REQUESTS: Final = f"{PREFIX}requests"
DECISIONS: Final = f"{PREFIX}decisions"
CHECKPOINT: Final = f"{PREFIX}checkpoint"
PROBLEMS: Final = f"{PREFIX}problems"
FILLING: Final = f"{PREFIX}filling"

_TYPES: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "String",
    Kind.INTEGER: "Int64",
    Kind.REAL: "Float64",
    Kind.MONEY: "Int64",
}


def _column(name: str) -> str:
    if name in DEFAULTS:
        return f"{name} String"
    kind = Kind.TEXT if name == "writer" else kind_of(name)
    return f"{name} Nullable({_TYPES[kind]})"


TOLD: Final = ("attempt_id", "at_ms", "day", *OPEN_COLUMNS, *TERMINAL_COLUMNS)
"""What is told of an attempt; `writer` is the name of who opened it."""

OWN: Final = ("request", "plan", "tag_list", "picked", "charged", "version")
"""What an attempt's row has besides."""

COLUMNS: Final = (*TOLD, *OWN)

_REPLACING: Final = "ENGINE = ReplacingMergeTree(version) PARTITION BY source ORDER BY"

MAKE: Final[Mapping[str, str]] = {
    ATTEMPTS: f"""(
        source String, attempt_id String, at_ms Int64, day String,
        {", ".join(_column(name) for name in (*OPEN_COLUMNS, *TERMINAL_COLUMNS))},
        request String, plan Nullable(String), tag_list Array(Nullable(String)), picked UInt32, charged UInt32,
        version UInt64
    ) {_REPLACING} (attempt_id, source)""",
    REQUESTS: f"(source String, decision_id String, attempt_id String, version UInt64) {_REPLACING} "
    "(decision_id, attempt_id, source)",
    DECISIONS: f"""(
        source String, id String, key_id Nullable(String), at_ms Nullable(Int64), plan Nullable(String), json String,
        version UInt64
    ) {_REPLACING} (id, source)""",
    CHECKPOINT: f"(source String, segment String, at_byte Int64, made String, version UInt64) {_REPLACING} "
    "(segment, source)",
    PROBLEMS: f"(source String, segment String, at_byte Int64, what String, version UInt64) {_REPLACING} "
    "(segment, at_byte, what, source)",
    FILLING: f"(source String, done UInt8, version UInt64) {_REPLACING} source",
    # Last, so that whoever sees it sees all.
    LAYOUT_TABLE: "(version UInt32, made String) ENGINE = MergeTree ORDER BY made",
}
"""By name. `requests` says which attempts a decision has, by decision; `filling` whether a batch is on its way;
a checkpoint counts only for the tables that it was `made` in."""

OWNED: Final = (CHECKPOINT, ATTEMPTS, REQUESTS, DECISIONS, PROBLEMS, FILLING)
"""Tables with rows of a source, in the order in which they are emptied: without a checkpoint all is filled again."""
