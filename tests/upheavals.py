"""What happens to the router itself under load, in great number: registries, the clock, its own workers.

Where it stands: `tests/chaos.py` plays it; each of the three has its own module and its small number in the suite.
"""

from __future__ import annotations

import sys
from pathlib import Path

import clocks
import reloads
import rolling
from endings import Told

HEAD = ["| what | how often | answers | not as promised |", "|---|---|--:|--:|"]


def own(home: Path, renewed: int, seed: int) -> Told:
    """A tenth as many reloads as requests while workers are renewed, a hundredth as many jumps and renewals."""
    lines, wrong = list(HEAD), []
    reloaded = reloads.played(home / "reloads", seed, max(10, renewed // 10))
    sys.stderr.write(f"reloads: {reloaded}\n")
    often = f"{reloaded.served} good, {reloaded.refused} wrong ones"
    lines.append(f"| a registry is read again | {often} | {reloaded.answers:,} | {len(reloaded.wrong)} |")
    wrong += reloaded.wrong
    preload = clocks.faketime()
    if preload is None:
        wrong.append("the clock was not tried: libfaketime is not on this machine")
    else:
        jumped = clocks.played(home / "clock", seed, max(6, renewed // 100), preload)
        sys.stderr.write(f"clock: {jumped}\n")
        often = f"{jumped.jumps} jumps of up to ten months"
        lines.append(f"| the clock is set | {often} | {jumped.answers:,} | {len(jumped.wrong)} |")
        wrong += jumped.wrong
    rolled = rolling.played(home / "rolling", renewed, max(2, renewed // 100))
    sys.stderr.write(f"rolling: {rolled}\n")
    often = f"{rolled.renewals} times two workers"
    lines.append(f"| workers are renewed | {often} | {rolled.asked:,} | {len(rolled.wrong)} |")
    return "\n".join(lines), wrong + rolled.wrong
