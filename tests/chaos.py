"""Every fault in great number, on demand, with tables of what was seen.

    .venv/bin/python tests/chaos.py [--seed 20261122] [--only matrix,cuts] [--cuts 2000] [--write]
    .venv/bin/python tests/chaos.py --seed 20261122 --case 731         # one cut again, alone

Dead vendors in every way, connections cut at any byte, registries that are read again under load, a clock that is set,
workers that are renewed. Real routers, real sockets. Exits with 1 when anything was not as promised, and says how to
play it again. `--write` puts the tables into docs/reliability.md, with date and machine. The small sizes of the same run
with every test.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import clocks
import reloads
import rolling
from cuts import Case, Cut, a_cutting
from matrix import DEATHS, VENDORS, Matrix, Outcome
from stage import start_router

from service.simulator import SimulatorThread

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
SEED = 20261122
CUTS = 2_000
RELOADS = 1_000
JUMPS = 100
ROLLED = 10_000


@contextmanager
def a_matrix(home: Path) -> Iterator[Matrix]:
    """A router over three vendors."""
    home.mkdir()
    with SimulatorThread(list(VENDORS)) as simulator:
        router = start_router(home / "data", Matrix.registry(home, simulator))
        yield Matrix(home, simulator, router)
        router.stop()


def matrix_table(outcomes: list[Outcome]) -> str:
    """One row per fault: calls that each vendor saw, time, rows, over its four cases."""
    by_fault = defaultdict(list)
    for one in outcomes:
        by_fault[one.fault].append(one)
    lines = [
        "| fault | cases | calls of alpha, beta, gamma: one dead | two dead | median ms: one dead | two dead | rows |",
        "|---|--:|---|---|--:|--:|---|",
    ]
    for fault, cases in by_fault.items():
        cells = []
        for dead in (1, 2):
            found = [one for one in cases if one.dead == dead]
            cells.append(", ".join(str(found[0].calls.get(vendor, 0)) for vendor in VENDORS))
            cells.append(f"{statistics.median(one.took_ms for one in found):.0f}")
        ends = sorted({row.split(" ", 1)[1] for one in cases for row in one.rows[:-1]})
        wrong = sum(bool(one.wrong) for one in cases)
        count = f"{len(cases) - wrong} of {len(cases)}"
        lines.append(f"| {fault} | {count} | {cells[0]} | {cells[2]} | {cells[1]} | {cells[3]} | {', '.join(ends)} |")
    return "\n".join(lines)


def cuts_table(found: list[Cut], seed: int) -> str:
    """How often each thing came of a cut, by who was cut."""
    kinds = Counter((one.case.side, one.case.stream, one.kind) for one in found)
    wrong = Counter((one.case.side, one.case.stream, one.kind) for one in found if one.wrong)
    lines = [
        f"Seed {seed}.",
        "",
        "| cut | answer | what the caller had | cases | not as promised |",
        "|---|---|---|--:|--:|",
    ]
    for (side, stream, kind), count in sorted(kinds.items()):
        lines.append(
            f"| the {side}'s connection | {'stream' if stream else 'whole'} | {kind} | {count} | {wrong[side, stream, kind]} |"
        )
    return "\n".join(lines)


def put(name: str, text: str) -> None:
    """Put a table between its marks in the page."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def machine() -> str:
    """Date and machine, as a line."""
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}."


def played(matrix: Matrix) -> Iterator[Outcome]:
    """Every case of the matrix."""
    for name in DEATHS:
        for dead in (1, 2):
            for stream in (False, True):
                yield matrix.play(name, dead, stream=stream)
        sys.stderr.write(f"{name}\n")


Played = tuple[str, list[str]]
"""The table of a part, and what was not as promised."""


def play_matrix(home: Path, _asked: argparse.Namespace) -> Played:
    """Vendors that are dead in every way."""
    with a_matrix(home) as matrix:
        outcomes = list(played(matrix))
    return f"{machine()}\n\n{matrix_table(outcomes)}", [str(one) for one in outcomes if one.wrong]


def play_cuts(home: Path, asked: argparse.Namespace) -> Played:
    """Connections that end after any byte."""
    numbers = range(asked.cuts) if asked.case is None else [asked.case]
    begun, cuts = time.monotonic(), []
    with a_cutting(home) as cutting:
        for number in numbers:
            cuts.append(cutting.play(Case.drawn(asked.seed, number)))
            if number % 250 == 0:
                sys.stderr.write(f"cut {number} of {len(numbers)}, {time.monotonic() - begun:.0f} s\n")
    if asked.case is not None:
        sys.stdout.write(f"{cuts[0]}\n")
    again = f".venv/bin/python tests/chaos.py --seed {asked.seed} --case"
    wrong = [f"{cut}\n  again: {again} {cut.case.number}" for cut in cuts if cut.wrong]
    return f"{machine()} {cuts_table(cuts, asked.seed)}", wrong


def play_own(home: Path, asked: argparse.Namespace) -> Played:
    """What happens to the router itself under load: registries, the clock, its own workers."""
    lines = [
        f"{machine()} Seed {asked.seed}.",
        "",
        "| what | how often | answers | not as promised |",
        "|---|---|--:|--:|",
    ]
    reloaded = reloads.played(home / "reloads", asked.seed, asked.reloads)
    sys.stderr.write(f"reloads: {reloaded}\n")
    often = f"{reloaded.served} good, {reloaded.refused} wrong ones"
    lines.append(f"| a registry is read again | {often} | {reloaded.answers:,} | {len(reloaded.wrong)} |")
    wrong = reloaded.wrong
    preload = clocks.library()
    if preload is None:
        wrong.append("the clock was not tried: libfaketime is not on this machine")
    else:
        jumped = clocks.played(home / "clock", asked.seed, asked.jumps, preload)
        sys.stderr.write(f"clock: {jumped}\n")
        often = f"{jumped.jumps} jumps of up to ten months"
        lines.append(f"| the clock is set | {often} | {jumped.answers:,} | {len(jumped.wrong)} |")
        wrong += jumped.wrong
    rolled = rolling.played(home / "rolling", asked.rolled)
    sys.stderr.write(f"rolling: {rolled}\n")
    often = f"{rolled.renewals} times two workers"
    lines.append(f"| workers are renewed | {often} | {rolled.asked:,} | {len(rolled.wrong)} |")
    return "\n".join(lines), wrong + rolled.wrong


PARTS: dict[str, Callable[[Path, argparse.Namespace], Played]] = {
    "matrix": play_matrix,
    "cuts": play_cuts,
    "own": play_own,
}
"""What is played, by the name of its table in docs/reliability.md."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--cuts", type=int, default=CUTS)
    parser.add_argument("--reloads", type=int, default=RELOADS)
    parser.add_argument("--jumps", type=int, default=JUMPS)
    parser.add_argument("--rolled", type=int, default=ROLLED, help="requests while workers are renewed")
    parser.add_argument("--case", type=int, help="play this cut alone")
    parser.add_argument("--write", action="store_true", help="fill docs/reliability.md")
    asked = parser.parse_args()
    names = ["cuts"] if asked.case is not None else asked.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="coe-chaos-") as scratch:
        for name in names:
            table, wrong = PARTS[name](Path(scratch) / name, asked)
            sys.stdout.write("\n".join([*wrong, table, "\n"]))
            failed = failed or bool(wrong)
            if asked.write and asked.case is None:
                put(name, table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
