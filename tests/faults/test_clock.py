"""A clock that is set while the router runs (I27); the great number is in `make chaos`."""

from __future__ import annotations

import os

import pytest
from clocks import BEFORE, BEHIND, Seen, faketime, judge, played

SEED = 20261122
JUMPS = 6
RISES_MS = 1_000_000_000


def test_a_clock_that_is_set_cuts_nothing_and_lengthens_nothing(tmp_path):
    """Months forwards and back under streams: whole answers, true durations, the price of the moment, and it is told."""
    preload = faketime()
    if preload is None:
        assert not os.environ.get("CI"), "install libfaketime"
        pytest.skip("libfaketime is not on this machine")
    seen = played(tmp_path, SEED, JUMPS, preload)
    assert not seen.wrong, seen
    assert 0 < seen.told <= seen.jumps == JUMPS, seen
    assert seen.before > 0 < seen.behind, seen


def test_what_a_clock_may_spoil_would_be_found():
    """The judge itself: a negative duration, an attempt cut, the price of another day, an answer without a row."""
    late, early = ({"attempt_id": "a", "decision_id": name} for name in ("late", "early"))
    decided = {"late": RISES_MS, "early": RISES_MS - 1}
    end = {"ended": "complete", "ttft_ms": 1.0, "total_ms": 2.0, "overhead_ms": 0.5}
    right, other = ({**end, "price": {"rates": {"output": output}}} for output in (BEHIND, BEFORE))
    seen = Seen(answers=2)
    judge([(late, [right]), (early, [other])], decided, RISES_MS, seen)
    assert (seen.wrong, seen.before, seen.behind) == ([], 1, 1)
    bad = [(late, [other]), (late, [{**right, "total_ms": -1.0}]), (late, [{**right, "ended": "timeout_idle"}])]
    judge(bad, decided, RISES_MS, seen)
    assert [one.split(" ")[1] for one in seen.wrong] == ["was", "took", "ended", "answers,"]
