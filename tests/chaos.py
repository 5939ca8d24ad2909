"""Every fault in great number, on demand: the matrix of dead vendors and cuts at any byte, with a table of what was seen.

    .venv/bin/python tests/chaos.py [--seed 20261122] [--cuts 2000] [--write]
    .venv/bin/python tests/chaos.py --seed 20261122 --case 731         # one cut again, alone

Real routers, real sockets. Exits with 1 when anything was not as promised, and says how to play it again. `--write` puts
the tables into docs/reliability.md, with date and machine. The small sizes of the same run with every test.
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
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cuts import Case, Cut, a_cutting
from matrix import DEATHS, VENDORS, Matrix, Outcome
from stage import start_router

from service.simulator import SimulatorThread

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
SEED = 20261122
CUTS = 2_000


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


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cuts", type=int, default=CUTS)
    parser.add_argument("--case", type=int, help="play this cut alone")
    parser.add_argument("--write", action="store_true", help="fill docs/reliability.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coe-chaos-") as scratch:
        home = Path(scratch)
        outcomes: list[Outcome] = []
        if asked.case is None:
            with a_matrix(home / "matrix") as matrix:
                outcomes = list(played(matrix))
        numbers = range(asked.cuts) if asked.case is None else [asked.case]
        begun, cuts = time.monotonic(), []
        with a_cutting(home / "cuts") as cutting:
            for number in numbers:
                cuts.append(cutting.play(Case.drawn(asked.seed, number)))
                if number % 250 == 0:
                    sys.stderr.write(f"cut {number} of {len(numbers)}, {time.monotonic() - begun:.0f} s\n")
    for outcome in outcomes:
        if outcome.wrong:
            sys.stdout.write(f"{outcome}\n")
    for cut in cuts:
        if cut.wrong:
            again = f".venv/bin/python tests/chaos.py --seed {asked.seed} --case {cut.case.number}"
            sys.stdout.write(f"{cut}\n  again: {again}\n")
    if asked.case is not None:
        sys.stdout.write(f"{cuts[0]}\n")
    else:
        tables = {
            "matrix": f"{machine()}\n\n{matrix_table(outcomes)}",
            "cuts": f"{machine()} {cuts_table(cuts, asked.seed)}",
        }
        sys.stdout.write("\n\n".join(tables.values()) + "\n")
        for name, text in tables.items() if asked.write else ():
            put(name, text)
    return int(any(one.wrong for one in outcomes) or any(one.wrong for one in cuts))


if __name__ == "__main__":
    sys.exit(main())
