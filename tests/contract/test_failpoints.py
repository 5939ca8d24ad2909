"""Every failpoint does what it says, in a real router; whatever dies there, the books balance (I1, I14)."""

from __future__ import annotations

import pytest
from kills import Lives, at_the_point

from service.errors import ConfigurationError
from service.failpoints import ACTIONS, POINTS, parse

SYNCS = ("group", "always", "interval")


def test_a_router_killed_at_every_point_keeps_its_books(tmp_path):
    """One life for each point, each recovering the one before it; each point was reached."""
    with Lives.on_stage(tmp_path) as lives:
        errands = lives.errands("contract")
        wrong = []
        for number, point in enumerate(POINTS):
            wrong += at_the_point(lives, point, "kill", SYNCS[number % 3], 2 + number, errands)
        wrong += lives.unannounced()
        books, faults, compared = lives.balanced("group")
    assert wrong + faults == []
    assert books.states()["unknown"] >= 3, "nobody was interrupted: this run shows nothing"
    assert compared["attempts"] > 30


@pytest.mark.parametrize("point", POINTS)
def test_every_point_says_where_it_is(point):
    """And takes every action, with a turn or without."""
    assert POINTS[point].__doc__
    for action in ACTIONS:
        assert parse(f"{point}:{action}").turn is None
        assert parse(f"{point}:{action}@12").turn == 12


@pytest.mark.parametrize(
    "spec",
    ["", "kill", "after_open", "after_open:", "after_open:explode", "nowhere:kill", "after_open:kill@0", "x" * 99],
)
def test_what_is_no_failpoint_is_refused(spec):
    """With every point and action that there is."""
    with pytest.raises(ConfigurationError, match=r"one of after_open, .* an action one of kill, error, sleep; unset"):
        parse(spec)
