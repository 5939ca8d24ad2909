"""How long reports take on a large ledger, and what keeping the rollups up costs.

    .venv/bin/python bench/reports.py [--rows 10000000] [--days 30] [--copies 25] [--dir DIR] [--url URL] [--write]

Makes an index of so many attempts, straight into the sink, and asks it every grouping, alone and in pairs, over all of
it and over ranges whose bounds cut hours. An index that is in `--dir`, or behind `--url`, already is used as it is.
`--copies` has only a part filled as a router would fill it, and the rest copied within the database (`copies.py`),
later each time. `--write` puts the table into docs/ledger.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from copies import copy_postgres, copy_sqlite

from service.ledger.lines import Line
from service.ledger.reports import cost_report
from service.ledger.sinks import INDEX_FILE, open_sink
from service.ledger.sinks.port import BASELINES, GROUPINGS, Batch, Sink, SinkMissing

PAGE = ROOT / "docs" / "ledger.md"

SEGMENT = "20261101T000000000Z-1-00000000.00000.jsonl"
UNTIL_MS = 1_795_046_400_000 + 11 * 3_600_000 + 1_234_567
"""Some instant within an hour of 2026-11-19."""

KEYS, TEAMS, MODELS, INTENTS = 200, 20, 10, 16
PROVIDERS = ("alpha", "beta", "gamma")
SECOND_TRY = 0.04
"""Share of requests that take a second attempt, at another model as a rule."""

DAY_MS = 86_400_000

BATCH_REQUESTS = 660

TIMES = 3
"""How often each report is asked for."""

BY_PAIRS = (("model", "day"), ("key", "model"), ("tag", "day"), ("key", "day"), ("intent", "model"), ("key", "intent"))
BY_MANY = ("key", "model", "intent", "day")


def requests(rows: int, days: float, back: float) -> Iterator[list[Line]]:
    """The lines of one request after the other, over so many `days`, beginning so many days `back`.

    Few keys have most of it, and most of it is settled at once.
    """
    chance = random.Random(11)
    weights = list(itertools.accumulate(chance.paretovariate(1.1) for _ in range(KEYS)))
    attempts = number = 0
    while attempts < rows:
        key = bisect.bisect(weights, chance.random() * weights[-1])
        number += 1
        lines = _request(chance, number, key, UNTIL_MS - round((back - attempts * days / rows) * DAY_MS))
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
            ended |= {one.column: 4 * cost for one in BASELINES} | {"baseline_model": "m9"}
        lines += [Line("open", opened, "0"), Line("terminal", ended, "0")]
    return lines


def copy(folder: Path, url: str | None, copies: int) -> None:
    """Have a filled index hold itself so many times."""
    if url is None:
        copy_sqlite(folder / INDEX_FILE, copies)
    else:
        copy_postgres(url, copies)


def make(sink: Sink, rows: int, days: float, back: float) -> str:
    """Fill an empty index; says how far it is and what an attempt took."""
    began, cpu, done = time.monotonic(), time.thread_time(), 0
    stream = requests(rows, days, back)
    while batch := list(itertools.islice(stream, BATCH_REQUESTS)):
        sink.store(Batch(SEGMENT, done + 1, list(itertools.chain.from_iterable(batch))))
        done += len(batch)
        if done % (BATCH_REQUESTS * 150) < BATCH_REQUESTS:
            spent = (time.monotonic() - began, (time.thread_time() - cpu) / done * 1e6)
            print(f"{done:,} requests, {spent[0]:,.0f} s, {spent[1]:.0f} us of CPU each", file=sys.stderr, flush=True)
    each = (time.monotonic() - began) / rows * 1e6, (time.thread_time() - cpu) / rows * 1e6
    return f"Filling took {each[0]:.0f} us an attempt, {each[1]:.0f} us of them processor time of the router."


def asked(sink: Sink, by: Sequence[str], since: datetime | None, until: datetime | None) -> tuple[list[float], int]:
    """(seconds of a whole report each time, its rows); the first one reads the file into the system's cache."""
    took, rows = [], 0
    for _ in range(TIMES + 1):
        began = time.monotonic()
        rows = len(cost_report(sink, by, since, until).rows)
        took.append(time.monotonic() - began)
    return took[1:], rows


def table(sink: Sink, pairs: Sequence[tuple[str, ...]], days: int) -> list[str]:
    """The lines of the table: one for each grouping, a column for each range."""
    until = datetime.fromtimestamp(UNTIL_MS / 1000, UTC)
    spans = {"all of it": None, "24 hours": 1.0, "7 days": 7.0, f"{days - 1} days": days - 1.0}
    lines = [f"| grouped by | groups | {', s | '.join(spans)}, s |", "|---|--:|" + "--:|" * len(spans)]
    worst = (0.0, "")
    for by in [(), *((name,) for name in GROUPINGS), *pairs, BY_MANY]:
        cells, groups = [], 0
        for name, back in spans.items():
            since = None if back is None else datetime.fromtimestamp(UNTIL_MS / 1000 - back * 86_400 + 100, UTC)
            took, rows = asked(sink, by, since, None if back is None else until)
            worst = max(worst, (max(took), f"by {', '.join(by) or 'nothing'} over {name}"))
            cells.append(f"{statistics.median(took):.2f}")
            groups = max(groups, rows)
        lines.append(f"| {', '.join(by) or 'nothing'} | {groups:,} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += ["", f"Medians of {TIMES}; the worst of all was {worst[0]:.2f} s, {worst[1]}."]
    print(lines[-1], flush=True)
    return lines


def held(sink: Sink) -> int:
    """How many attempts an index holds; none where nobody ever filled it."""
    try:
        return sum(row.attempts for row in sink.sums((), None, None))
    except SinkMissing:
        return 0


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="attempts, about")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--dir", type=Path, help="where the index is, or is to be and to stay; default: a scratch one")
    parser.add_argument("--pairs", choices=("some", "all"), default="some")
    parser.add_argument("--copies", type=int, default=1, help="of which all but one are copied within the database")
    parser.add_argument("--url", help="of another sink than SQLite")
    parser.add_argument("--write", action="store_true", help="put the table into docs/ledger.md")
    chosen = parser.parse_args()
    kind = (chosen.url or "sqlite:").partition(":")[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.dir or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with closing(open_sink(folder, chosen.url)) as sink:
            told = ""
            if not held(sink):
                sink.prepare()
                told = make(sink, chosen.rows // chosen.copies, chosen.days / chosen.copies, chosen.days)
                sink.close()
                if chosen.copies > 1:
                    copy(folder, chosen.url, chosen.copies)
            pairs = BY_PAIRS if chosen.pairs == "some" else tuple(itertools.combinations(GROUPINGS, 2))
            machine = f"{os.cpu_count()} x {platform.processor() or platform.machine()}"
            head = f"{datetime.now(UTC):%Y-%m-%d}, {kind}, {machine}: {held(sink):,} attempts of {chosen.days} days."
            head = f"{head} {told}".strip()
            if told and chosen.copies > 1:
                head = f"{head} Of these {chosen.rows // chosen.copies:,} were filled in, the rest are copies of them."
            print(head, flush=True)
            lines = [head, "", *table(sink, pairs, chosen.days)]
    if chosen.write:
        text = PAGE.read_text(encoding="utf-8")
        marked = re.compile(rf"(<!-- reports {kind}: begin -->\n).*?(<!-- reports {kind}: end -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
