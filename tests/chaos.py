"""Every fault in great number, on demand, with a table of what was seen.

Dead vendors, cuts at any byte, registries and clocks and workers that change under load, tenants who ask the same, kills,
stops, failpoints and simulated power cuts.

    .venv/bin/python tests/chaos.py [--seed 20261122] [--only fast,cuts,overspend,cache,kills,...] [--write]
    .venv/bin/python tests/chaos.py --seed 20261122 --case 731                    # one cut again, alone
    .venv/bin/python tests/chaos.py --seed 20261122 --recording FILE --case 17    # one power cut again

The parts are those of `PARTS`; `--fast`, `--cuts` and so on say how many (of `kills`, `writers`, `stops`, `points` and `power` for
each sync mode; of `overspend` rounds of 500 requests; of `cache` requests).

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import crossings
import endings
import lost_store
import overspend
import toll
import upheavals
from cuts import Case, Cut, a_cutting
from endings import Told
from matrix import DEATHS, VENDORS, Matrix, Outcome
from stage import start_router

from service.simulator import SimulatorThread

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
SEED = 20261122
COUNTS = {
    "fast": 200,
    "outages": 600,
    "cuts": 2_000,
    "own": 1_000,
    "store": 2,
    "overspend": 10,
    "cache": 20_000,
    "kills": 60,
    "writers": 400,
    "stops": 5,
    "points": 1,
    "power": 5_000,
}
"""What `make chaos` plays; figures in docs/reliability.md may be of more."""


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


def cuts_table(found: list[Cut]) -> str:
    """How often each thing came of a cut, by who was cut."""
    kinds = Counter((one.case.side, one.case.stream, one.kind) for one in found)
    wrong = Counter((one.case.side, one.case.stream, one.kind) for one in found if one.wrong)
    lines = [
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


def matrix(home: Path, asked: argparse.Namespace) -> Told:
    """The matrix of dead vendors."""
    with a_matrix(home / "matrix") as stage:
        outcomes = list(played(stage))
    return matrix_table(outcomes), [str(one) for one in outcomes if one.wrong]


def cuts(home: Path, asked: argparse.Namespace) -> Told:
    """Cuts at any byte."""
    begun, found = time.monotonic(), []
    with a_cutting(home / "cuts") as cutting:
        for number in range(asked.cuts):
            found.append(cutting.play(Case.drawn(asked.seed, number)))
            if number % 250 == 0:
                sys.stderr.write(f"cut {number} of {asked.cuts}, {time.monotonic() - begun:.0f} s\n")
    again = f".venv/bin/python tests/chaos.py --seed {asked.seed} --case"
    return cuts_table(found), [f"{one}\n  again: {again} {one.case.number}" for one in found if one.wrong]


PARTS: Mapping[str, Callable[[Path, argparse.Namespace], Told]] = {
    "matrix": matrix,
    "fast": lambda home, asked: toll.fast(home, asked.fast),
    "outages": lambda home, asked: toll.outages(home, asked.outages),
    "cuts": cuts,
    "own": lambda home, asked: upheavals.own(home, asked.own, asked.seed),
    "store": lambda home, asked: lost_store.told(home / "store", asked.store),
    "overspend": lambda home, asked: overspend.told(home / "overspend", asked.overspend, asked.seed),
    "cache": lambda home, asked: crossings.told(home / "cache", asked.cache, asked.seed),
    "kills": lambda home, asked: endings.kills(home, asked.kills, asked.seed),
    "writers": lambda _, asked: endings.writers(asked.writers, asked.seed),
    "stops": lambda home, asked: endings.stops(home, asked.stops, asked.seed),
    "points": lambda home, asked: endings.points(home, asked.points, asked.seed),
    "power": lambda home, asked: endings.power(home, asked.power, asked.seed),
}
"""Each gives its table and what was not as promised; docs/reliability.md has a place for each."""


def again(home: Path, asked: argparse.Namespace) -> int:
    """One case, alone."""
    if asked.recording is not None:
        wrong = endings.one_cut(home, asked.recording, asked.case, asked.seed)
        sys.stdout.write("\n".join(wrong or ["as promised"]) + "\n")
        return int(bool(wrong))
    with a_cutting(home / "cuts") as cutting:
        cut = cutting.play(Case.drawn(asked.seed, asked.case))
    sys.stdout.write(f"{cut}\n")
    return int(bool(cut.wrong))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    for part, count in COUNTS.items():
        parser.add_argument(f"--{part}", type=int, default=count)
    parser.add_argument("--case", type=int, help="play this cut alone")
    parser.add_argument("--recording", type=Path, help="of the power cut that --case names")
    parser.add_argument("--write", action="store_true", help="fill docs/reliability.md")
    asked = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="coe-chaos-") as scratch:
        home = Path(scratch)
        if asked.case is not None:
            return again(home, asked)
        for part in asked.only.split(","):
            table, problems = PARTS[part](home, asked)
            told = f"{machine()} Seed {asked.seed}.\n\n{table}"
            sys.stdout.write(f"{told}\n\n")
            wrong += problems
            if asked.write:
                put(part, told)
    sys.stdout.write("".join(f"{one}\n" for one in wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
