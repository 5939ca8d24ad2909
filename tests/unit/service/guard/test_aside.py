"""What was spent with tags that nothing counts: exact while it is kept, and bounded."""

from __future__ import annotations

from service.guard import aside as module
from service.guard.aside import Aside
from service.guard.scopes import spend_counters

DAY, NEXT = "2026-11-22", "2026-11-23"


def taken(aside, *tags):
    """{counter's name: pico-USD}."""
    return {counter.name: pusd for counter, pusd in aside.take(set(tags))}


def test_what_was_put_aside_is_taken_once():
    """By tag, each day and month; of other tags nothing."""
    aside = Aside()
    aside.add(["x", "y"], DAY, 3)
    aside.add(["x"], NEXT, 4)
    assert taken(aside, "x", "z") == {
        "m:t:x:2026-11-22": 3,
        "m:t:x:2026-11-23": 4,
        "m:t:x:2026-11": 7,
    }
    assert taken(aside, "x") == {}
    assert taken(aside, "y") == {"m:t:y:2026-11-22": 3, "m:t:y:2026-11": 3}


def test_the_counters_are_those_that_a_budget_asks_for():
    """To the instant at which they end."""
    aside = Aside()
    aside.add(["x"], DAY, 3)
    assert [counter for counter, _ in aside.take({"x"})] == spend_counters(None, ["x"], DAY)[2:]


def test_callers_can_not_fill_the_memory(monkeypatch):
    """Whoever says a new tag with each request pushes out what was not spent with for longest."""
    monkeypatch.setattr(module, "KEPT_MAX", 20)
    aside = Aside()
    for number in range(100):
        aside.add(["kept", f"t{number}"], DAY, 1)
    assert len(aside._spent) <= 20
    assert taken(aside, "kept", "t0") == {"m:t:kept:2026-11-22": 100, "m:t:kept:2026-11": 100}
