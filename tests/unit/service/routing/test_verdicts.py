"""Who rests for whom: a vendor's failures are everybody's, a request's own are its caller's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NotSent, Replied
from service.routing import verdicts
from service.routing.health import FAILURES_IN_A_ROW, OUTCOMES_S, REST_S
from service.routing.verdicts import Asked, Verdicts

FAULT = Replied("no", cause="http_500", upstream_status=500)
REFUSED = NotSent("no", cause="connect_refused")
NAMES = ("a", "b", "c")


class Stage:
    """Requests against three deployments of three providers, named alike."""

    def __init__(self):
        self.verdicts = Verdicts(lambda: 0.0)
        self.number = 0
        self.calls = 0

    def ask(self, caller, dead, now=0.0, *, order=NAMES, problem=FAULT, stream=False):
        """Ask one after the other until one answers; who answered, or `None`. `dead` fail."""
        self.number += 1
        asked, turns = Asked(f"dec_{self.number}", caller), []
        for name in order:
            leave = self.verdicts.admit(name, caller, now)
            if leave is None:
                continue
            self.calls += 1
            if name in dead:
                turns += self.verdicts.failed(asked, name, name, leave, problem, now, again=False)
            else:
                if stream:
                    turns += self.verdicts.begun(asked, name, leave, now)
                turns += self.verdicts.answered(asked, name, leave, now)
                break
        else:
            name = None
        self.turns = turns + self.verdicts.unanswered(asked, now)
        return name

    def resting(self, caller, now=0.0):
        """Who rests for a caller."""
        return [name for name in NAMES if self.verdicts.resting(name, caller, now) is not None]


@pytest.fixture
def stage():
    """A new stage."""
    return Stage()


def test_a_probe_that_nobody_made_is_the_next_ones(stage):
    """A caller whose budget is gone asks all day: it must not use up every probe."""
    for number in range(FAILURES_IN_A_ROW):
        stage.ask(f"caller{number}", NAMES, problem=REFUSED, order=("a",))
    now = REST_S + 1
    poor, rich = Asked("dec_poor", "poor"), Asked("dec_rich", "rich")
    leave = stage.verdicts.admit("a", "poor", now)
    assert leave.everybody.probe
    assert stage.verdicts.admit("a", "rich", now) is None
    stage.verdicts.unused(poor, "a", leave, now)
    again = stage.verdicts.admit("a", "rich", now)
    assert again.everybody.probe
    stage.verdicts.answered(rich, "a", again, now)
    stage.verdicts.unused(poor, "a", leave, now)  # long after: it says nothing any more
    assert stage.resting("rich", now) == []


@pytest.mark.parametrize("order", [NAMES, *[(name,) for name in NAMES]], ids=["all", *NAMES])
def test_what_fails_everywhere_is_held_against_its_caller(stage, order):
    """However often; others are let through, with nothing against anybody."""
    for _ in range(50):
        stage.ask("bad", NAMES, order=order)
    assert stage.resting("bad") == list(order)
    assert stage.resting("good") == []
    assert all(stage.verdicts.is_sound(name, "good") for name in NAMES)
    assert not any(stage.verdicts.is_sound(name, "bad") for name in order)
    assert {one: rest.callers for one, rest in stage.verdicts.told(0).items()} == dict.fromkeys(order, 1)


def test_its_own_caller_is_kept_away_after_as_many_requests_as_ever(stage):
    """Five, and then only probes."""
    for _ in range(50):
        stage.ask("bad", NAMES)
    assert stage.calls == FAILURES_IN_A_ROW * len(NAMES)
    assert [stage.ask("bad", NAMES, REST_S) for _ in range(10)] == [None] * 10
    assert stage.calls == (FAILURES_IN_A_ROW + 1) * len(NAMES), "one probe each"


def test_an_answer_to_a_probe_lets_the_caller_back(stage):
    """And is told as its own."""
    for _ in range(FAILURES_IN_A_ROW):
        stage.ask("bad", NAMES)
    assert [turn.caller for turn in stage.turns] == ["bad"] * 3
    assert stage.ask("bad", (), REST_S) == "a"
    assert stage.turns == [verdicts.Turn("a", None, "bad")]
    assert stage.resting("bad", REST_S) == ["b", "c"]
    assert stage.ask("bad", (), REST_S, order=("b",), stream=True) == "b"


def test_five_callers_who_meet_it_are_enough_for_everybody(stage):
    """A total outage: the sixth is spared."""
    for number in range(FAILURES_IN_A_ROW):
        assert stage.resting("another") == []
        stage.ask(f"k{number}", NAMES)
    assert stage.resting("another") == list(NAMES)
    assert all(rest.callers is None for rest in stage.verdicts.told(0).values())


def test_callers_who_met_it_long_ago_or_before_an_answer_are_not_counted(stage):
    """A minute, or one answer in between."""
    for number in range(FAILURES_IN_A_ROW):
        stage.ask(f"k{number}", NAMES, number * OUTCOMES_S)
    assert stage.resting("another", 5 * OUTCOMES_S) == []
    for number in range(2 * (FAILURES_IN_A_ROW - 1)):
        if number == FAILURES_IN_A_ROW - 1:
            for name in NAMES:
                stage.ask("good", (), 1_000, order=(name,))
        stage.ask(f"n{number}", NAMES, 1_000)
    assert stage.resting("another", 1_000) == []


@pytest.mark.parametrize("stream", [False, True])
def test_who_is_dead_while_another_answers_rests_for_everybody(stage, stream):
    """Also two of three; the answer shows that the request was good. One caller's requests suffice."""
    for _ in range(FAILURES_IN_A_ROW):
        assert stage.ask("only", ("a", "b"), stream=stream) == "c"
    assert stage.resting("another") == ["a", "b"]
    assert {rest.callers for rest in stage.verdicts.told(0).values()} == {None}


def test_who_is_not_reached_rests_for_everybody(stage):
    """No request brings that about."""
    for _ in range(FAILURES_IN_A_ROW):
        stage.ask("only", NAMES, problem=REFUSED)
    assert stage.resting("another") == list(NAMES)


def test_a_verdict_that_is_taken_back_ends_the_rest_that_it_began(stage):
    """The fifth failure opens it at once; when the next provider fails too, it closes for everybody else."""
    found = stage.verdicts
    asked = [Asked(f"d{number}", "bad") for number in range(FAILURES_IN_A_ROW)]
    leaves = [found.admit("a", "bad", 0) for _ in asked]
    turns = [
        found.failed(one, "a", "a", leave, FAULT, 0, again=False) for one, leave in zip(asked, leaves, strict=True)
    ]
    assert [len(one) for one in turns] == [0, 0, 0, 0, 1]
    assert stage.resting("good") == ["a"]
    turned = found.failed(asked[0], "b", "b", found.admit("b", "bad", 0), FAULT, 0, again=False)
    assert turned == [verdicts.Turn("a", None)]
    assert stage.resting("good") == []


def test_another_deployment_of_the_same_provider_proves_nothing(stage):
    """Models of one provider fail together: the verdict waits for the end of the request."""
    found, asked = stage.verdicts, Asked("d", "k")
    for name in ("a", "b"):
        assert found.failed(asked, name, "p", found.admit(name, "k", 0), FAULT, 0, again=False) == []
        assert not found.is_sound(name, "another")
    found.unanswered(asked, 0)
    assert found.is_sound("a", "another")


def test_a_request_counts_once_however_often_it_calls(stage):
    """Twice at one, then at another, then at the first again."""
    found = stage.verdicts
    for number in range(FAILURES_IN_A_ROW - 1):
        asked = Asked(f"d{number}", "k")
        for name, again in (("a", False), ("a", True), ("b", False), ("a", True), ("b", True)):
            assert found.failed(asked, name, name, found.admit(name, "k", 0), FAULT, 0, again=again) == []
        assert found.unanswered(asked, 0) == []
    assert stage.resting("k") == []


def test_probes_of_everybody_count_as_ever(stage):
    """Once a deployment rests for all, a probe that fails doubles its rest, whoever sent it."""
    for number in range(FAILURES_IN_A_ROW):
        stage.ask(f"k{number}", NAMES)
    stage.ask("k9", NAMES, REST_S)
    assert stage.verdicts.resting("a", "another", REST_S).for_s == pytest.approx(2 * REST_S)
    assert stage.verdicts.resting("b", "another", REST_S).for_s == pytest.approx(2 * REST_S)


def test_callers_own_breakers_are_bounded(stage, monkeypatch):
    """The oldest is forgotten."""
    found = Verdicts(lambda: 0.0)
    stage.verdicts = found
    for number in range(verdicts.OWN_MAX + 50):
        stage.ask(f"k{number}", NAMES, number * OUTCOMES_S)
    assert len(found._own._breakers) == verdicts.OWN_MAX


def test_a_reload_begins_anew(stage):
    """For callers as for everybody; what was begun before says nothing."""
    for _ in range(FAILURES_IN_A_ROW):
        stage.ask("bad", NAMES)
    old = Asked("d", "bad")
    leave = stage.verdicts.admit("a", "good", 0)
    stage.verdicts.forget()
    assert stage.resting("bad") == []
    assert stage.verdicts.failed(old, "a", "a", leave, FAULT, 0, again=False) == []
    assert stage.verdicts.unanswered(old, 0) == []
    assert stage.verdicts.told(0) == {}


@given(st.lists(st.tuples(st.sampled_from(["bad", "worse"]), st.sets(st.sampled_from(NAMES))), max_size=80))
def test_two_callers_alone_take_nobody_from_a_third(moves):
    """Whatever of their requests nobody answers. What somebody answers may put others to rest; that is told apart."""
    stage = Stage()
    for caller, alive in moves:
        stage.ask(caller, NAMES, order=tuple(sorted(alive)))
    assert stage.resting("good") == []
