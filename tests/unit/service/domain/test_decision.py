"""Decisions and ledger rows as values."""

from __future__ import annotations

import dataclasses

import pytest

from classifiers.taxonomy import INTENTS as CLASSIFIED
from service.domain import decision
from service.domain.decision import INTENTS, NOT_CLASSIFIED, EntryState, Intent, OpenEntry, TerminalEntry


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
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


def test_only_open_is_not_terminal():
    """Four ways to end, as the ledger documents them."""
    assert {state.value for state in EntryState} - {"open"} == {"settled", "estimated", "refused", "unknown"}
