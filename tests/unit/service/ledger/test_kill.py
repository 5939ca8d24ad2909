"""Kill -9 at any instant: no acknowledged row is lost, and every attempt has one end. `COE_KILL_CYCLES` scales it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CYCLES = int(os.environ.get("COE_KILL_CYCLES", "36"))
PROGRAM = Path(__file__).with_name("killed_writer.py")


def killed(tmp_path, contents, cycles, variant, seed=20261121):
    """Run the cycles; the journal's rows, what the writers were promised, and every broken promise."""
    oracle = tmp_path / "oracle"
    command = [sys.executable, str(PROGRAM), str(tmp_path / "data"), str(oracle), str(cycles), str(seed), variant]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150 + cycles)
    assert run.returncode == 0, run.stderr
    seen = contents(tmp_path / "data")
    promised = [line.split() for line in oracle.read_text().splitlines()]
    broken = seen.faults()
    for kind, attempt in promised:
        if kind == "O" and seen.opens[attempt] != 1:
            broken.append(f"{attempt}: acknowledged as open, {seen.opens[attempt]} rows")
        if kind == "T" and seen.ends.get(attempt, {}).get("state") != "settled":
            broken.append(f"{attempt}: acknowledged as settled, found {seen.ends.get(attempt, {}).get('state')}")
    return seen, promised, broken


@pytest.mark.timeout(180 + CYCLES)
def test_no_kill_loses_or_doubles_a_row(tmp_path, contents):
    """Writers in all sync modes, killed among rows, in rotation, in the start and in the sweep of those before them."""
    seen, promised, broken = killed(tmp_path, contents, CYCLES, "real")
    assert broken[:10] == []
    assert seen.damaged == 0
    crashed = sum(end["ended"] == "crash" for end in seen.ends.values())
    assert len(promised) >= 10 * CYCLES, "the writers hardly wrote: this run proves nothing"
    assert crashed >= CYCLES // 2, "no kill hit a running attempt: this run proves nothing"


@pytest.mark.parametrize("variant", ["buffered", "forgetful"])
def test_a_broken_journal_is_caught(tmp_path, contents, variant):
    """Positive control: rows kept in memory are lost, and without the sweep attempts stay open."""
    _, _, broken = killed(tmp_path, contents, 8, variant)
    assert broken
