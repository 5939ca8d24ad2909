"""Answers that end too early, through every way to ask of both official SDKs, in great number: a table of what was seen.

    .venv/bin/python tests/chaos_sdks.py [--seed 20261122] [--cuts 1200] [--write]
    .venv/bin/python tests/chaos_sdks.py --seed 20261122 --case 731         # one cut again, alone

First every fault of a vendor and every place where a cut means something, by FIN and by RST; then cuts at any byte, half
of them asked for by JavaScript. Real routers, real sockets. Exits with 1 when anything was not as promised, and says how
to play it again. `--write` puts the table into docs/reliability.md. The small size of the same runs with every test.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos import SEED, machine, put
from sdk_cuts import FAULTS, PLACES, Trial, Trials, Verdict, a_trial_stage
from sdks import SURFACES, Sdks, streams, why_no_javascript

CUTS = 1_200
SILENCES_S = (0.0, 0.3)


def played(trials: Trials) -> Iterator[Verdict]:
    """Every fault and every place, by every way to stream."""
    streaming = [surface for surface in SURFACES if streams(surface)]
    for fault in FAULTS:
        yield from trials.play_all([Trial(surface, fault=fault) for surface in streaming])
    sys.stderr.write("faults played\n")
    for place, there in PLACES.items():
        for reset in (False, True):
            for silence_s in SILENCES_S:
                few = [replace(Trial.at(place, one, reset=reset), pause_s=silence_s) for one in streaming]
                for found in trials.play_all(few):
                    as_expected = found.said.usage == there.usage and (found.said.raised is None) == there.whole
                    if not (as_expected or reset):  # a reset takes with it what was still on its way
                        found.wrong.append(f"{'whole' if there.whole else 'raised'} expected {place}")
                    yield found
    sys.stderr.write("places played\n")


def kind_of(found: Verdict) -> tuple[str, str, str, str]:
    """The row of the table that a verdict is counted in."""
    trial = found.trial
    what = "the vendor broke off"
    if trial.side:
        what = "the vendor's connection" if trial.side == "vendor" else "the line to the router"
    what += " at a place that means something" if trial.place else " at any byte" if trial.side else ", ten ways"
    sdk = "JavaScript" if trial.surface.startswith("javascript") else "Python"
    return what, sdk, "stream" if streams(trial.surface) else "whole", found.kind


def table(found: list[Verdict], seed: int) -> str:
    """How often each thing was said, by what went wrong and who asked."""
    kinds = Counter(map(kind_of, found))
    wrong = Counter(kind_of(one) for one in found if one.wrong)
    lines = [
        f"Seed {seed}.",
        "",
        "| what ended | SDK | answer | what its caller had | cases | not as promised |",
        "|---|---|---|---|--:|--:|",
    ]
    for row, count in sorted(kinds.items()):
        lines.append(f"| {' | '.join(row)} | {count} | {wrong[row]} |")
    return "\n".join(lines)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cuts", type=int, default=CUTS)
    parser.add_argument("--case", type=int, help="play this cut alone")
    parser.add_argument("--write", action="store_true", help="fill docs/reliability.md")
    asked = parser.parse_args()
    missing = why_no_javascript()
    if missing:
        parser.exit(1, f"{missing}\n")
    found: list[Verdict] = []
    numbers = range(asked.cuts) if asked.case is None else [asked.case]
    with (
        tempfile.TemporaryDirectory(prefix="coe-chaos-") as scratch,
        Sdks() as sdks,
        a_trial_stage(Path(scratch) / "home", sdks) as trials,
    ):
        if asked.case is None:
            found += played(trials)
        begun = time.monotonic()
        for number in numbers:
            found.append(trials.play(Trial.drawn(asked.seed, number)))
            if number % 250 == 0:
                sys.stderr.write(f"cut {number} of {len(numbers)}, {time.monotonic() - begun:.0f} s\n")
    for one in found:
        if one.wrong or asked.case is not None:
            sys.stdout.write(f"{one}\n")
            if one.trial.side and not one.trial.place:
                again = f".venv/bin/python tests/chaos_sdks.py --seed {asked.seed} --case {one.trial.number}"
                sys.stdout.write(f"  again: {again}\n")
    if asked.case is None:
        text = f"{machine()} {table(found, asked.seed)}"
        sys.stdout.write(f"{text}\n")
        if asked.write:
            put("sdks", text)
    return int(any(one.wrong for one in found))


if __name__ == "__main__":
    sys.exit(main())
