"""Cost of a deployment for a request: priors and learned lengths, parts, warm prompts, the ceiling that is a promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import NOW, a_chat, a_model, an_intent

from service.domain.catalog import Provider
from service.domain.experience import Experience
from service.domain.features import features_of
from service.domain.money import Fx, Multiplier, PriceQuote, Rates, Usage, price
from service.domain.prices import PriceBook
from service.routing.estimate import affordable_output, answer_of, candidate, unaccountable, worst_cost
from service.routing.estimate import forecast as of_features
from service.routing.estimate import within_ceiling as ceiling_of_features
from service.routing.lengths import OUTPUT_PRIORS, Length, Lengths
from service.routing.reserving import reservations


def forecast(chat, intent, lengths=None):
    """What is expected of a chat request."""
    return of_features(features_of(chat), intent, lengths)


def within_ceiling(found, model, chat, ceiling, **more):
    """A candidate of a chat request under a ceiling."""
    return ceiling_of_features(found, model, features_of(chat), ceiling, **more)


LENGTHS = Lengths(
    {
        ("m", None, None): Length(2_000, 1_500, None, None, 40),
        ("m", "coding", None): Length(500, 800, 300, 900, 30),
        ("m", "coding", "high"): Length(600, 900, 6_000, 12_000, 9),
        ("m", "chitchat", None): Length(9_000, 100, 0, 0, 9),
    }
)


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
    assert (capped.output_tokens, capped.plain.most, capped.choices) == (150, 50, 3)


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


def ceiled(model, ceiling, *, hurried=False, lengths=None, **body):
    """A candidate under a ceiling."""
    chat = a_chat(**body)
    found = candidate(model.deployments[0], model, forecast(chat, an_intent(), lengths), NOW)
    return within_ceiling(found, model, chat, ceiling, hurried=hurried)


def test_the_reservation_stays_under_the_ceiling_by_a_cap():
    """The cap that goes upstream is per choice, and all choices together fit."""
    model = a_model("m", (1, 2))
    for n in (1, 3):
        found, reason = ceiled(model, 6_000_000_000, n=n)
        assert reason is None
        assert 0 < found.output_tokens_cap * n <= 3_000
        assert found.reserved_pusd <= 6_000_000_000
        assert worst_cost(found.quote, found.input_tokens, found.output_tokens_cap * n) <= 6_000_000_000


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
    assert ceiled(thinker, 6_000_000_000)[1] is None
    assert ceiled(thinker, 6_000_000_000, n=4)[1].startswith("cost:")


def test_a_limit_must_leave_room_for_what_nine_of_ten_answers_take():
    """900 visible tokens of a question by the prior; the learned table knows better; the caller's own cap does, too."""
    model, room = a_model("m", (1, 2)), 900 * 2_000_000 + 100_000_000
    assert ceiled(model, room)[1] is None
    assert ceiled(model, room - 200_000_000)[1].startswith("cost:")
    assert ceiled(model, room, lengths=LENGTHS)[1].startswith("cost:")
    assert ceiled(model, room * 3 // 2, lengths=LENGTHS)[1] is None
    assert ceiled(model, room // 4, max_tokens=200)[1] is None


def test_when_others_have_failed_room_for_the_expected_answer_will_do():
    """One that may be cut is better than none; the cap still holds the limit."""
    found, reason = ceiled(a_model("m", (1, 2)), 600_000_000, hurried=True)
    assert reason is None
    assert found.reserved_pusd <= 600_000_000
    assert 220 <= found.output_tokens_cap < 300
    assert ceiled(a_model("m", (1, 2)), 300_000_000, hurried=True)[1].startswith("cost:")


def answer(intent, lengths=LENGTHS, *, model=None, parts=(), **body):
    """What is expected of model `m`."""
    chat = a_chat(**body)
    expected = forecast(chat, an_intent(intent, parts=parts), lengths)
    return answer_of(model or a_model("m", reasoning_tokens={"default": 100}), expected)


def test_learned_lengths_are_shares_of_the_prior():
    """Half of the 800 tokens of code, and the hidden ones that were seen instead of the registry's."""
    prior = OUTPUT_PRIORS["coding"]
    found = answer("coding")
    assert found.visible == prior.expected(2) // 2 == 400
    assert (found.reasoning, found.wanted) == (300, prior.high(2) * 8 // 10 + 900)
    assert answer("coding", reasoning_effort="high").reasoning == 6_000
    assert answer("coding", reasoning_effort="low") == found


def test_what_was_never_seen_goes_by_the_models_verbosity():
    """Twice as long as the prior, hidden tokens as the registry has them."""
    found = answer("math")
    assert (found.visible, found.reasoning) == (2 * OUTPUT_PRIORS["math"].base, 100)
    assert answer("math", model=a_model("other", reasoning_tokens={"default": 100})) == answer("math", None)


def test_without_a_table_the_priors_stand():
    """Also with the caller's cap, a tool loop, and several intents: the longest counts."""
    assert answer("coding", None) == (800, 100, 4_200, 4_200)
    assert answer("coding", None, max_tokens=50) == (50, 100, 250, 50)
    tools = [{"type": "function", "function": {"name": "f"}}]
    looped = [{"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "c", "content": "4"}]
    assert answer("chitchat", None, messages=looped, tools=tools).visible == 120


def test_a_high_figure_is_never_under_the_expected_one():
    """Nine times the prior is expected of its small talk: a limit leaves room for that, whatever the percentile says."""
    found = answer("chitchat")
    assert found.visible == 720
    assert found.wanted >= 720


def test_a_compound_answer_is_as_long_as_its_parts_together():
    """A translation and code: both, with what is thought for each; a part that comes twice counts twice."""
    model = a_model("m", reasoning_tokens={"default": 100, "coding": 700})
    one, two = OUTPUT_PRIORS["translation"].expected(2), OUTPUT_PRIORS["coding"].expected(2)
    found = answer("compound", None, model=model, parts=("translation", "coding"))
    assert (found.visible, found.reasoning) == (one + two, 800)
    assert answer("compound", None, model=model, parts=("coding", "coding")).visible == 2 * two
    assert answer("compound", model=model, parts=("translation", "coding")).visible == 2 * one + two // 2
    assert answer("compound", None, model=model).visible == OUTPUT_PRIORS["compound"].expected(2)


CACHED = {"cache_read": 100_000}
WRITTEN = {**CACHED, "cache_write_5m": 1_250_000}
LONG = "word " * 4_000


@pytest.mark.parametrize(
    ("rates", "known", "read", "written"),
    [
        (CACHED, Experience(), 0, 0),
        (CACHED, Experience(warm_tokens={"p/m": 4_500}), 4_096, 0),
        (CACHED, Experience(warm_tokens={"q/m": 4_500}), 0, 0),
        ({}, Experience(warm_tokens={"p/m": 4_500}), 0, 0),
        (WRITTEN, Experience(), 0, 4_096),
        (WRITTEN, Experience(warm_tokens={"p/m": 2_500}), 2_048, 2_048),
    ],
)
def test_warm_input_is_priced_as_the_vendor_bills_it(rates, known, read, written):
    """Exactly what `money.price` makes of such a usage."""
    model = a_model("m", (1, 2), rates=rates)
    expected = forecast(a_chat(LONG), an_intent())
    found = candidate(model.deployments[0], model, expected, NOW, known=known, reason="because")
    assert (found.cached_tokens, found.cache_write_tokens) == (read, written)
    usage = Usage(found.input_tokens - read - written, read, written, output=found.output_tokens)
    assert found.expected_cost_pusd == price(usage, found.quote).pusd
    assert found.reason == (
        f"because; {read:,} of {found.input_tokens:,} input tokens are warm there" if read else "because"
    )


def test_a_reservation_never_counts_on_warmth():
    """The vendor may have forgotten; where writes are billed, all of it may be written."""
    expected = forecast(a_chat(LONG), an_intent())
    for rates, factor in ((CACHED, 100), (WRITTEN, 125)):
        model = a_model("m", (1, 2), rates=rates)
        warm = Experience(warm_tokens={"p/m": 4_500})
        found = candidate(model.deployments[0], model, expected, NOW, known=warm)
        cold = expected.input_tokens * 150 // 100 * 10_000 * factor + 900 * 2_000_000
        assert found.reserved_pusd == cold


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


def test_what_can_not_be_priced_can_not_be_held_under_a_budget():
    """An unknown price, and an attachment of unknown size; nothing else, however dear."""
    file = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]
    plain, unmeasured = features_of(a_chat()), features_of(a_chat(messages=file))
    quote = a_model("m", (900, 900)).deployments[0].prices.quote(NOW)
    assert unaccountable(quote, plain) is None
    assert unaccountable(None, plain) == "price: unknown, and there is a budget"
    assert unaccountable(None, unmeasured) == "price: unknown, and there is a budget"
    assert unaccountable(quote, unmeasured).startswith("size: an attachment by reference has no known size")


@pytest.mark.parametrize(
    ("quirks", "marked", "rate"),
    [
        ({}, False, 2_500_000),  # writes by itself: OpenAI
        ({}, True, 4_000_000),
        ({"cache_marked": ""}, False, 2_000_000),  # writes what is marked: Anthropic
        ({"cache_marked": ""}, True, 4_000_000),
        ({"cache_write_marked": ""}, False, 2_000_000),  # bills what is marked: Alibaba
        ({"cache_write_marked": ""}, True, 4_000_000),
    ],
)
def test_a_reservation_counts_the_writes_that_can_be_billed(quirks, marked, rate):
    """Of a prompt that marks nothing no fee is held back where only marks are billed; what is marked may last longer."""
    provider = Provider("p", "https://p.example/v1", quirks=quirks)
    model = a_model("m", (2, 10), at=(provider,), rates={"cache_write_5m": 2_500_000, "cache_write_1h": 4_000_000})
    expected = forecast(a_chat("word " * 5_000, max_tokens=1_000), an_intent())
    found = candidate(model.deployments[0], model, expected, NOW, known=Experience(marked=marked))
    padded = expected.input_tokens * 150 // 100
    assert found.reserved_pusd == padded * rate + 1_000 * 10_000_000
    short = forecast(a_chat("word", max_tokens=10), an_intent())
    found = candidate(model.deployments[0], model, short, NOW, known=Experience(marked=marked))
    assert found.reserved_pusd == short.input_tokens * 150 // 100 * 2_000_000 + 10 * 10_000_000


def test_no_bill_of_what_may_be_written_is_over_its_reservation():
    """All of the prompt written, for an hour, with all of the answer: still within it."""
    model = a_model("m", (2, 10), rates={"cache_write_5m": 2_500_000, "cache_write_1h": 4_000_000})
    expected = forecast(a_chat("word " * 5_000, max_tokens=1_000), an_intent())
    found = candidate(model.deployments[0], model, expected, NOW, known=Experience(marked=True))
    assert price(Usage(cache_write_1h=expected.input_tokens, output=1_000), found.quote).pusd <= found.reserved_pusd


@pytest.mark.parametrize(
    ("tier", "factor"), [(None, 1), ("flex", 1), ("priority", 2), ("ultrafast", 6), ("scale", 1), ("mine", 1)]
)
def test_a_reservation_counts_the_service_tier_that_may_be_served(tier, factor):
    """A dearer one that was asked for, by its price; a cheaper one may not be served."""
    model = a_model("m", (2, 10))
    (host,) = model.deployments
    factors = {"flex": Multiplier(1, 2), "priority": Multiplier(2), "ultrafast": Multiplier(6)}
    (version,) = host.prices.versions
    host = replace(host, prices=PriceBook("p/m", (replace(version, service_tiers=factors),)))
    chat = a_chat("word", max_tokens=1_000, **({} if tier is None else {"service_tier": tier}))
    found = candidate(host, model, forecast(chat, an_intent()), NOW)
    assert found.reserved_pusd == factor * (found.input_tokens * 150 // 100 * 2_000_000 + 1_000 * 10_000_000)
    for served in ("default", tier):
        bill = Usage(input=found.input_tokens, output=1_000, service_tier=served)
        assert price(bill, found.quote, tier).pusd <= found.reserved_pusd
    for ceiling, fits in ((found.reserved_pusd, True), (found.reserved_pusd - 1, False)):
        held, problem = ceiling_of_features(found, model, features_of(chat), ceiling)
        assert (problem is None and held.output_tokens_cap == 0) is fits


def test_what_is_reserved_under_a_budget_counts_the_same():
    """No fee where only marks are billed, the dearest one where something is marked: at either reservation."""
    provider = Provider("p", "https://p.example/v1", quirks={"cache_marked": ""})
    model = a_model("m", (2, 10), at=(provider,), rates={"cache_write_1h": 4_000_000}, output_tokens_max=3_000)
    asked = features_of(a_chat("word " * 5_000))
    for marked, rate in ((False, 2_000_000), (True, 4_000_000)):
        known = Experience(marked=marked)
        found = candidate(model.deployments[0], model, of_features(asked, an_intent()), NOW, known=known)
        options = reservations(found, model, asked)
        padded = found.input_tokens * 150 // 100
        assert options[0].reserved_pusd == padded * rate + 3_000 * 10_000_000
        assert all(one.reserved_pusd > padded * rate for one in options)
