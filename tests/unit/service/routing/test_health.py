"""Breakers: what opens one, who is let through, what closes it, and what never counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Broken, NoReply, NotSent, Replied
from service.routing import health
from service.routing.health import FAILURES_IN_A_ROW, REST_S, REST_S_MAX, Blame, Health, Pass, State, blame


def replied(cause, status=500, *, after=None, passthrough=False):
    """A vendor's refusal."""
    return Replied("no", cause=cause, upstream_status=status, retry_after_s=after, passthrough=passthrough)


FAULT = replied("http_500")


def opened(now=0.0, *, draw=lambda: 0.0):
    """A breaker that five failures opened."""
    found = Health(draw)
    rests = [found.failed("a", Pass.USUAL, FAULT, now) for _ in range(FAILURES_IN_A_ROW)]
    assert rests[:-1] == [None] * (FAILURES_IN_A_ROW - 1)
    assert rests[-1] is not None
    return found


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (FAULT, Blame.DEPLOYMENT),
        (replied("overloaded", 529), Blame.DEPLOYMENT),
        (replied("overloaded", 529, after=2.0), Blame.LIMIT),
        (replied("rate_limited", 429), Blame.LIMIT),
        (replied("auth_failed", 401), Blame.ACCOUNT),
        (replied("payment_required", 402), Blame.ACCOUNT),
        (replied("model_not_found", 404), Blame.ACCOUNT),
        (replied("caller_error", 400, passthrough=True), Blame.NOBODY),
        (replied("context_length", 400, passthrough=True), Blame.NOBODY),
        (replied("context_length", 200), Blame.NOBODY),
        (NotSent("no", cause="connect_refused"), Blame.DEPLOYMENT),
        (NotSent("no", cause="invalid_request"), Blame.NOBODY),
        (NoReply("no", cause="timeout_first_token"), Blame.DEPLOYMENT),
        (Broken("no", cause="cut"), Blame.DEPLOYMENT),
    ],
)
def test_whose_fault(problem, expected):
    """By what happened and by what the vendor said."""
    assert blame(problem) is expected


def test_a_breaker_opens_rests_probes_and_closes():
    """Nobody during the rest, then one at a time; the probe's answer closes it and forgets everything."""
    found = opened()
    assert found.admit("a", REST_S - 0.01) is None
    assert found.resting("a", 0.5).state is State.OPEN
    assert found.resting("a", 0.5).for_s == pytest.approx(REST_S - 0.5)
    assert found.resting("a", REST_S).state is State.HALF_OPEN
    assert found.admit("a", REST_S) is Pass.PROBE
    assert found.admit("a", REST_S) is None, "one probe is out"
    assert found.answered("a", Pass.PROBE, REST_S + 1)
    assert found.admit("a", REST_S + 1) is Pass.USUAL
    assert found.told(REST_S + 1) == {}
    assert found.is_sound("a")


def test_a_probe_that_fails_doubles_the_rest_up_to_a_limit():
    """1, 2, 4, 8, 16, 30, 30 seconds."""
    found, now, rests = opened(), 0.0, []
    for _ in range(7):
        now += found.resting("a", now).for_s
        assert found.admit("a", now) is Pass.PROBE
        rests.append(found.failed("a", Pass.PROBE, FAULT, now).for_s)
    assert rests == [2, 4, 8, 16, REST_S_MAX, REST_S_MAX, REST_S_MAX]


def test_a_probe_that_says_nothing_lets_the_next_one_try():
    """Its caller left, or its request was wrong."""
    found = opened()
    assert found.admit("a", 2) is Pass.PROBE
    found.withdrawn("a", Pass.PROBE)
    assert found.admit("a", 2) is Pass.PROBE
    assert found.failed("a", Pass.PROBE, replied("caller_error", 400, passthrough=True), 2) is None
    assert found.admit("a", 2) is Pass.PROBE


def test_an_answer_in_between_starts_the_count_anew():
    """Four failures, an answer, four failures: closed."""
    found = Health(lambda: 0.0)
    for _ in range(2):
        for _ in range(FAILURES_IN_A_ROW - 1):
            assert found.failed("a", Pass.USUAL, FAULT, 0) is None
        found.answered("a", Pass.USUAL, 0)
    assert found.admit("a", 0) is Pass.USUAL


def test_every_other_failure_opens_it_too():
    """Half of ten outcomes of the last minute; older ones don't count."""
    found = Health(lambda: 0.0)
    for second in range(0, 9, 2):
        assert found.failed("a", Pass.USUAL, FAULT, second) is None
        found.answered("a", Pass.USUAL, second + 1)
    assert found.failed("a", Pass.USUAL, FAULT, 10) is not None
    old = Health(lambda: 0.0)
    for second in range(0, 9, 2):
        old.failed("a", Pass.USUAL, FAULT, second)
        old.answered("a", Pass.USUAL, second + 1)
    assert old.failed("a", Pass.USUAL, FAULT, 75) is None


def test_a_limit_rests_for_as_long_as_was_said_and_needs_no_probe():
    """A second when nothing was said, a minute at most; several may come at once afterwards."""
    found = Health(lambda: 0.0)
    assert found.failed("a", Pass.USUAL, replied("rate_limited", 429, after=7.0), 0).for_s == 7
    assert found.failed("b", Pass.USUAL, replied("rate_limited", 429), 0).for_s == health.WAIT_S
    assert found.failed("c", Pass.USUAL, replied("rate_limited", 429, after=3600.0), 0).for_s == health.WAIT_S_MAX
    assert found.admit("a", 6.9) is None
    assert [found.admit("a", 7.0), found.admit("a", 7.0)] == [Pass.USUAL, Pass.USUAL]
    assert found.told(7.0).keys() == {"c"}


def test_a_limit_that_is_told_again_makes_the_rest_longer_and_never_shorter():
    """Those that were on their way say it too."""
    found = Health(lambda: 0.0)
    found.failed("a", Pass.USUAL, replied("rate_limited", 429, after=5.0), 0)
    found.failed("a", Pass.USUAL, replied("rate_limited", 429, after=9.0), 1)
    found.failed("a", Pass.USUAL, replied("rate_limited", 429, after=1.0), 2)
    assert found.resting("a", 2).for_s == 8


@pytest.mark.parametrize("cause", ["auth_failed", "payment_required", "model_not_found"])
def test_our_own_trouble_rests_at_once(cause):
    """The first refusal says it all; a reload begins anew."""
    found = Health(lambda: 0.0)
    assert found.failed("a", Pass.USUAL, replied(cause, 401), 0).for_s == health.REFUSED_REST_S
    assert found.admit("a", 1) is None
    found.forget()
    assert found.admit("a", 1) is Pass.USUAL


def test_a_callers_own_fault_never_counts():
    """A thousand refusals of wrong requests leave it closed, and without an entry."""
    found = Health(lambda: 0.0)
    for _ in range(1_000):
        found.failed("a", Pass.USUAL, replied("caller_error", 400, passthrough=True), 0)
    assert found.told(0) == {}
    assert found.is_sound("a")
    assert not found._breakers


def test_one_request_opens_no_breaker():
    """One poisonous request fails everywhere, twice at most at each."""
    found = Health(lambda: 0.0)
    for name in map(str, range(100)):
        for _ in range(2):
            assert found.failed(name, Pass.USUAL, FAULT, 0) is None
    assert found.told(0) == {}


def test_what_was_on_its_way_does_not_lengthen_a_rest():
    """Nor does its answer end it: it was asked before."""
    found = opened()
    assert found.failed("a", Pass.USUAL, FAULT, 0.9) is None
    assert not any(found.answered("a", Pass.USUAL, 0.9) for _ in range(2 * health.OUTCOMES))
    assert found.resting("a", 0.9).for_s == pytest.approx(0.1)


def test_rests_are_spread():
    """Two workers don't probe in the same instant, and never too early."""
    drawn = itertools.cycle([0.0, 1.0])
    rests = [opened(draw=lambda: next(drawn)).resting("a", 0).for_s for _ in range(2)]
    assert rests == [REST_S, REST_S * (1 + health.SPREAD)]


def test_sound_is_who_never_failed_or_answered_last():
    """A first failure makes it doubtful, an answer sound again."""
    found = Health(lambda: 0.0)
    assert found.is_sound("a")
    found.failed("a", Pass.USUAL, FAULT, 0)
    assert not found.is_sound("a")
    found.answered("a", Pass.USUAL, 0)
    assert found.is_sound("a")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fail", "limit", "answer", "leave", "wrong"]),
            st.floats(0, 5, allow_nan=False),
        ),
        max_size=200,
    )
)
def test_whatever_happens_at_most_one_probe_is_out_and_rests_end(moves):
    """Random lives of a deployment: passes are given as promised, and waiting always helps."""
    found, now, out = Health(lambda: 0.5), 0.0, []
    for move, wait in moves:
        now += wait
        leave = found.admit("a", now)
        if leave is None:
            rest = found.resting("a", now)
            assert rest is not None
            assert rest.state is State.HALF_OPEN or rest.for_s <= 1.2 * health.WAIT_S_MAX
        else:
            assert not (leave is Pass.PROBE and Pass.PROBE in out)
            out.append(leave)
        if out and move != "leave":
            by = out.pop(0)
            if move == "answer":
                found.answered("a", by, now)
            else:
                problem = {
                    "fail": FAULT,
                    "limit": replied("rate_limited", 429, after=3.0),
                    "wrong": replied("caller_error", 400, passthrough=True),
                }[move]
                found.failed("a", by, problem, now)
    for by in out:
        found.withdrawn("a", by)
    assert found.admit("a", now + 100) is not None
