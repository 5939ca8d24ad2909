"""Breakers: what opens one, who is let through, what closes it, and what never counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Broken, NoReply, Replied
from service.routing import health
from service.routing.health import FAILURES_IN_A_ROW, PROBE_S, REST_S, REST_S_MAX, Health, Pass, State

USUAL = Pass(probe=False, generation=0)


def replied(cause, status=500, *, after=None, passthrough=False):
    """A vendor's refusal."""
    return Replied("no", cause=cause, upstream_status=status, retry_after_s=after, passthrough=passthrough)


FAULT = replied("http_500")


def probed(found, now):
    """The pass of a probe, which must be given now."""
    leave = found.admit("a", now)
    assert leave is not None
    assert leave.probe
    return leave


def opened(now=0.0, *, draw=lambda: 0.0):
    """A breaker that five failures opened."""
    found = Health(draw)
    rests = [found.failed("a", USUAL, FAULT, now) for _ in range(FAILURES_IN_A_ROW)]
    assert rests[:-1] == [None] * (FAILURES_IN_A_ROW - 1)
    assert rests[-1] is not None
    return found


def test_a_breaker_opens_rests_probes_and_closes():
    """Nobody during the rest, then a probe; its answer closes the breaker and forgets everything."""
    found = opened()
    assert found.admit("a", REST_S - 0.01) is None
    rest = found.resting("a", 0.5)
    assert (rest.state, rest.is_open, rest.returns) == (State.OPEN, False, False)
    assert rest.for_s == pytest.approx(REST_S - 0.5)
    assert found.resting("a", REST_S).state is State.HALF_OPEN
    assert found.resting("a", REST_S).is_open
    probe = probed(found, REST_S)
    assert found.admit("a", REST_S) is None, "a probe is out"
    assert not found.resting("a", REST_S).is_open
    assert found.answered("a", probe, REST_S + 1)
    assert found.admit("a", REST_S + 1) == USUAL
    assert found.told(REST_S + 1) == {}
    assert found.is_sound("a")


def test_a_probe_that_fails_doubles_the_rest_up_to_a_limit():
    """1, 2, 4, 8, 16, 30, 30 seconds."""
    found, now, rests = opened(), 0.0, []
    for _ in range(7):
        now += found.resting("a", now).for_s
        rests.append(found.failed("a", probed(found, now), FAULT, now).for_s)
    assert rests == [2, 4, 8, 16, REST_S_MAX, REST_S_MAX, REST_S_MAX]
    assert found.rests == 8


def test_a_probe_that_takes_its_time_is_not_waited_for_for_ever():
    """The next one goes out after `PROBE_S`, and is the only one until then; a wrong request frees it at once."""
    found = opened()
    probed(found, 2)
    assert found.admit("a", 2 + PROBE_S - 0.01) is None
    probe = probed(found, 2 + PROBE_S)
    assert found.failed("a", probe, replied("caller_error", 400, passthrough=True), 8) is None
    probed(found, 8)


def test_a_stream_that_was_a_probe_opens_the_way_and_stays_on_trial():
    """With its first content others may come; whoever of them breaks next sends it back for twice as long."""
    found = opened()
    probe = probed(found, 1)
    assert found.begun("a", probe)
    assert not found.begun("a", probe), "told once"
    first, second = found.admit("a", 1), found.admit("a", 1)
    assert (first.probe, second.probe) == (False, False)
    assert not found.is_sound("a")
    assert found.failed("a", USUAL, FAULT, 2) is None, "it was begun before the trial"
    assert found.failed("a", first, Broken("no", cause="cut"), 2).for_s == 2 * REST_S
    found.begun("a", probed(found, 4))
    third = found.admit("a", 5)
    assert not found.answered("a", third, 5), "that it is back was told already"
    assert found.is_sound("a")
    assert not found._breakers


def test_a_probe_of_a_rest_that_is_over_is_a_call_like_others():
    """It neither opens what is healthy again nor closes what rests anew."""
    found = opened()
    slow = probed(found, 1)
    found.answered("a", probed(found, 1 + PROBE_S), 7)
    assert found.failed("a", slow, NoReply("no", cause="timeout_first_token"), 31) is None
    assert found.admit("a", 31) == USUAL
    again = opened()
    slow = probed(again, 1)
    again.failed("a", probed(again, 1 + PROBE_S), FAULT, 7)
    assert not again.answered("a", slow, 8)
    assert again.resting("a", 8) is not None
    assert again.failed("a", slow, FAULT, 8) is None


def test_a_vendor_that_breaks_two_of_three_streams_rests():
    """First contents are no answers: only ends count."""
    found = Health(lambda: 0.0)
    rests = []
    for number in range(30):
        found.begun("a", USUAL)
        if number % 3 == 2:
            found.answered("a", USUAL, number)
        else:
            rests.append(found.failed("a", USUAL, Broken("no", cause="cut"), number))
    assert any(rests)


def test_an_answer_in_between_starts_the_count_anew():
    """Four failures, an answer, four failures: closed."""
    found = Health(lambda: 0.0)
    for _ in range(2):
        for _ in range(FAILURES_IN_A_ROW - 1):
            assert found.failed("a", USUAL, FAULT, 0) is None
        found.answered("a", USUAL, 0)
    assert found.admit("a", 0) == USUAL


def test_every_other_failure_opens_it_too():
    """Half of ten outcomes of the last minute; older ones don't count."""
    found = Health(lambda: 0.0)
    for second in range(0, 9, 2):
        assert found.failed("a", USUAL, FAULT, second) is None
        found.answered("a", USUAL, second + 1)
    assert found.failed("a", USUAL, FAULT, 10) is not None
    old = Health(lambda: 0.0)
    for second in range(0, 9, 2):
        old.failed("a", USUAL, FAULT, second)
        old.answered("a", USUAL, second + 1)
    assert old.failed("a", USUAL, FAULT, 75) is None


def test_a_limit_rests_for_as_long_as_was_said_and_needs_no_probe():
    """A minute at most; several may come at once afterwards, and it counts as sound."""
    found = Health(lambda: 0.0)
    assert found.failed("a", USUAL, replied("rate_limited", 429, after=7.0), 0).for_s == 7
    assert found.failed("c", USUAL, replied("http_503", 503, after=3600.0), 0).for_s == health.WAIT_S_MAX
    assert found.resting("a", 1).returns
    assert found.admit("a", 6.9) is None
    assert [found.admit("a", 7.0), found.admit("a", 7.0)] == [USUAL, USUAL]
    assert found.told(7.0).keys() == {"c"}


def test_a_limit_without_a_time_rests_a_moment_when_it_is_told_twice():
    """One request may have been too large for a limit of its own."""
    found = Health(lambda: 0.0)
    assert found.failed("b", USUAL, replied("rate_limited", 429), 0) is None
    assert not found.is_sound("b")
    assert found.failed("b", USUAL, replied("rate_limited", 429), 1).for_s == health.WAIT_S
    found.answered("b", found.admit("b", 3), 3)
    assert found.failed("b", USUAL, replied("rate_limited", 429), 4) is None


def test_limits_are_no_failures():
    """Four 429s that were waited for and one fault leave it closed."""
    found, now = Health(lambda: 0.0), 0.0
    for _ in range(FAILURES_IN_A_ROW - 1):
        found.failed("a", found.admit("a", now), replied("rate_limited", 429, after=1.0), now)
        now += 1
    assert found.failed("a", found.admit("a", now), FAULT, now) is None


def test_a_limit_that_is_told_again_makes_the_rest_longer_and_never_shorter():
    """Those that were on their way say it too; it is one rest, told once."""
    found = Health(lambda: 0.0)
    assert found.failed("a", USUAL, replied("rate_limited", 429, after=5.0), 0) is not None
    assert found.failed("a", USUAL, replied("rate_limited", 429, after=9.0), 1) is None
    assert found.failed("a", USUAL, replied("rate_limited", 429, after=1.0), 2) is None
    assert found.resting("a", 2).for_s == 8
    assert found.rests == 1


def test_a_wrong_key_rests_at_once():
    """No request can fare better; a reload begins anew."""
    found = Health(lambda: 0.0)
    assert found.failed("a", USUAL, replied("auth_failed", 401), 0).for_s == health.REFUSED_REST_S
    assert found.admit("a", 1) is None
    found.forget()
    assert found.admit("a", 1) == Pass(probe=False, generation=1)


@pytest.mark.parametrize(
    ("cause", "status"),
    [("auth_failed", 403), ("auth_failed", 400), ("payment_required", 402), ("model_not_found", 404)],
)
def test_other_refusals_of_ours_rest_when_several_requests_were_told_so(cause, status):
    """One may be about what was asked; an answer in between shows that it was."""
    found = Health(lambda: 0.0)
    for _ in range(2):
        for _ in range(health.REFUSALS_IN_A_ROW - 1):
            assert found.failed("a", USUAL, replied(cause, status), 0) is None
        found.answered("a", USUAL, 0)
    rests = [found.failed("a", USUAL, replied(cause, status), 0) for _ in range(health.REFUSALS_IN_A_ROW)]
    assert rests[-1].for_s == health.REFUSED_REST_S


def test_what_was_begun_before_a_reload_says_nothing():
    """Neither a late refusal of the old key nor the end of an old probe."""
    found = opened()
    probe = probed(found, 2)
    found.forget()
    assert found.failed("a", USUAL, replied("auth_failed", 401), 3) is None
    for _ in range(FAILURES_IN_A_ROW):
        found.failed("a", Pass(probe=False, generation=1), FAULT, 4)
    assert found.failed("a", probe, FAULT, 4) is None
    assert not found.answered("a", probe, 4)
    assert not found.begun("a", probe)
    assert found.resting("a", 4).for_s == REST_S


def test_a_callers_own_fault_never_counts():
    """A thousand refusals of wrong requests leave it closed, and without an entry."""
    found = Health(lambda: 0.0)
    for _ in range(1_000):
        found.failed("a", USUAL, replied("caller_error", 400, passthrough=True), 0)
    assert found.told(0) == {}
    assert found.is_sound("a")
    assert not found._breakers


@pytest.mark.parametrize(
    "problem",
    [FAULT, replied("auth_failed", 400), replied("payment_required", 402), replied("rate_limited", 429)],
    ids=["fault", "word", "credit", "limit"],
)
def test_one_request_opens_no_breaker(problem):
    """A poisonous request fails everywhere; called again by the same request nothing is counted twice."""
    found = Health(lambda: 0.0)
    for name in map(str, range(100)):
        assert found.failed(name, USUAL, problem, 0) is None
        for _ in range(9 if problem is FAULT else 0):
            assert found.failed(name, USUAL, problem, 0, again=True) is None
    assert found.told(0) == {}


def test_what_was_on_its_way_does_not_lengthen_a_rest():
    """Nor does its answer end it: it was asked before."""
    found = opened()
    assert found.failed("a", USUAL, FAULT, 0.9) is None
    assert not any(found.answered("a", USUAL, 0.9) for _ in range(2 * health.OUTCOMES))
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
    found.failed("a", USUAL, FAULT, 0)
    assert not found.is_sound("a")
    found.answered("a", USUAL, 0)
    assert found.is_sound("a")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fail", "limit", "answer", "begin", "leave", "wrong", "key"]),
            st.floats(0, 5, allow_nan=False),
        ),
        max_size=200,
    )
)
def test_whatever_happens_rests_end_and_probes_are_apart(moves):
    """Random lives of a deployment: leave is given as promised, and waiting always helps."""
    found, now, out, probed = Health(lambda: 0.5), 0.0, [], -100.0
    for move, wait in moves:
        now += wait
        rest = found.resting("a", now)
        leave = found.admit("a", now)
        assert (leave is None) == (rest is not None and not rest.is_open)
        if leave is None:
            assert rest.for_s <= 1.2 * health.WAIT_S_MAX
        else:
            out.append(leave)
        if leave is not None and leave.probe:
            assert now - probed >= PROBE_S or probed < 0
            probed = now
        if not out or move == "leave":
            continue
        by = out.pop(0)
        if move == "answer":
            found.answered("a", by, now)
        elif move == "begin":
            found.begun("a", by)
        else:
            problem = {
                "fail": FAULT,
                "limit": replied("rate_limited", 429, after=3.0),
                "wrong": replied("caller_error", 400, passthrough=True),
                "key": replied("auth_failed", 401),
            }[move]
            found.failed("a", by, problem, now)
        if by.probe or move in {"answer", "begin"}:
            probed = -100.0
    assert found.admit("a", now + 100) is not None


def test_a_probe_that_was_not_made_may_be_made_by_the_next():
    """Whoever had leave was kept from calling; a pass of another rest says nothing."""
    found = opened()
    first = probed(found, REST_S)
    found.unused("a", first, REST_S)
    second = probed(found, REST_S)
    found.failed("a", second, FAULT, REST_S)
    later = 3 * REST_S
    third = probed(found, later)
    found.unused("a", second, later)
    assert found.admit("a", later) is None, "the third one is out"
    found.unused("a", USUAL, later)
    found.unused("b", first, later)
    assert found.admit("a", later) is None
    assert found.answered("a", third, later)
