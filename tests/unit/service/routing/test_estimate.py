"""Cost and quality of a deployment for a request: priors, abstention, and the ceiling that is a promise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import NOW, a_chat, a_model, an_intent

from service.domain.decision import INTENTS, NOT_CLASSIFIED
from service.domain.money import Fx, Multiplier, PriceQuote, Rates, Usage, price
from service.domain.features import features_of
from service.routing.estimate import (
    affordable_output,
    candidate,
    worst_cost,
)
from service.routing.estimate import forecast as of_features
from service.routing.estimate import within_ceiling as ceiling_of_features
from service.routing.lengths import OUTPUT_PRIORS
from service.routing.quality import plausible_intents, quality_of


def forecast(chat, intent):
    return of_features(features_of(chat), intent)


def within_ceiling(found, model, chat, ceiling):
    return ceiling_of_features(found, model, features_of(chat), ceiling)


FLAT = dict.fromkeys(INTENTS, 1 / len(INTENTS))


def test_every_intent_has_an_output_prior():
    """A new intent without one would be priced as unclassified, in silence."""
    assert set(OUTPUT_PRIORS) == {*INTENTS, "unclassified"}


def test_a_sure_classifier_names_one_intent():
    """Its label, whatever else is likely."""
    assert plausible_intents(an_intent("coding", 0.5)) == ("coding",)


def test_abstaining_demands_every_plausible_intent():
    """The likeliest that cover 0.80, without noise."""
    posterior = {"math": 0.4, "logic": 0.3, "coding": 0.2, "chitchat": 0.06, "writing": 0.04}
    assert plausible_intents(an_intent(abstained=True, posterior=posterior)) == ("math", "logic", "coding")
    posterior = {"math": 0.5, "logic": 0.2, "coding": 0.04, "chitchat": 0.04, "writing": 0.04}
    assert plausible_intents(an_intent(abstained=True, posterior=posterior)) == ("math", "logic")


def test_no_evidence_demands_the_most():
    """Fifteen equally likely intents are no reason to take the first five, which are the easy ones."""
    plausible = plausible_intents(an_intent("chitchat", abstained=True, posterior=FLAT))
    assert {"coding", "math", "logic"} <= set(plausible)
    model = a_model("m", quality={"default": 0.9, "math": 0.3})
    assert quality_of(model, plausible) == 3_000


def test_an_unread_request_goes_by_the_default():
    """A pinned model is not classified: its default prior counts."""
    assert plausible_intents(NOT_CLASSIFIED) == ("unclassified",)
    assert quality_of(a_model("m", quality={"default": 0.7, "coding": 0.1}), ("unclassified",)) == 7_000


def test_tools_must_be_served_well_too():
    """Whatever the request is about, a request with tools needs somebody good at tools."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert forecast(a_chat(tools=tools), an_intent("coding")).intents == ("coding", "tool_use")
    assert forecast(a_chat(), an_intent("coding")).intents == ("coding",)


def test_a_translation_is_as_long_as_its_source():
    """Expected output grows with the newest user message; a chat's does not."""
    long = a_chat("word " * 2_000)
    short = a_chat("word")
    assert forecast(long, an_intent("translation")).output_tokens > 2_500
    assert forecast(short, an_intent("translation")).output_tokens < 40
    assert forecast(long, an_intent("chitchat")).output_tokens == forecast(short, an_intent("chitchat")).output_tokens


def test_the_callers_cap_bounds_both_figures_and_n_multiplies():
    """Nothing above `max_tokens`; every choice is paid."""
    capped = forecast(a_chat(max_tokens=50, n=3), an_intent("coding"))
    assert (capped.output_tokens, capped.output_tokens_high, capped.choices) == (150, 150, 3)


def test_expected_cost_counts_hidden_reasoning_for_each_choice():
    """A thinking model with the lower list price may be the dearer one."""
    thinker = a_model("t", (1, 2), reasoning_tokens={"default": 5_000})
    plain = a_model("p", (2, 4))
    expected = forecast(a_chat(n=2), an_intent())
    dear = candidate(thinker.deployments[0], thinker, expected, NOW)
    cheap = candidate(plain.deployments[0], plain, expected, NOW)
    assert dear.expected_cost_pusd > cheap.expected_cost_pusd
    by_hand = (expected.input_tokens * 1 + (expected.output_tokens + 2 * 5_000) * 2) * 10**6
    assert dear.expected_cost_pusd == by_hand
    assert dear.reasoning_tokens == 5_000


def test_an_unknown_price_is_no_cost_at_all():
    """`None`, never 0, also when only one side or one tier is unknown."""
    for listed in (None, (1, 0)):
        model = a_model("m", listed)
        found = candidate(model.deployments[0], model, forecast(a_chat(), an_intent()), NOW)
        assert (found.expected_cost_pusd is None) == (listed is None)
        assert (found.reserved_pusd is None) == (listed is None)


def test_the_reservation_is_at_least_the_expected_cost():
    """Worst case: margin on the input, p95 of the output, twice the reasoning, the dearer kind of output."""
    model = a_model("m", (1, 2), reasoning_tokens={"default": 100}, rates={"reasoning": 9_000_000})
    found = candidate(model.deployments[0], model, forecast(a_chat(), an_intent()), NOW)
    assert found.reserved_pusd > found.expected_cost_pusd
    assert worst_cost(found.quote, 0, 10) == 10 * 9_000_000


@settings(max_examples=300, deadline=None)
@given(
    input_tokens=st.integers(0, 200_000),
    rates=st.tuples(*[st.just(0) | st.integers(1_000, 60_000_000)] * 3),
    factor=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    nano_usd=st.integers(10**7, 2 * 10**9),
    ceiling=st.integers(0, 10**12),
)
def test_what_a_ceiling_affords_never_exceeds_it_and_is_the_most(input_tokens, rates, factor, nano_usd, ceiling):
    """With any exchange rate and window: the tokens fit, one more would not (or there is no bound)."""
    quote = PriceQuote("v", Rates(rates[0], rates[1], reasoning=rates[2]), Fx("CNY", nano_usd), Multiplier(*factor))
    fits = affordable_output(quote, input_tokens, ceiling)
    if fits:
        assert worst_cost(quote, input_tokens, fits) <= ceiling
        real = Usage(input=input_tokens, output=fits // 2, reasoning=fits - fits // 2)
        assert price(real, quote).pusd <= ceiling + 1
    if fits < 10**9:
        assert worst_cost(quote, input_tokens, fits + 2) > ceiling or worst_cost(quote, input_tokens, 0) > ceiling


def test_a_ceiling_holds_where_rounding_goes_against_it():
    """Half a pico-dollar of input rounds down, with a token of output it rounds up: the plain quotient is too high."""
    quote = PriceQuote("v", Rates(1, 2), Fx("CNY", 500_000_000))
    assert worst_cost(quote, 1, 0) == 0
    assert worst_cost(quote, 1, 1) == 2
    assert affordable_output(quote, 1, 1) == 0


def ceiled(model, ceiling, **body):
    """A candidate under a ceiling."""
    chat = a_chat(**body)
    found = candidate(model.deployments[0], model, forecast(chat, an_intent()), NOW)
    return within_ceiling(found, model, chat, ceiling)


def test_the_reservation_stays_under_the_ceiling_by_a_cap():
    """The cap that goes upstream is per choice, and all choices together fit."""
    model = a_model("m", (1, 2))
    for n in (1, 3):
        found, reason = ceiled(model, 2_000_000_000, n=n)
        assert reason is None
        assert 0 < found.output_tokens_cap * n <= 1_000
        assert found.reserved_pusd <= 2_000_000_000
        assert worst_cost(found.quote, found.input_tokens, found.output_tokens_cap * n) <= 2_000_000_000


def test_a_lower_cap_of_the_caller_or_the_model_is_left_alone():
    """No cap is invented where what is said already keeps the ceiling: a vendor would refuse an absurd one."""
    found, reason = ceiled(a_model("m", (1, 2)), 10**12, max_tokens=100)
    assert (found.output_tokens_cap, reason) == (0, None)
    found, reason = ceiled(a_model("m", (1, 2), output_tokens_max=8_000), 10**12)
    assert (found.output_tokens_cap, reason) == (0, None)
    assert found.reserved_pusd <= 10**12


def test_a_higher_cap_of_the_caller_is_lowered():
    """`max_tokens` above the ceiling is cut to what the money buys; never the other way round."""
    found, _ = ceiled(a_model("m", (1, 2)), 2_000_000_000, max_tokens=50_000)
    assert 0 < found.output_tokens_cap < 1_000


def test_what_does_not_fit_is_refused_with_its_reason():
    """Too dear, unknown price, or reasoning of every choice that alone breaks the ceiling."""
    assert ceiled(a_model("m", (1, 2)), 10_000)[1].startswith(
        "cost: an answer may cost more than the limit of 0.00000001"
    )
    assert ceiled(a_model("m", None), 10**12)[1] == "price: unknown, and there is a cost limit"
    thinker = a_model("m", (1, 2), reasoning_tokens={"default": 900})
    assert ceiled(thinker, 4_000_000_000)[1] is None
    assert ceiled(thinker, 4_000_000_000, n=4)[1].startswith("cost:")


def test_a_cap_that_holds_nothing_is_not_sent():
    """Free output under a ceiling: no number beyond every window goes upstream; a dear one is clipped to the window."""
    for listed, expected in (((0, 0), 0), ((1, 0.0001), 99_000)):
        model = a_model("m", listed, context_tokens=None if expected == 0 else 100_000)
        chat = a_chat("hi", coe={"max_cost_usd": 1000})
        (deployment,) = model.deployments
        found = candidate(deployment, model, forecast(chat, an_intent()), NOW)
        held, reason = within_ceiling(found, model, chat, chat.steering.max_cost_pusd)
        assert reason is None
        assert held.output_tokens_cap == 0 if expected == 0 else expected <= held.output_tokens_cap < 100_000
