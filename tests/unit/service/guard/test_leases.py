"""What a request holds, and what it may use."""

from __future__ import annotations

import pytest
from scenery import a_catalog, a_chat, a_model, decided

from service.domain.limits import Budget, Limits
from service.guard.leases import Hold, Lease, VendorFull
from service.guard.scopes import scope_of


def test_what_a_candidate_may_use():
    """Its reservation and the tokens that are expected of it; an unknown price holds no money."""
    chosen = decided(a_chat(), a_catalog(a_model("m"))).chosen
    hold = Hold.of(chosen)
    assert hold == Hold(chosen.reserved_pusd, chosen.input_tokens + chosen.output_tokens + chosen.reasoning_tokens)
    assert not hold.nothing
    free = decided(a_chat(), a_catalog(a_model("m", None))).chosen
    assert Hold.of(free).pusd == 0
    assert not Hold.of(free).nothing
    assert Hold(0, 0).nothing


@pytest.mark.parametrize(
    ("limits", "hard"),
    [(Limits(day_pusd=1), True), (Limits(day_pusd=1, soft=True), False), (Limits(concurrency=1), False)],
)
def test_what_stands_over_it(limits, hard):
    """A hard budget of money refuses; soft ones and rates are no budget that does."""
    lease = Lease((scope_of(Budget("b", limits, "team")),))
    assert lease.hard_money is hard
    assert lease.hard_tags == ({"team"} if hard else set())
    assert not lease.stops


def test_a_full_vendor_says_when_to_look_again():
    """In seconds."""
    assert VendorFull(0.25).for_s == 0.25
