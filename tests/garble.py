"""Bytes as hardly anybody sends them, in great number, with tables of what was seen: I21, I22 and I23.

    .venv/bin/python tests/garble.py [--seed 20261122] [--only streams,spellings,requests,bytes] [--write]
        [--splits 50000] [--cases 5000] [--requests 20000] [--seconds 600]
    .venv/bin/python tests/garble.py --seed 20261122 --split 731      # one cut of one stream again, alone
    .venv/bin/python tests/garble.py --seed 20261122 --case 731       # one request with its answer again, alone

- streams: event streams cut anywhere, before the tap (`event_streams`);
- spellings: bodies and answers in any spelling, through a real router (`fidelity`);
- requests: made up from the OpenAPI document, to a real router (`documented`, in `.venv-fuzz`);
- bytes: three parsers under a coverage-guided fuzzer, so many seconds each (`fuzz/run.py`, in `.venv-fuzz`).

Exits with 1 when anything was not as promised, and says how to play it again; with 69 when `.venv-fuzz` is missing for
what was asked. `--write` puts the tables into docs/reliability.md. The small sizes of the same run with every test.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chaos import machine, put  # noqa: E402 # the path comes first
from event_streams import Split  # noqa: E402 # as above
from fidelity import QUIRKS, Case, a_passage  # noqa: E402 # as above

SEED = 20261122
PARTS = ("streams", "spellings", "requests", "bytes")
TARGETS = ("sse", "request", "registry")
UNAVAILABLE = 69
SHOWN_MAX = 20

Found = tuple[str, int]
"""A table, and how many were not as promised."""


def told(done: int, of: int, begun: float) -> None:
    """How far it is, now and then."""
    if done % max(1, of // 10) == 0:
        sys.stderr.write(f"{done:,} of {of:,}, {time.monotonic() - begun:.0f} s\n")


def streams(seed: int, numbers: Sequence[int]) -> Found:
    """Streams cut anywhere: what the tap, the standard and the SDK read of them."""
    cases, pieces, wrong = Counter[str](), Counter[str](), Counter[str]()
    begun = time.monotonic()
    for done, number in enumerate(numbers, 1):
        one = Split.drawn(seed, number)
        cases[one.kind] += 1
        pieces[one.kind] += len(one.places) + 1
        faults = one.wrong()
        if faults:
            wrong[one.kind] += 1
            again(f"split {number}, {one.kind}: {faults}", f"--split {number}", seed, wrong.total())
        told(done, len(numbers), begun)
    lines = ["| stream | cuts | pieces | other than the standard's parser or the SDK |", "|---|--:|--:|--:|"]
    lines += [f"| {kind} | {cases[kind]:,} | {pieces[kind]:,} | {wrong[kind]} |" for kind in sorted(cases)]
    return "\n".join(lines), wrong.total()


def spellings(seed: int, numbers: Sequence[int]) -> Found:
    """Bodies and answers in any spelling, through a real router."""
    cases, wrong = Counter[tuple[str, bool]](), Counter[tuple[str, bool]]()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="coe-garble-") as scratch, a_passage(Path(scratch) / "home") as passage:
        for done, number in enumerate(numbers, 1):
            one = passage.play(Case.drawn(seed, number))
            cases[one.vendor, one.stream] += 1
            if one.wrong:
                wrong[one.vendor, one.stream] += 1
                again(f"case {number}: {one.wrong}", f"--case {number}", seed, wrong.total())
            told(done, len(numbers), begun)
    lines = ["| vendor | answer | requests with their answers | changed otherwise than meant |", "|---|---|--:|--:|"]
    for (vendor, stream), count in sorted(cases.items()):
        who = f"with quirks {QUIRKS}" if vendor == "beta" else "without quirks"
        lines.append(f"| {who} | {'stream' if stream else 'whole'} | {count:,} | {wrong[vendor, stream]} |")
    return "\n".join(lines), wrong.total()


def again(what: str, how: str, seed: int, count: int) -> None:
    """Say what went wrong and how to see it again; not a thousand times."""
    if count <= SHOWN_MAX:
        sys.stdout.write(f"{what[:2_000]}\n  again: .venv/bin/python tests/garble.py --seed {seed} {how}\n")


def child(*arguments: str) -> Iterator[str]:
    """Run a script of the tests; its table, then what else it said, line by line. Ends us when it can't run."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    yield from done.stdout.splitlines()
    if done.returncode == 1:
        yield f"not as promised: {' '.join(arguments)}"


def requests(seed: int, cases: int) -> Found:
    """Requests made up from the document."""
    lines = list(child("tests/documented.py", "--cases", str(cases), "--seed", str(seed)))
    table, rest = [one for one in lines if one.startswith("|")], [one for one in lines if not one.startswith("|")]
    sys.stdout.writelines(f"{one}\n" for one in rest)
    return "\n".join(table), int(any(rest))


def fuzzed(seed: int, seconds: int) -> Found:
    """Each target for so long."""
    table: list[str] = []
    rest: list[str] = []
    for target in TARGETS:
        for line in child("tests/fuzz/run.py", "--target", target, "--seconds", str(seconds), "--seed", str(seed)):
            (table if line.startswith("|") else rest).append(line)
    sys.stdout.writelines(f"{one}\n" for one in rest)
    return "\n".join(
        [*table[:2], *(one for one in table if one.startswith(tuple(f"| {name} " for name in TARGETS)))]
    ), int(bool(rest))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default=",".join(PARTS), help="some of: " + ", ".join(PARTS))
    parser.add_argument("--splits", type=int, default=50_000)
    parser.add_argument("--cases", type=int, default=5_000)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--split", type=int, help="play this cut alone")
    parser.add_argument("--case", type=int, help="play this request alone")
    parser.add_argument("--write", action="store_true", help="fill docs/reliability.md")
    asked = parser.parse_args()
    if asked.split is not None or asked.case is not None:
        alone = streams(asked.seed, [asked.split]) if asked.split is not None else spellings(asked.seed, [asked.case])
        sys.stdout.write(f"{alone[0]}\n")
        return int(alone[1] > 0)
    plays: dict[str, Callable[[], Found]] = {
        "streams": lambda: streams(asked.seed, range(1, asked.splits + 1)),
        "spellings": lambda: spellings(asked.seed, range(1, asked.cases + 1)),
        "requests": lambda: requests(asked.seed, asked.requests),
        "bytes": lambda: fuzzed(asked.seed, asked.seconds),
    }
    wrong = 0
    for name in asked.only.split(","):
        sys.stderr.write(f"{name}\n")
        table, faults = plays[name]()
        wrong += faults
        text = f"{machine()} Seed {asked.seed}.\n\n{table}"
        sys.stdout.write(f"\n{text}\n")
        if asked.write:
            put(name, text)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
