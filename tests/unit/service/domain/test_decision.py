"""Decisions and ledger rows as values."""

from __future__ import annotations

import dataclasses

import pytest

from classifiers.taxonomy import INTENTS as CLASSIFIED
from service.domain import decision
from service.domain.catalog import Deployment, Provider
from service.domain.decision import (
    INTENTS,
    NOT_CLASSIFIED,
    QUALITY_STEPS,
    Candidate,
    Candidates,
    EntryState,
    Intent,
    OpenEntry,
    Rejected,
    TerminalEntry,
    floor_steps,
    quality_steps,
)
from service.domain.prices import PriceBook


def test_the_classifier_speaks_of_the_same_intents():
    """The two lists stand beside each other because neither side may import the other; they must be equal."""
    assert tuple(CLASSIFIED) == INTENTS


def test_an_unclassified_request_claims_nothing():
    """No confidence, no posterior, and it counts as abstained."""
    assert (NOT_CLASSIFIED.confidence, dict(NOT_CLASSIFIED.posterior), NOT_CLASSIFIED.abstained) == (0.0, {}, True)
    assert NOT_CLASSIFIED.label not in INTENTS


@pytest.mark.parametrize("kind", [Intent, OpenEntry, TerminalEntry, decision.Candidate, decision.Decision])
def test_values_are_frozen(kind):
    """A row or a decision can't change after it was made."""
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert frozen or issubclass(kind, tuple)


def test_only_open_is_not_terminal():
    """Four ways to end, as the ledger documents them."""
    assert {state.value for state in EntryState} - {"open"} == {"settled", "estimated", "refused", "unknown"}


def test_quality_is_a_whole_number_of_steps():
    """To the nearest; the ends hold, and what is no number is worth nothing."""
    assert [quality_steps(one) for one in (0.0, 0.57, 0.93, 0.93001, 1.0)] == [0, 5_700, 9_300, 9_300, QUALITY_STEPS]
    assert quality_steps(0.9 - 1e-12) == quality_steps(0.9) == quality_steps(0.9 + 1e-12)
    for wild, steps in ((float("nan"), 0), (-3.0, 0), (7.0, QUALITY_STEPS), (float("inf"), QUALITY_STEPS)):
        assert quality_steps(wild) == steps
    assert quality_steps(float("-inf")) == 0


@pytest.mark.parametrize("hundredths", range(101))
def test_a_floor_in_hundredths_is_exactly_that(hundredths):
    """Binary fractions put 0.57 under and 0.07 over its decimal; neither moves the floor."""
    assert floor_steps(hundredths / 100) == hundredths * 100 == quality_steps(hundredths / 100)


def test_a_floor_is_never_lowered():
    """What lies between two steps goes up; NaN is refused rather than being a floor that nobody or everybody meets."""
    assert floor_steps(0.80001) == 8_001
    assert (floor_steps(1e-300), floor_steps(0.8 + 1e-13)) == (1, 8_001)
    with pytest.raises(ValueError, match="NaN"):
        floor_steps(float("nan"))


def candidate(number):
    """A candidate that can be told from others."""
    provider = Provider("p", "https://p.example/v1")
    return Candidate(
        Deployment(provider, f"m{number}", "x", PriceBook("p")), 0.5, number, None, 1, 1, 0, None, rejected="cost: x"
    )


def test_candidates_are_built_when_looked_at_and_once():
    """By index from either end, by slice, by a loop; never twice."""
    built = []

    def build(place):
        built.append(place)
        return candidate(place)

    found = Candidates(5, build)
    assert (len(found), built) == (5, [])
    assert found[-1] is found[4]
    assert [one.expected_cost_pusd for one in found[1:3]] == [1, 2]
    assert built == [4, 1, 2]
    assert [one.expected_cost_pusd for one in found] == [0, 1, 2, 3, 4]
    assert sorted(built) == [0, 1, 2, 3, 4]
    with pytest.raises(IndexError):
        found[5]


def test_candidates_are_equal_to_equal_ones():
    """Whoever looked at them before; not to others, nor in another order."""
    looked_at = Candidates(3, candidate)
    assert looked_at[1].expected_cost_pusd == 1
    assert looked_at == Candidates(3, candidate)
    assert looked_at == tuple(candidate(number) for number in range(3))
    assert looked_at != Candidates(2, candidate)
    assert looked_at != Candidates(3, lambda place: candidate(2 - place))
    assert "m2" in repr(looked_at)


def test_who_is_rejected_is_told_without_being_built():
    """Ids and reasons are at hand."""

    def build(place):
        raise AssertionError(place)

    found = Rejected([("p/m0", "cost: x"), ("p/m1", "deny: y")], build)
    assert (len(found), found.reasons[1]) == (2, ("p/m1", "deny: y"))
