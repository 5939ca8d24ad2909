"""Whom to call next: the table of `retrying`, its limits, and the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Broken, NoReply, NotSent, Replied
from service.routing import retrying
from service.routing.health import Rest, State
from service.routing.retrying import Budget, Failure, Option, Step, choose


def replied(cause, status, *, wait=None, passthrough=False, of_key=False):
    """A vendor's refusal."""
    found = Replied("no", cause=cause, upstream_status=status, retry_after_s=wait, passthrough=passthrough)
    found.of_key = of_key
    return found


FAULT = replied("http_500", 500)
LIMITED = replied("rate_limited", 429, wait=3.0)
SILENT = NoReply("no", cause="timeout_first_token")
REFUSED = NotSent("no", cause="connect_refused")
CUT = Broken("no", cause="cut")
WRONG = replied("caller_error", 400, passthrough=True)
TOO_LONG = replied("context_length", 400, passthrough=True)
OURS = replied("auth_failed", 401)
A_KEY = replied("auth_failed", 401, of_key=True)

FAILED = Option("a", sound=False, tries=1)
B, C = Option("b"), Option("c")
LIMIT_OVER_IN_2 = Rest(State.OPEN, "rate_limited", 2.0, returns=True)
BROKEN = Rest(State.OPEN, "http_500", 2.0)
PROBED = Rest(State.HALF_OPEN, "http_500", 3.0)
PROBE_MAY_GO = Rest(State.HALF_OPEN, "http_500", 0.0)


def asked(problem, *others, option=FAILED, **changes):
    """What follows, at the middle of all chances."""
    failure = None if problem is None else Failure(problem, option)
    said = {"left": 2, "left_s": 100.0, "can_pay": True, "chance": 0.5, **changes}
    return choose(failure, others, **said)


@pytest.mark.parametrize("problem", [LIMITED, SILENT, REFUSED, CUT, TOO_LONG, OURS, replied("http_503", 503, wait=9.0)])
def test_others_are_asked_at_once(problem):
    """Nobody waits while somebody else could answer; a fault with a Retry-After has asked not to be called."""
    assert asked(problem, B) == Step(0)
    assert asked(problem, B, C, left=1) == Step(0)


def test_a_fault_of_the_vendors_own_is_asked_once_more_where_an_attempt_is_to_spare():
    """Two attempts left and one other vendor: again, soon; else the next one."""
    again = Step(None, 0.5 * retrying.BACKOFF_BEFORE_NEXT_S, pays=True)
    assert asked(FAULT, B) == again
    assert asked(FAULT, B, Option("a"), Option("b")) == again, "models of one vendor fail together"
    assert asked(replied("overloaded", 529), B) == again
    assert asked(FAULT, B, option=replace(FAILED, tries=2), left=3) == Step(0)
    assert asked(FAULT, B, left=1) == Step(0)
    assert asked(FAULT, B, C) == Step(0)
    assert asked(FAULT, B, can_pay=False) == Step(0)
    assert asked(FAULT, B, option=replace(FAILED, rest=BROKEN)) == Step(0), "its breaker has opened"


@pytest.mark.parametrize("problem", [FAULT, REFUSED, CUT, NoReply("no", cause="hung_up")])
def test_with_nobody_else_it_is_asked_once_more(problem):
    """After up to a quarter of a second, from the budget; not twice, and not when the time is over."""
    assert asked(problem) == Step(None, 0.5 * retrying.BACKOFF_S, pays=True)
    assert asked(problem, option=replace(FAILED, tries=2)) is None
    assert asked(problem, left=0) is None
    assert asked(problem, left_s=0.2) is None
    assert asked(problem, can_pay=False) is None


def test_a_limit_is_waited_for_where_that_is_short():
    """At least as long as was said, or as its rest; as much time must be left after it."""
    assert asked(LIMITED) == Step(None, 3 + 0.5 * retrying.BACKOFF_S, pays=True)
    rests = replace(FAILED, rest=replace(LIMIT_OVER_IN_2, for_s=3.5))
    assert asked(LIMITED, option=rests) == Step(None, 3.5 + 0.5 * retrying.BACKOFF_S, pays=True)
    assert asked(LIMITED, left_s=6.2) is None
    assert asked(replied("rate_limited", 429, wait=retrying.WAIT_S_MAX)).wait_s >= retrying.WAIT_S_MAX
    assert asked(replied("rate_limited", 429, wait=retrying.WAIT_S_MAX + 0.1)) is None


def test_whoever_is_back_first_is_waited_for():
    """Also before the first attempt; a breaker's rest is not waited for, a probe that is out neither."""
    assert asked(LIMITED, Option("b", LIMIT_OVER_IN_2)) == Step(0, 2 + 0.5 * retrying.BACKOFF_S)
    assert asked(LIMITED, Option("b", replace(LIMIT_OVER_IN_2, for_s=5.0))).place is None
    assert asked(None, Option("b", BROKEN), Option("c", LIMIT_OVER_IN_2)) == Step(1, 2 + 0.5 * retrying.BACKOFF_S)
    assert asked(None, Option("b", BROKEN), Option("c", PROBED)) is None
    assert asked(None, Option("b", replace(LIMIT_OVER_IN_2, for_s=30.0))) is None
    assert asked(None, Option("b", LIMIT_OVER_IN_2), left_s=4.1) is None


def test_those_that_may_not_be_called_are_passed_over():
    """Whoever rests, and whoever failed last while the budget is empty; a probe is free."""
    doubtful = Option("c", sound=False)
    assert asked(CUT, Option("b", BROKEN), Option("c", PROBED), Option("d")) == Step(2)
    assert asked(CUT, doubtful) == Step(0, pays=True)
    assert asked(CUT, doubtful, Option("d"), can_pay=False) == Step(1)
    assert asked(CUT, doubtful, can_pay=False) is None
    assert asked(CUT, Option("b", PROBE_MAY_GO, sound=False), can_pay=False) == Step(0)


def test_a_first_attempt_is_always_free():
    """Whatever happened before."""
    assert asked(None, Option("b", sound=False), can_pay=False) == Step(0)


@pytest.mark.parametrize("problem", [SILENT, OURS, TOO_LONG, NoReply("no", cause="timeout_total")])
def test_what_another_call_can_not_mend(problem):
    """Silence had its time; our key and a text too long stay what they are."""
    assert asked(problem) is None


def test_a_connection_that_took_too_long_is_no_silence():
    """Nothing was sent: it may be tried again."""
    assert asked(NotSent("no", cause="timeout_connect")).place is None


def test_another_key_is_tried_at_once():
    """For nothing; but the last attempt is for somebody else, where there is one."""
    assert asked(A_KEY, B) == asked(A_KEY, option=replace(FAILED, tries=7), can_pay=False) == Step(None)
    assert asked(A_KEY, B, left=1) == Step(0)
    assert asked(A_KEY, Option("b", BROKEN), left=1) == Step(None)
    assert asked(A_KEY, B, left=0) is None


@pytest.mark.parametrize("others", [(), (B, C)])
def test_the_callers_own_fault_ends_it(others):
    """Whoever is left."""
    assert asked(WRONG, *others) is None


RESTS = st.sampled_from([None, LIMIT_OVER_IN_2, BROKEN, PROBED, PROBE_MAY_GO])
OPTIONS = st.builds(Option, st.sampled_from("abc"), RESTS, st.booleans(), st.integers(0, 3))


@given(
    st.sampled_from([None, FAULT, LIMITED, SILENT, REFUSED, CUT, WRONG, TOO_LONG, OURS]),
    OPTIONS,
    st.lists(OPTIONS, max_size=5),
    st.integers(0, 9),
    st.floats(0, 600),
    st.booleans(),
    st.floats(0, 1),
)
def test_bounds_hold_for_everything(problem, option, others, left, left_s, can_pay, chance):
    """Never past the attempts or the time, never a third call, nobody who rests, nothing that can't be paid for."""
    step = asked(problem, *others, option=option, left=left, left_s=left_s, can_pay=can_pay, chance=chance)
    if left == 0 or problem is WRONG:
        assert step is None
    able = [one for one in others if one.is_open and (problem is None or one.sound or one.rest or can_pay)]
    if able and left and problem is not WRONG:
        assert step is not None, "whoever may be called is, before a request fails"
    if step is None:
        return
    assert not step.pays or can_pay
    assert step.wait_s <= retrying.WAIT_S_MAX * 1.2 + retrying.BACKOFF_S
    assert step.wait_s <= retrying.BACKOFF_BEFORE_NEXT_S or 2 * step.wait_s < left_s
    if step.place is None:
        assert option.tries < retrying.TRIES_MAX
        assert problem is not SILENT
    else:
        chosen = others[step.place]
        assert chosen.is_open or step.wait_s >= chosen.rest.for_s


def test_the_budget_is_a_fifth_of_the_requests_and_a_few_to_begin_with():
    """Ten at the start, one more per five requests, a hundred at most."""

    def spent(budget):
        count = 0
        while budget.can_pay:
            budget.pay()
            count += 1
        return count

    budget = Budget()
    assert spent(budget) == 10
    for _ in range(54):
        budget.earn()
    assert spent(budget) == 10
    budget.earn()
    assert spent(budget) == 1
    for _ in range(10_000):
        budget.earn()
    assert spent(budget) == 100
