"""How long reports take on a large ledger, and what keeping the rollups up costs.

    .venv/bin/python bench/reports.py [--rows 10000000] [--days 30] [--dir DIR] [--pairs all] [--plain] [--write]

Makes an index of so many attempts, straight into the sink, and asks it every grouping, alone and in pairs, over all of
it and over ranges whose bounds cut hours. An index that is in `--dir` already is used as it is. `--plain` asks the same
without rollups as well. `--write` puts the table into docs/performance.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import platform
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from service.ledger.lines import Line
from service.ledger.reports import cost_report
from service.ledger.sinks import sqlite_reports
from service.ledger.sinks.port import GROUPINGS, Batch
from service.ledger.sinks.sqlite import SqliteSink

PAGE = ROOT / "docs" / "performance.md"

SEGMENT = "20261101T000000000Z-1-00000000.00000.jsonl"
UNTIL_MS = 1_795_046_400_000 + 11 * 3_600_000 + 1_234_567
"""Some instant within an hour of 2026-11-19."""

KEYS, TEAMS, MODELS, INTENTS = 200, 20, 10, 16
PROVIDERS = ("alpha", "beta", "gamma")
SECOND_TRY = 0.04
"""Share of requests that take a second attempt, at another model as a rule."""

DAY_MS = 86_400_000

BATCH_REQUESTS = 660

BY_PAIRS = (("model", "day"), ("key", "model"), ("tag", "day"), ("key", "day"), ("intent", "model"), ("key", "intent"))
BY_MANY = ("key", "model", "intent", "day")


def requests(rows: int, days: int) -> Iterator[list[Line]]:
    """The lines of one request after the other: few keys have most of it, and most of it is settled at once."""
    chance = random.Random(11)
    weights = list(itertools.accumulate(chance.paretovariate(1.1) for _ in range(KEYS)))
    attempts = number = 0
    while attempts < rows:
        key = bisect.bisect(weights, chance.random() * weights[-1])
        number += 1
        lines = _request(chance, number, key, UNTIL_MS - round((days - attempts * days / rows) * DAY_MS))
        yield lines
        attempts += len(lines) // 2


def _request(chance: random.Random, number: int, key: int, at_ms: int) -> list[Line]:
    intent = (key * 7 + int(chance.expovariate(0.7))) % INTENTS
    model = (intent + int(chance.expovariate(1.2))) % MODELS
    decision = f"dec_{at_ms // 1000:08x}{number:016x}"
    told = b'{"id":"%s","plan":"single"}' % decision.encode()
    lines = [Line("decision", {"id": decision, "key_id": None, "created_ms": at_ms, "plan": "single"}, "0", told)]
    requested = "auto" if chance.random() < 0.9 else f"m{model}"
    language = ("en", "zh")[chance.random() < 0.3]
    tries = 2 if chance.random() < SECOND_TRY else 1
    for place in range(tries):
        attempt = f"att_{at_ms // 1000:08x}{number:015x}{place}"
        used = (model + place) % MODELS
        opened = {
            "attempt_id": attempt,
            "request_id": f"req_{number:016x}",
            "decision_id": decision,
            "attempt_number": place + 1,
            "at_ms": at_ms + place * 700,
            "key_id": f"key_{key:016x}",
            "requested_model": requested,
            "model": f"m{used}",
            "provider": PROVIDERS[used % len(PROVIDERS)],
            "wire_name": f"wire{used}",
            "intent": f"intent{intent}",
            "language": language,
            "policy": ("balanced", "cheap", "best")[key % 3],
            "price_version": "2026-01-01",
            "reserved_pusd": 2_000_000_000,
            "tags": [f"team{key % TEAMS}"],
            "kind": "answer",
        }
        whole = place == tries - 1
        cost = 62_000_000 + chance.randrange(10**9)
        ended = {
            "attempt_id": attempt,
            "state": "settled" if whole else "refused",
            "at_ms": at_ms + 900,
            "ended": "complete" if whole else "upstream_unavailable",
            "usage": {"input": chance.randrange(4_000), "output": chance.randrange(900), "requests": 1}
            if whole
            else {},
            "usage_source": "provider" if chance.random() < 0.99 else "estimated",
            "cost_pusd": cost if whole else 0,
            "price": {"currency": "USD", "version": "2026-01-01", "input": "0.1", "output": "0.4"},
            "final": whole,
            "total_ms": 900.0,
        }
        if whole:
            ended |= {"baseline_pusd": 4 * cost, "baseline_model": "m9"}
        lines += [Line("open", opened, "0"), Line("terminal", ended, "0")]
    return lines


def make(sink: SqliteSink, rows: int, days: int) -> None:
    """Fill an empty index; says how far it is and what a request took."""
    began, cpu, done = time.monotonic(), time.thread_time(), 0
    stream = requests(rows, days)
    while batch := list(itertools.islice(stream, BATCH_REQUESTS)):
        sink.store(Batch(SEGMENT, done + 1, list(itertools.chain.from_iterable(batch))))
        done += len(batch)
        if done % (BATCH_REQUESTS * 150) < BATCH_REQUESTS:
            spent = (time.monotonic() - began, (time.thread_time() - cpu) / done * 1e6)
            print(f"{done:,} requests, {spent[0]:,.0f} s, {spent[1]:.0f} us of CPU each", file=sys.stderr, flush=True)


def asked(sink: SqliteSink, by: Sequence[str], since: datetime | None, until: datetime | None) -> tuple[float, int]:
    """(seconds of a whole report, its rows), the better of two: the first reads the file into the system's cache."""
    best, rows = float("inf"), 0
    for _ in range(2):
        began = time.monotonic()
        rows = len(cost_report(sink, by, since, until).rows)
        best = min(best, time.monotonic() - began)
    return best, rows


def table(sink: SqliteSink, pairs: Sequence[tuple[str, ...]], days: int) -> list[str]:
    """The lines of the table: one for each grouping, a column for each range."""
    until = datetime.fromtimestamp(UNTIL_MS / 1000, UTC)
    spans = {"all of it": None, "24 hours": 1.0, "7 days": 7.0, f"{days - 1} days": days - 1.0}
    lines = [f"| grouped by | groups | {', s | '.join(spans)}, s |", "|---|--:|" + "--:|" * len(spans)]
    for by in [(), *((name,) for name in GROUPINGS), *pairs, BY_MANY]:
        found = []
        for back in spans.values():
            since = None if back is None else datetime.fromtimestamp(UNTIL_MS / 1000 - back * 86_400 + 100, UTC)
            found.append(asked(sink, by, since, None if back is None else until))
        times = " | ".join(f"{seconds:.2f}" for seconds, _ in found)
        lines.append(f"| {', '.join(by) or 'nothing'} | {found[0][1]:,} | {times} |")
        print(lines[-1], flush=True)
    return lines


def reading(sink: SqliteSink) -> sqlite3.Connection:
    """A connection for questions that a sink is not asked."""
    return sqlite3.connect(f"{sink.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def sizes(sink: SqliteSink) -> str:
    """Rows of the index and of its rollups, and its bytes."""
    with closing(reading(sink)) as connection:
        names = ("attempts", "dimensions", "rollup_hours", "rollup_days", "rollup_blocks", "waiting", "apart")
        counts = [connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in names]  # noqa: S608 # literals
    told = ", ".join(f"{count:,} {name}" for name, count in zip(names, counts, strict=True))
    return f"{told}; {sink.path.stat().st_size / 2**30:.1f} GiB"


def plainly(sink: SqliteSink) -> str:
    """The same totals without rollups, once."""
    began = time.monotonic()
    with closing(reading(sink)) as connection:
        want = sqlite_reports.plain_sums(connection, ("model",), None, None)
        seconds = time.monotonic() - began
        same = sqlite_reports.sums(connection, ("model",), None, None) == want
    return f"without rollups, by model: {seconds:.1f} s; the answers are {'the same' if same else 'NOT the same'}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="attempts, about")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--dir", type=Path, help="where the index is, or is to be and to stay; default: a scratch one")
    parser.add_argument("--pairs", choices=("some", "all"), default="some")
    parser.add_argument("--plain", action="store_true", help="ask without rollups, too")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.dir or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with closing(SqliteSink(str(folder / "ledger.sqlite"))) as sink:
            if not sink.path.exists():
                sink.prepare()
                make(sink, chosen.rows, chosen.days)
            pairs = BY_PAIRS if chosen.pairs == "some" else tuple(itertools.combinations(GROUPINGS, 2))
            lines = [f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}: {sizes(sink)}."]
            print(lines[0], flush=True)
            lines += ["", *table(sink, pairs, chosen.days)]
            if chosen.plain:
                lines += ["", plainly(sink)]
                print(lines[-1], flush=True)
    if chosen.write:
        text = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- reports: begin -->\n).*?(<!-- reports: end -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
