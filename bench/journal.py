"""What writing a request down costs: bytes and microseconds of the journal, and of its index.

    .venv/bin/python bench/journal.py [--requests 20000] [--write]

A router with simulated vendors answers some prompts; what it wrote is what is measured. Its decisions, beginnings and
ends are written again, many times over and under new names, by the router's own writer into a scratch directory, and
indexed from there. Prints medians of several rounds; `--write` puts them into docs/ledger.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from prompts import MARK, prompts
from stand import DIRECT, free_port

from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger.indexer import Indexer
from service.ledger.lines import decode
from service.ledger.segments import journal_dir, list_segments, read_lines
from service.ledger.sinks import open_sink
from service.ledger.writer import GATHER_S, JournalWriter, SyncMode

PAGE = ROOT / "docs" / "ledger.md"
PROMPTS, PROMPT_BYTES = 100, 1_100
ROUNDS = 5
START_S = 30.0

Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""The bodies of a decision, of its only attempt's beginning, and of its end."""


@contextmanager
def router(data_dir: Path) -> Iterator[str]:
    """A router with simulated vendors; its root URL."""
    port = free_port()
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    env = {**keep, "PYTHONPATH": str(ROOT), "COE_LOCAL_ENGINES": "false", "COE_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "service", "serve", "--simulate", "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 # our own interpreter
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        due = time.monotonic() + START_S
        while True:
            try:
                DIRECT.open(f"{url}/healthz", timeout=1).close()
                break
            except OSError:
                if time.monotonic() > due or process.poll() is not None:
                    raise SystemExit("the router did not start; try `coe serve --simulate` by hand") from None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(START_S)


def ask(url: str) -> None:
    """Some prompts, one after the other."""
    import urllib.request  # noqa: PLC0415 # with `DIRECT`, its opener

    for number, text in enumerate(prompts(PROMPTS, PROMPT_BYTES)):
        content = text.replace(MARK, str(number))
        body = {"model": "auto", "messages": [{"role": "user", "content": content}], "max_tokens": 300}
        request = urllib.request.Request(  # noqa: S310 # loopback
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with DIRECT.open(request, timeout=30) as answer:
            answer.read()


def written(data_dir: Path) -> tuple[list[Parts], Mapping[str, float]]:
    """(requests of one attempt as they were written, mean bytes of each kind of line per request)."""
    size: Counter[str] = Counter()
    decisions: dict[str, dict[str, Any]] = {}
    begun: dict[str, dict[str, Any]] = {}
    found: list[Parts] = []
    for segment in list_segments(journal_dir(data_dir)):
        for raw in read_lines(segment.path):
            line = decode(raw.data)
            body = dict(line.body)
            size[line.kind] += len(raw.data) + 1
            if line.kind == "decision":
                decisions[str(body["id"])] = body
            elif line.kind == "open":
                begun[str(body["attempt_id"])] = body
            elif line.kind == "terminal":
                opened = begun[str(body["attempt_id"])]
                found.append((decisions[str(opened["decision_id"])], opened, body))
    return found, {kind: size[kind] / len(decisions) for kind in ("decision", "open", "terminal")}


def entries(parts: Parts, number: int) -> tuple[dict[str, Any], OpenEntry, TerminalEntry]:
    """The same request under other names."""
    record, opened, ended = parts
    attempt, decision = f"{str(opened['attempt_id'])[:20]}{number:012d}", f"{str(record['id'])[:20]}{number:012d}"
    opened = {**opened, "attempt_id": attempt, "decision_id": decision, "tags": tuple(opened.get("tags", ()))}
    ended = {**ended, "attempt_id": attempt, "state": EntryState(ended["state"])}
    ended["usage_flags"] = tuple(ended.get("usage_flags", ()))
    unknown = dict.fromkeys(name for name in OpenEntry._fields if name not in OpenEntry._field_defaults)
    return {**record, "id": decision}, OpenEntry(**{**unknown, **opened}), TerminalEntry(**ended)


def writing(data_dir: Path, parts: list[Parts], count: int, sync: SyncMode) -> tuple[float, float]:
    """(microseconds of processor time, of the clock) that the writing thread takes for a request."""
    made = [entries(parts[number % len(parts)], number) for number in range(count)]
    writer = JournalWriter(data_dir, sync=sync)
    writer.start()
    began, cpu = time.monotonic(), time.thread_time()
    for record, opened, ended in made:
        writer.hold_decision(record)
        writer.write_open(opened)
        writer.write_terminal(ended)
    took = (time.thread_time() - cpu) / count * 1e6, (time.monotonic() - began) / count * 1e6
    writer.close()
    return took


def indexing(data_dir: Path, count: int) -> float:
    """Microseconds of processor time to index an attempt in SQLite, its decision included."""
    with closing(open_sink(data_dir)) as sink, Indexer(data_dir, sink) as indexer:
        cpu = time.thread_time()
        indexer.catch_up()
        return (time.thread_time() - cpu) / count * 1e6


def report(parts: list[Parts], size: Mapping[str, float], count: int) -> list[str]:
    """The lines of the page."""
    whole = sum(size.values())
    each = ", ".join(f"{round(value):,} {kind}" for kind, value in size.items())
    machine = f"{os.cpu_count()} x {platform.processor() or platform.machine()}"
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}. A request of one attempt takes {round(whole):,} bytes: {each}.",
        "",
        "| `COE_JOURNAL_SYNC` | processor time of the writing thread, us | by the clock, us |",
        "|---|--:|--:|",
    ]
    filling = []
    for sync in GATHER_S:
        took = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as scratch:
                took.append(writing(Path(scratch), parts, count, sync))
                if sync == "group":
                    filling.append(indexing(Path(scratch), count))
        cpu, clock = (statistics.median(values) for values in zip(*took, strict=True))
        lines.append(f"| `{sync}` | {cpu:.0f} | {clock:.0f} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        f"Indexing it in SQLite takes {statistics.median(filling):.0f} us of processor time, in the background.",
    ]
    lines.append(f"Medians of {ROUNDS} rounds of {count:,} requests; `always` here doesn't wait for each sync to end.")
    return lines


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="written in each round")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/ledger.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        with router(Path(scratch)) as url:
            ask(url)
        parts, size = written(Path(scratch))
    lines = report(parts, size, chosen.requests)
    print("\n".join(lines))
    if chosen.write:
        text = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- journal: begin -->\n).*?(<!-- journal: end -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
