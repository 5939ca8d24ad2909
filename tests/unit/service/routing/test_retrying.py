"""What follows a failure: the table of `retrying`, its limits, and the budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Broken, NoReply, NotSent, Replied
from service.routing import retrying
from service.routing.retrying import NEXT, STOP, Budget, Move, Step, after


def replied(cause, status, *, wait=None, passthrough=False):
    """A vendor's refusal."""
    return Replied("no", cause=cause, upstream_status=status, retry_after_s=wait, passthrough=passthrough)


FAULT = replied("http_500", 500)
LIMITED = replied("rate_limited", 429)
SILENT = NoReply("no", cause="timeout_first_token")
REFUSED = NotSent("no", cause="connect_refused")
CUT = Broken("no", cause="cut")
WRONG = replied("caller_error", 400, passthrough=True)
TOO_LONG = replied("context_length", 400, passthrough=True)
OURS = replied("auth_failed", 401)


def asked(problem, **changes):
    """What follows, at the middle of all chances."""
    said = {"others": 1, "tries": 1, "left": 2, "left_s": 100.0, "rest_s": 0.0, "chance": 0.5, **changes}
    return after(problem, **said)


@pytest.mark.parametrize("problem", [LIMITED, SILENT, REFUSED, CUT, TOO_LONG, OURS, replied("http_500", 500, wait=1.0)])
def test_others_are_asked_at_once(problem):
    """Nobody waits while somebody else could answer; a fault with a Retry-After has asked not to be called."""
    rest_s = 1.0 if getattr(problem, "retry_after_s", None) else 0.0
    assert asked(problem, rest_s=rest_s) == NEXT
    assert asked(problem, rest_s=rest_s, left=1) == NEXT


def test_a_fault_of_the_vendors_own_is_asked_once_more_where_an_attempt_is_to_spare():
    """Two attempts left and one other vendor: again, soon; else the next one."""
    assert asked(FAULT) == Step(Move.AGAIN, 0.5 * retrying.BACKOFF_BEFORE_NEXT_S)
    assert asked(FAULT, tries=2, left=3) == NEXT
    assert asked(FAULT, left=1) == NEXT
    assert asked(FAULT, others=2) == NEXT
    assert asked(FAULT, rest_s=1.0) == NEXT, "its breaker has opened"
    assert asked(replied("overloaded", 529)) == asked(FAULT)


@pytest.mark.parametrize("problem", [FAULT, REFUSED, CUT, NoReply("no", cause="hung_up")])
def test_with_nobody_else_it_is_asked_once_more(problem):
    """After up to a quarter of a second; not twice, and not when the time is over."""
    assert asked(problem, others=0) == Step(Move.AGAIN, 0.5 * retrying.BACKOFF_S)
    assert asked(problem, others=0, tries=2) == STOP
    assert asked(problem, others=0, left=0) == STOP
    assert asked(problem, others=0, left_s=0.1) == STOP


def test_a_limit_is_waited_for_where_that_is_short():
    """At least as long as was said, or as its rest; not longer than a caller may wait."""
    assert asked(replied("rate_limited", 429, wait=3.0), others=0) == Step(Move.AGAIN, 3 + 0.5 * retrying.BACKOFF_S)
    assert asked(LIMITED, others=0, rest_s=1.2) == Step(Move.AGAIN, 1.2 + 0.5 * retrying.BACKOFF_S)
    assert asked(replied("rate_limited", 429, wait=3.0), others=0, left_s=3.1) == STOP
    assert asked(replied("rate_limited", 429, wait=retrying.WAIT_S_MAX + 0.1), others=0) == STOP


@pytest.mark.parametrize("problem", [SILENT, OURS, TOO_LONG, NoReply("no", cause="timeout_total")])
def test_what_another_call_can_not_mend(problem):
    """Silence had its time; our key and a text too long stay what they are."""
    assert asked(problem, others=0) == STOP


def test_a_connection_that_took_too_long_is_no_silence():
    """Nothing was sent: it may be tried again."""
    assert asked(NotSent("no", cause="timeout_connect"), others=0).move is Move.AGAIN


@pytest.mark.parametrize("others", [0, 3])
def test_the_callers_own_fault_ends_it(others):
    """Whoever is left."""
    assert asked(WRONG, others=others) == STOP


@given(
    st.sampled_from([FAULT, LIMITED, SILENT, REFUSED, CUT, WRONG, TOO_LONG, OURS]),
    st.integers(0, 5),
    st.integers(1, 5),
    st.integers(0, 9),
    st.floats(0, 600),
    st.floats(0, 60),
    st.floats(0, 1),
)
def test_bounds_hold_for_everything(problem, others, tries, left, left_s, rest_s, chance):
    """Never past the attempts or the time, never a third call, a wait only before a second one."""
    step = after(problem, others=others, tries=tries, left=left, left_s=left_s, rest_s=rest_s, chance=chance)
    if left == 0:
        assert step == STOP
    if step.move is Move.AGAIN:
        assert tries < retrying.TRIES_MAX
        assert step.wait_s <= retrying.WAIT_S_MAX + retrying.BACKOFF_S
        assert others or step.wait_s < left_s
        assert others or step.wait_s >= rest_s
    else:
        assert step.wait_s == 0


def test_the_budget_is_a_fifth_of_the_requests_and_a_few_to_begin_with():
    """Ten at the start, one more per five requests, a hundred at most."""
    budget = Budget()
    assert [budget.pay() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(50):
        budget.earn()
    assert sum(budget.pay() for _ in range(100)) == 10
    for _ in range(4):
        budget.earn()
    assert not budget.pay()
    budget.earn()
    assert budget.pay()
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.pay() for _ in range(1_000)) == 100
