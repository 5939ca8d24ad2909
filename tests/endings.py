"""The second half of `make chaos`: routers that are killed, stopped, or die at a failpoint, and simulated power cuts.

Each part gives a table and whatever was not as promised. `chaos.py` calls them and has the command line.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kills import SHORT_TIMEOUTS, STOPPED_S, SYNCS, TIMEOUTS, Ending, Lives, at_the_point, killed, stopped
from powercut import Cuts, played
from recording import Recording, recorded

from service.failpoints import ACTIONS, POINTS

RECORDINGS = 20
"""Of each sync mode: other threads are elsewhere in each of them."""

SHOWN = ("settled rows", "estimated rows", "refused rows", "unknown rows")
Told = tuple[str, list[str]]
"""A table, and what was not as promised."""


def kills(home: Path, cycles: int, seed: int) -> Told:
    """Whole routers under load, killed at random moments: so many of each sync mode."""
    lines = [
        (
            "| COE_JOURNAL_SYNC | kills under load | while starting | attempts | seen by vendors | settled, estimated, refused, "
            "unknown | not as promised |"
        ),
        "|---|--:|--:|--:|--:|---|--:|",
    ]
    wrong = []
    for sync in SYNCS:
        with Lives.on_stage(home / f"kills-{sync}") as lives:
            found = killed(lives, sync, cycles, seed)
        sys.stderr.write(f"kills, {sync}: {dict(found.counts)}\n")
        wrong += found.wrong
        counts = found.counts
        states = ", ".join(f"{counts[name]:,}" for name in SHOWN)
        lines.append(
            f"| `{sync}` | {counts['killed under load']} | {counts['killed while starting']} | {counts['attempts']:,} | "
            f"{counts['requests that vendors saw']:,} | {states} | {len(found.wrong)} |"
        )
    return "\n".join(lines), wrong


def writers(cycles: int, seed: int) -> Told:
    """Writers alone, killed at any instant: so many of each sync mode."""
    lines = [
        (
            "| COE_JOURNAL_SYNC | killed at work | while starting | attempts | settled, unknown | ends from a spill | "
            "not as promised |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    wrong = []
    for sync in SYNCS:
        program = [sys.executable, str(Path(__file__).with_name("writer_kills.py")), "--sync", sync]
        asked = [*program, "--cycles", str(cycles), "--seed", str(seed)]
        done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=False)  # our own program
        told = json.loads(done.stdout.splitlines()[-1])
        counts = Counter(told["counts"])
        wrong += [f"writers, {sync}: {one}" for one in told["wrong"]]
        lines.append(
            f"| `{sync}` | {counts['killed at work']:,} | {counts['killed while starting']:,} | {counts['attempts']:,} | "
            f"{counts['settled']:,}, {counts['unknown']:,} | {counts['ends from a spill']:,} | {len(told['wrong'])} |"
        )
    return "\n".join(lines), wrong


def stops(home: Path, times: int, seed: int) -> Told:
    """SIGSTOP and SIGCONT under load, with deadlines longer and shorter than the stop."""
    lines = [
        "| deadlines of vendors | stops | requests | whole answers | attempts | of them failed | not as promised |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    wrong = []
    for told, timeouts in ((f"longer than the stop of {STOPPED_S:g} s", TIMEOUTS), ("half as long", SHORT_TIMEOUTS)):
        with Lives.on_stage(home / f"stops-{len(lines)}", timeouts=timeouts) as lives:
            found = stopped(lives, "group", seed, times=times)
        problems = [*found.wrong, *_not_whole(found)]
        wrong += problems
        counts = found.counts
        asked = sum(count for kind, count in counts.items() if _is_answer(kind))
        whole = counts["whole answer"] + counts["whole stream"]
        lines.append(
            f"| {told} | {counts['stops']} | {asked} | {whole} | {counts['attempts']} | "
            f"{counts['attempts that failed']} | {len(problems)} |"
        )
    return "\n".join(lines), wrong


def _is_answer(kind: str) -> bool:
    return kind not in {"stops", "attempts", "attempts that failed"}


def _not_whole(found: Ending) -> list[str]:
    others = [kind for kind in found.counts if _is_answer(kind) and kind not in {"whole answer", "whole stream"}]
    return [f"after a stop: {found.counts[kind]} times {kind}" for kind in others]


def points(home: Path, rounds: int, seed: int) -> Told:
    """Every failpoint, every action, every sync mode, in so many rounds, each in another turn."""
    lines = ["| failpoint | kill | error | sleep | not as promised |", "|---|--:|--:|--:|--:|"]
    chance, wrong, lived = random.Random(f"{seed}:points"), [], Counter[tuple[str, str]]()
    found: dict[str, list[str]] = {point: [] for point in POINTS}
    for sync in SYNCS:
        with Lives.on_stage(home / f"points-{sync}") as lives:
            errands = lives.errands(f"{seed}:points:{sync}")
            for turn in range(rounds):
                for point in POINTS:
                    for action in ACTIONS:
                        found[point] += at_the_point(lives, point, action, sync, chance.randint(1, 30), errands)
                        lived[point, action] += 1
                sys.stderr.write(f"failpoints, {sync}, round {turn + 1} of {rounds}\n")
            wrong += lives.unannounced()
            wrong += lives.balanced(sync)[1]
    for point, problems in found.items():
        cells = " | ".join(str(lived[point, action]) for action in ACTIONS)
        lines.append(f"| `{point}` | {cells} | {len(problems)} |")
        wrong += problems
    return "\n".join(lines), wrong


def power(home: Path, cuts: int, seed: int) -> Told:
    """So many simulated power cuts of each sync mode, over several recordings."""
    lines = [
        (
            "| COE_JOURNAL_SYNC | cuts | starts that reported damage | cuts that lost acknowledged rows | rows | the oldest | "
            "not as promised |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    wrong = []
    for sync in SYNCS:
        total = Cuts(sync)
        for number in range(RECORDINGS):
            place = home / f"power-{sync}-{number}"
            place.mkdir(parents=True)
            recording = recorded(place, sync, seed + number)
            found = played(recording, place, -(-cuts // RECORDINGS), seed)
            _add(total, found)
            if found.wrong:
                kept = Path(tempfile.gettempdir()) / f"coe-powercut-{sync}-{seed + number}.json"
                recording.save(kept)
                wrong += [f"{one} (again: --recording {kept} --case N)" for one in found.wrong]
        sys.stderr.write(f"power cuts, {sync}: {total.played}\n")
        oldest = f"{total.oldest_ms:.1f} ms" if total.lost else "-"
        lines.append(
            f"| `{sync}` | {total.played:,} | {total.told:,} | {total.cuts_with_loss:,} | {total.lost:,} | {oldest} | "
            f"{len(total.wrong)} |"
        )
    return "\n".join(lines), wrong


def _add(total: Cuts, found: Cuts) -> None:
    total.played += found.played
    total.lost += found.lost
    total.cuts_with_loss += found.cuts_with_loss
    total.oldest_ms = max(total.oldest_ms, found.oldest_ms)
    total.told += found.told
    total.wrong += found.wrong


def one_cut(home: Path, kept: Path, case: int, seed: int) -> Sequence[str]:
    """One power cut again, from its recording."""
    return played(Recording.load(kept), home, 1, seed, first=case).wrong
