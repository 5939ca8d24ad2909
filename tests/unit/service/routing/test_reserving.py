"""What is reserved for an attempt: a bound for its bill where the budget has room, else the cap that makes one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenery import a_catalog, a_chat, a_model, decided

from service.domain.features import features_of
from service.routing.estimate import worst_cost
from service.routing.reserving import paid_output, reservations


def found(listed=(1, 2), *, text="hello", **fields):
    """(the candidate, its model, the features) of a request with these limits of the model; `body` in `fields`."""
    chat = a_chat(text, **fields.pop("body", {}))
    model = a_model("m", listed, **fields)
    decision = decided(chat, a_catalog(model))
    return decision.chosen, model, features_of(chat)


def worst(candidate, tokens):
    """What so many output tokens may cost, with the input's margin."""
    return worst_cost(candidate.quote, candidate.input_tokens, tokens)


def test_what_is_paid_for_is_what_the_reservation_or_the_ceiling_buys():
    """The tighter of both, to the token; a prompt that is counted as more leaves less; without a limit nothing ends it."""
    candidate, model, asked = found(output_tokens_max=16_000)
    (whole, capped) = reservations(candidate, model, asked)
    tokens = candidate.input_tokens
    assert paid_output(whole, tokens, reserved=True, ceiling_pusd=None) == 16_000
    assert paid_output(capped, tokens, reserved=True, ceiling_pusd=None) == candidate.wanted_tokens
    assert paid_output(whole, tokens, reserved=True, ceiling_pusd=worst(candidate, 77)) == 77
    assert paid_output(whole, tokens, reserved=False, ceiling_pusd=worst(candidate, 99)) == 99
    assert paid_output(whole, tokens, reserved=False, ceiling_pusd=None) is None
    assert paid_output(whole, tokens, reserved=True, ceiling_pusd=0) == 0
    assert paid_output(whole, 4_000, reserved=True, ceiling_pusd=None) < 16_000
    unpriced, *_ = found(None)
    assert paid_output(unpriced, tokens, reserved=True, ceiling_pusd=10**12) in {0, None}


def test_who_may_say_much_is_reserved_whole_first_and_capped_where_there_is_no_room():
    """Nothing is cut without need; what nine of ten answers stay under is the second choice."""
    candidate, model, asked = found(output_tokens_max=16_000)
    whole, capped = reservations(candidate, model, asked)
    assert (whole.output_tokens_cap, whole.reserved_pusd) == (0, worst(candidate, 16_000))
    assert capped.output_tokens_cap == candidate.wanted_tokens < 16_000
    assert capped.reserved_pusd == worst(candidate, candidate.wanted_tokens) < whole.reserved_pusd
    assert replace(capped, reserved_pusd=0, output_tokens_cap=0) == replace(candidate, reserved_pusd=0)


def test_who_can_say_little_is_not_capped():
    """Its limit is below what most answers need: there is nothing to cut."""
    candidate, model, asked = found(output_tokens_max=300)
    (only,) = reservations(replace(candidate, wanted_tokens=400), model, asked)
    assert (only.output_tokens_cap, only.reserved_pusd) == (0, worst(candidate, 300))


def test_the_window_bounds_what_its_model_does_not():
    """All of it: how much of it the input takes is an estimate, which may be too high."""
    text = "word " * 2_000
    candidate, model, asked = found(text=text, context_tokens=8_000)
    assert candidate.input_tokens > 1_500
    whole, capped = reservations(candidate, model, asked)
    assert (whole.output_tokens_cap, whole.reserved_pusd) == (0, worst(candidate, 8_000))
    assert capped.output_tokens_cap == candidate.wanted_tokens
    tight, model, asked = found(text=text, context_tokens=candidate.input_tokens + 300)
    _, capped = reservations(tight, model, asked)
    assert capped.output_tokens_cap == 300, "an engine refuses a cap beyond its window"


def test_the_tighter_of_window_and_limit_bounds():
    """Whichever it is."""
    candidate, model, asked = found(context_tokens=8_000, output_tokens_max=16_000)
    assert reservations(candidate, model, asked)[0].reserved_pusd == worst(candidate, 8_000)
    candidate, model, asked = found(context_tokens=16_000, output_tokens_max=8_000)
    assert reservations(candidate, model, asked)[0].reserved_pusd == worst(candidate, 8_000)


def test_where_nothing_bounds_an_answer_the_cap_does():
    """Neither window nor limit is in the registry."""
    candidate, model, asked = found(context_tokens=None)
    (only,) = reservations(candidate, model, asked)
    assert (only.output_tokens_cap, only.reserved_pusd) == (
        candidate.wanted_tokens,
        worst(candidate, candidate.wanted_tokens),
    )


def test_several_choices_cost_several_times_and_the_cap_is_of_each():
    """As vendors read it."""
    body = {"n": 3}
    candidate, model, asked = found(output_tokens_max=16_000, body=body, capabilities=frozenset({"n"}))
    whole, capped = reservations(candidate, model, asked)
    assert whole.reserved_pusd == worst(candidate, 48_000)
    assert capped.output_tokens_cap == candidate.wanted_tokens
    assert capped.reserved_pusd == worst(candidate, 3 * candidate.wanted_tokens)


@pytest.mark.parametrize(
    "change",
    [
        {"body": {"max_tokens": 50}},
        {"body": {"max_completion_tokens": 50}},
        {"listed": None},
        {"body": {"coe": {"max_cost_usd": 0.005}}},
    ],
    ids=["the caller's cap", "by its newer name", "no price", "a cost limit"],
)
def test_what_is_bounded_already_or_has_no_price_stays_as_it_is(change):
    """A caller's own cap is never widened."""
    candidate, model, asked = found(**change)
    assert reservations(candidate, model, asked) == (candidate,)


def test_a_reservation_is_a_bound():
    """Whatever the answer turns out to be: an input up to half as long again, and all the output that was allowed."""
    candidate, model, asked = found(output_tokens_max=4_000, text="word " * 500)
    for one in reservations(candidate, model, asked):
        most = one.output_tokens_cap or 4_000
        rates = candidate.quote.rates_for(candidate.input_tokens)
        cost = candidate.input_tokens * 3 // 2 * rates.input + most * rates.output
        assert one.reserved_pusd >= cost


def test_a_cap_of_the_callers_may_be_lowered_and_is_never_raised():
    """Many clients always send a large one."""
    candidate, model, asked = found(body={"max_tokens": 8_000})
    whole, capped = reservations(candidate, model, asked)
    assert whole == candidate
    assert capped.output_tokens_cap == candidate.wanted_tokens < 8_000
    assert capped.reserved_pusd == worst(candidate, candidate.wanted_tokens) < whole.reserved_pusd
    little, model, asked = found(body={"max_tokens": 20})
    assert reservations(little, model, asked) == (little,)
