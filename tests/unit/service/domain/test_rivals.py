"""What it would have cost elsewhere: computed a second time with fractions, and by hand where it matters."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from service.domain.money import BUCKETS, Fx, Multiplier, PriceQuote, Rates, Tier, Usage, price
from service.domain.rivals import Rival, Served, WouldCost, counts_of, interval, would_cost

QUOTE = PriceQuote("big@1", Rates(input=10, output=20, cache_read=1))
USED = Usage(input=1_000, cache_read=200, output=300)


def a_rival(model="big", deployment="p/big", quote=QUOTE, visible=400, reasoning=0, name="strongest"):
    """Somebody who could have answered."""
    return Rival(name, model, deployment, quote, visible, reasoning)


def served(model="small", deployment="p/small", visible=400, reasoning=0, cost_pusd=7, **more):
    """Who answered."""
    return Served(model, deployment, visible, reasoning, cost_pusd, **more)


def as_used(usage, who, rival):
    """The usage that the rival would have had."""
    return Usage(**dict(zip(BUCKETS, counts_of(usage, who, rival), strict=True)))


def test_who_answered_costs_what_was_booked():
    """Whatever its list says: a vendor's own figure, a cheaper tier. Nothing is assumed."""
    assert would_cost(USED, served(), a_rival("small", "p/small")) == WouldCost(7, 0)
    assert would_cost(USED, served(cost_pusd=None), a_rival("small", "p/small")) == WouldCost(None, None)


def test_the_same_model_elsewhere_says_the_same():
    """Its own price, the same tokens, nothing assumed."""
    cost = would_cost(USED, served(visible=100), a_rival("small", "q/small", visible=900))
    assert cost == WouldCost(1_000 * 10 + 200 + 300 * 20, 0)


def test_another_model_s_answer_is_as_much_longer_as_is_expected_of_it():
    """Half as long, twice as long; what of the cost rests on that is told."""
    for visible, output in ((200, 150), (400, 300), (800, 600)):
        cost = would_cost(USED, served(), a_rival(visible=visible))
        assert cost == WouldCost(10_200 + output * 20, output * 20)


@pytest.mark.parametrize(
    ("theirs", "ours", "used", "expected"),
    [
        ((400, 0), (400, 0), (300, 0), (300, 0)),
        ((400, 0), (400, 0), (300, 50), (300, 50)),  # nobody knows of any thinking: as it was
        ((400, 800), (400, 0), (300, 0), (300, 600)),  # as long a task as this answer was
        ((400, 800), (400, 400), (300, 100), (300, 200)),
        ((400, 0), (400, 400), (300, 100), (300, 0)),
        ((400, 0), (0, 0), (300, 0), (300, 0)),  # nothing was expected: no longer and no shorter
    ],
)
def test_thinking_that_is_paid_for(theirs, ours, used, expected):
    """What is expected of both says how much the other would have thought."""
    usage = Usage(input=10, output=used[0], reasoning=used[1])
    found = as_used(usage, served(visible=ours[0], reasoning=ours[1]), a_rival(visible=theirs[0], reasoning=theirs[1]))
    assert (found.output, found.reasoning) == expected


def test_the_caller_s_cap_holds_for_everybody():
    """Nobody is taken to say more than was allowed, thinking included."""
    found = as_used(USED, served(output_tokens_max=350), a_rival(visible=800, reasoning=800))
    assert (found.output, found.reasoning) == (350, 0)


def test_its_cache_is_as_warm_as_anybody_s():
    """What is known to be in some cache would be in its own; never more than the prompt, and not without a cache."""
    for warm, read in ((0, 200), (200, 200), (700, 700), (5_000, 1_200)):
        found = as_used(USED, served(warm_tokens=warm), a_rival())
        assert (found.cache_read, found.input) == (read, 1_200 - read)
    plain = a_rival(quote=PriceQuote("x", Rates(input=10, output=20)))
    assert as_used(USED, served(warm_tokens=700), plain).cache_read == 200


def test_what_does_not_carry_over():
    """The vendor's own figure and tier are not the rival's."""
    usage = Usage(input=1, output=1, service_tier="flex", vendor_cost_pusd=5)
    plain = Usage(input=1, output=1)
    assert would_cost(usage, served(), a_rival()) == would_cost(plain, served(), a_rival()) == WouldCost(30, 20)


def test_an_unknown_price_stays_unknown():
    """Never 0."""
    mute = a_rival(quote=PriceQuote("x", Rates(input=10, output=20)))
    usage = Usage(input=1, audio_in=4, output=1)
    cost = would_cost(usage, served(), mute)
    assert cost in (WouldCost(None, None), WouldCost(mute.quote.pusd(1 * 10 + 4 * 10 + 20), 20))
    nothing = a_rival(quote=PriceQuote("x", Rates(input=None, output=20)))
    assert would_cost(USED, served(), nothing) == WouldCost(None, None)


def by_fractions(usage, who, rival):
    """The same, worked out another way: exact, each length and each sum rounded once, halves to even."""
    rates = rival.quote.rates_for(usage.input_total)
    read = usage.cache_read
    if rates.cache_read is not None:
        read = max(read, min(who.warm_tokens, usage.input + usage.cache_read))
    visible, hidden = usage.output, usage.reasoning
    if rival.model != who.model:
        if who.visible:
            visible = round(Fraction(usage.output * rival.visible, who.visible))
        if who.reasoning:
            hidden = round(Fraction(usage.reasoning * rival.reasoning, who.reasoning))
        elif rival.reasoning and who.visible:
            hidden = round(Fraction((usage.output + usage.reasoning) * rival.reasoning, who.visible))
        elif rival.reasoning:
            hidden = usage.output + usage.reasoning
        if who.output_tokens_max is not None:
            visible = min(visible, who.output_tokens_max)
            hidden = min(hidden, who.output_tokens_max - visible)
    factor = Fraction(rival.quote.multiplier.numerator, rival.quote.multiplier.denominator)
    factor *= Fraction(rival.quote.fx.nano_usd, 10**9)
    fresh = (usage.input + usage.cache_read - read) * rates.input
    into = fresh + read * (rates.input if rates.cache_read is None else rates.cache_read)
    out = visible * rates.output + hidden * (rates.output if rates.reasoning is None else rates.reasoning)
    whole = round((into + out) * factor)
    return WouldCost(whole, 0 if rival.model == who.model else whole - round(into * factor))


def test_a_second_reckoning_agrees():
    """Over random requests, prices, tiers, currencies and lengths: to the pico-dollar."""
    chance = random.Random(9)

    def count(most=5_000):
        return chance.choice((0, 1, chance.randrange(most)))

    def rates():
        cached, thought = chance.choice((None, chance.randrange(10**7))), chance.choice((None, chance.randrange(10**8)))
        return Rates(chance.randrange(10**8), chance.randrange(10**8), cache_read=cached, reasoning=thought)

    for _ in range(4_000):
        tiers = (Tier(chance.randrange(8_000), rates()),) if chance.random() < 0.3 else ()
        fx = Fx("CNY", chance.randrange(1, 10**9)) if chance.random() < 0.5 else Fx()
        factor = Multiplier(chance.randrange(1, 9), chance.randrange(1, 9))
        quote = PriceQuote("x", rates(), tiers=tiers, fx=fx, multiplier=factor)
        rival = a_rival(chance.choice(("small", "big")), "q/it", quote, count(), count())
        who = served(
            visible=count(),
            reasoning=count(),
            warm_tokens=count(9_000),
            output_tokens_max=chance.choice((None, count())),
        )
        usage = Usage(input=count(), cache_read=count(), output=count(), reasoning=count())
        cost = would_cost(usage, who, rival)
        assert cost == by_fractions(usage, who, rival)
        assert cost.pusd == price(as_used(usage, who, rival), quote).pusd, "as what is booked is priced"


def test_the_interval_of_a_sum():
    """From half as long to twice as long, all at once; nothing assumed, nothing open."""
    assert interval(1_000, 600) == (700, 1_600)
    assert interval(1_000, 0) == (1_000, 1_000)
    chance = random.Random(4)
    for _ in range(500):
        parts = [(cost := chance.randrange(10**9), chance.randrange(cost + 1)) for _ in range(9)]
        low, high = interval(sum(cost for cost, _ in parts), sum(assumed for _, assumed in parts))
        each = [interval(*part) for part in parts]
        assert abs(low - sum(one for one, _ in each)) <= len(parts)
        assert high == sum(one for _, one in each)
