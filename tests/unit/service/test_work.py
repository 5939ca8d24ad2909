"""One request on its way: what it cost so far, and how much of its time was ours."""

from __future__ import annotations

from scenery import a_catalog, a_chat, a_model, decided

from service.domain.access import Caller
from service.work import Arrival, Work, milliseconds


def a_work():
    """A request that was decided."""
    chat = a_chat()
    return Work(chat, Arrival("req_1", Caller("key_1", "k"), 0.0), decided(chat, a_catalog(a_model("m"))), None)


def test_overhead_is_our_time_only():
    """Waiting on vendors does not count, and after a stream's first content it stands still."""
    work = a_work()
    work.waited_s = 2.0
    assert work.overhead_ms(2.5) == 500.0
    assert work.overhead_ms(1.0) == 0.0
    work.committed_ms = 7.0
    assert work.overhead_ms(99.0) == 7.0
    assert milliseconds(0.0012345678) == 1.235


def test_an_unknown_cost_makes_the_sum_unknown():
    """Rather than too low."""
    work = a_work()
    work.costs = [5, None]
    assert work.spent_pusd() is None
    work.costs = [5, 0]
    assert work.spent_pusd() == 5
