"""Rows from what the pipeline knows: states, prices, baselines, and how they are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import Provider
from service.domain.experience import Experience
from service.domain.money import Fx, Multiplier, PriceQuote, Rates, Usage, UsageSource
from service.ledger.recorder import (
    Identity,
    Outcome,
    Stored,
    Timing,
    ending,
    ending_stored,
    opening,
    shown_end,
    shown_open,
)
from service.ledger.reproduced import reproduced
from service.ledger.rows import terminal_body

DECISION = decided(a_chat("bonjour"), a_catalog(a_model("m", (1, 2))))
CANDIDATE = DECISION.chosen
WHO = Identity("att_1", "req_1", 2, "key_1", ("a", "b"), streaming=True)
TIMING = Timing(1_000, 12.5, 99.0, 1.25)
ENTRY = opening(WHO, DECISION, CANDIDATE, 500)
BASELINE = ("big", PriceQuote("big@1", Rates(10_000_000, 20_000_000)))


def ended(usage, *, candidate=CANDIDATE, baseline=BASELINE, why="complete", **more):
    """A terminal row."""
    return ending(ENTRY, candidate, Outcome(why, usage, **more), TIMING, baseline)


def test_the_intent_to_spend():
    """Everything a reader needs to know before anything was sent."""
    assert (ENTRY.attempt_id, ENTRY.request_id, ENTRY.decision_id) == ("att_1", "req_1", "dec_1")
    assert (ENTRY.model, ENTRY.provider, ENTRY.wire_name, ENTRY.requested_model) == ("m", "p", "m-wire", "auto")
    assert (ENTRY.intent, ENTRY.language, ENTRY.policy) == ("factual_qa", "en", "balanced")
    assert (ENTRY.price_version, ENTRY.reserved_pusd) == ("p/m@2026-01-01", CANDIDATE.reserved_pusd)
    assert (ENTRY.attempt_number, ENTRY.at_ms, ENTRY.streaming, ENTRY.simulated) == (2, 500, True, False)


def test_a_simulated_vendor_is_marked():
    """Nothing was paid, and the row says so."""
    host = Provider("p", "http://127.0.0.1:1/v1", simulated=True)
    decision = decided(a_chat(), a_catalog(a_model("m", at=(host,))))
    assert opening(WHO, decision, decision.chosen, 1).simulated


@pytest.mark.parametrize(
    ("source", "state"),
    [
        (UsageSource.PROVIDER, "settled"),
        (UsageSource.COUNTED, "settled"),
        (UsageSource.ESTIMATED, "estimated"),
        (UsageSource.UNKNOWN, "estimated"),
    ],
)
def test_the_state_says_whose_number_it_is(source, state):
    """An estimate is never passed off as the vendor's bill."""
    row = ended(Usage(input=10, output=5, source=source))
    assert (row.state.value, row.usage_source) == (state, source.value)


def test_what_can_not_be_billed_costs_exactly_nothing():
    """`refused`, 0, no baseline: it bought nothing and saved nothing."""
    row = ended(None, why="http_500", upstream_status=500)
    assert (row.state.value, row.cost_pusd, row.baseline_pusd, dict(row.usage)) == ("refused", 0, None, {})
    assert row.upstream_status == 500


def test_the_cost_is_that_of_the_quote_at_dispatch():
    """Rates, window and exchange rate of the quote, whatever the registry says by now; stored with the row."""
    quote = PriceQuote("v7", Rates(1_000_000, 2_000_000, 100_000), Fx("CNY", 140_600_000), Multiplier(2))
    row = ended(Usage(input=10, cache_read=100, output=5), candidate=replace(CANDIDATE, quote=quote))
    assert row.cost_pusd == (10 * 1_000_000 + 100 * 100_000 + 5 * 2_000_000) * 2 * 1_406 // 10_000
    assert row.price == {
        "version": "v7",
        "currency": "CNY",
        "multiply": "2",
        "usd_per_unit": "0.1406",
        "rates": {"input": 1_000_000, "output": 2_000_000, "cache_read": 100_000, "requests": 0},
    }


def test_an_unknown_price_is_an_unknown_cost():
    """`None`, never 0; but a vendor that states its own cost is believed."""
    unpriced = replace(CANDIDATE, quote=None)
    assert ended(Usage(input=10), candidate=unpriced).cost_pusd is None
    assert ended(Usage(input=10, vendor_cost_pusd=77), candidate=unpriced).cost_pusd == 77


def test_the_baseline_is_priced_on_the_same_tokens_without_the_vendors_figure():
    """Another vendor would not send this one's cost, nor its tier."""
    usage = Usage(input=10, output=5, vendor_cost_pusd=1, service_tier="batch")
    row = ended(usage)
    assert row.cost_pusd == 1
    assert (row.baseline_model, row.baseline_pusd) == ("big", 10 * 10_000_000 + 5 * 20_000_000)
    assert ended(usage, baseline=None).baseline_model is None


def test_the_rest_of_the_row():
    """How it ended, who served it, how long it took."""
    row = ended(Usage(flags=("output_absurd",)), served_model="m-2", upstream_id="chatcmpl-1", final=False)
    assert (row.ended, row.served_model, row.upstream_id, row.final) == ("complete", "m-2", "chatcmpl-1", False)
    assert (row.at_ms, row.ttft_ms, row.total_ms, row.overhead_ms) == (1_000, 12.5, 99.0, 1.25)
    assert row.usage_flags == ("output_absurd",)


def test_an_attempt_is_shown_with_the_same_names_before_and_after():
    """A reader's code need not ask which state it is in; tokens appear once they are known."""
    before = shown_open(ENTRY)
    after = {**before, **shown_end(ended(Usage(input=10, output=5)))}
    assert set(after) - set(before) == {"input_tokens", "output_tokens"}
    assert (before["state"], before["cost_usd"], before["ended"]) == ("open", None, None)
    assert (after["state"], after["cost_usd"], after["tags"]) == ("settled", "0.00002", ["a", "b"])
    assert after["baseline_cost_usd"] == "0.0002"


@pytest.mark.parametrize("cost", [0, 7, 2**62, None])
def test_an_answer_from_the_cache_costs_nothing_and_is_measured_by_what_it_had_cost(cost):
    """An unknown cost saves nobody knows what. The row computes itself."""
    row = ending_stored(ENTRY, Stored("att_0", cost, "m-1"), TIMING)
    assert (row.state, row.ended, row.cost_pusd, row.final) == ("settled", "cache_hit", 0, True)
    assert (row.baseline_pusd, row.baseline_model, row.served_model) == (cost, "m", "m-1")
    assert row.baseline_assumed_pusd == (None if cost is None else 0)
    assert (dict(row.usage), row.ttft_ms, row.total_ms, row.price["answer_of"]) == ({}, None, 99.0, "att_0")
    assert reproduced({}, terminal_body(row)) == 0


BEST = a_model("best", (10, 20), quality=0.95)
COMPARED = decided(a_chat("bonjour"), a_catalog(a_model("m", (1, 2)), BEST, baseline="m"))
"""A decision whose choice is the cheapest and the configured baseline; the strongest is dearer tenfold."""


def compared_row(usage, decision=COMPARED, **more):
    """The row of an attempt at its choice."""
    chosen = decision.chosen
    entry = opening(WHO, decision, chosen, 500)
    return ending(entry, chosen, Outcome("complete", usage, **more), TIMING, None, decision)


def test_the_answer_is_compared_with_its_rivals():
    """Who answered costs what was booked, the strongest what its list says of the same; the rule is named."""
    row = compared_row(Usage(input=1_000, output=100))
    assert (row.cost_pusd, row.cheapest_pusd, row.baseline_pusd) == (1_200 * 10**6,) * 3
    assert (row.cheapest_assumed_pusd, row.baseline_assumed_pusd) == (0, 0)
    assert (row.strongest_pusd, row.strongest_assumed_pusd) == (12_000 * 10**6, 2_000 * 10**6)
    assert row.random_pusd in {row.cheapest_pusd, row.strongest_pusd}
    assert row.compared_by == 1
    assert (shown_end(row)["strongest_cost_usd"], shown_end(row)["cheapest_cost_usd"]) == ("0.012", "0.0012")


def test_only_the_attempt_that_answered_is_compared():
    """One that failed bought nothing; one that was refused was not even paid for."""
    for row in (compared_row(Usage(input=9, output=1), final=False), compared_row(None)):
        assert (row.strongest_pusd, row.random_assumed_pusd, row.compared_by) == (None, None, None)


def test_a_rival_s_cache_is_as_warm_as_the_warmest():
    """What is known to be in anybody's cache would be in its own."""
    cached = a_model("best", (10, 20), quality=0.95, rates={"cache_read": 10**6})
    cold = decided(a_chat("bonjour"), a_catalog(a_model("m", (1, 2)), cached))
    warm = replace(cold, experience=Experience(warm_tokens={"p/m": 600}))
    usage = Usage(input=1_000, output=100)
    assert compared_row(usage, cold).strongest_pusd == 12_000 * 10**6
    assert compared_row(usage, warm).strongest_pusd == (400 * 10 + 600 + 2_000) * 10**6


def test_nobody_is_longer_than_the_caller_allows():
    """Over all choices."""
    thinks = replace(a_model("best", (10, 20), quality=0.95), reasoning_tokens={"default": 10**6})
    decision = decided(a_chat("bonjour", max_tokens=150), a_catalog(a_model("m", (1, 2)), thinks))
    row = compared_row(Usage(input=1_000, output=100), decision)
    assert row.strongest_pusd == (10_000 + 150 * 20) * 10**6
