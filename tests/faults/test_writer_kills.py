"""Writers of the journal killed at any instant, a hundred times in each mode; `make chaos` kills thousands (I1)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "writer_kills.py"


def killed(sync, cycles, broken=""):
    """What a run of the program told."""
    asked = [sys.executable, str(PROGRAM), "--sync", sync, "--cycles", str(cycles), "--broken", broken]
    return json.loads(subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()[-1])


@pytest.mark.parametrize("sync", ["group", "always", "interval"])
def test_each_attempt_has_its_end_and_no_second_one(sync):
    """Told as sent: one open row, one end; told as answered: that very end."""
    told = killed(sync, 45)
    assert told["wrong"] == []
    assert told["counts"]["killed at work"] > 15
    assert told["counts"]["killed while starting"] > 3
    assert told["counts"]["unknown"] > 0


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ("sent before it is written", "sent, and no open row"),
        ("told before it is written", "its caller had the answer"),
        ("swept twice", "2 ends"),
    ],
)
def test_a_writer_that_is_broken_is_caught(broken, seen):
    """Positive controls."""
    told = killed("group", 160 if broken == "swept twice" else 40, broken)
    assert any(seen in one for one in told["wrong"])
