"""Learning answer lengths: shrinkage by hand, what is left out, and that planted lengths are found again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import a_model

from service.domain.lengths import AnswerLength
from service.routing.learning import PRIOR_ANSWERS, learn
from service.routing.lengths import OUTPUT_PRIORS, cell

MODELS = {
    "m": a_model("m", reasoning_tokens={"default": 100, "math": 4_000}),
    "n": a_model("n"),
}
CODING = OUTPUT_PRIORS["coding"]


def answer(visible=800, *, model="m", intent="coding", effort="default", hidden=0, last=0, **more):
    """One answer; 800 tokens is what coding is expected to take."""
    return AnswerLength(model, intent, effort, visible, hidden, last, **more)


def test_three_levels_by_hand():
    """Twenty answers of twice the prior: worth 20 for their cell, 10 for its intent, 6 2/3 for the model."""
    cells = learn([answer(1_600)] * 20, MODELS).lengths.cells
    assert PRIOR_ANSWERS == 20
    model = (20 * 1 + 20 / 3 * 2) / (20 + 20 / 3)
    intent = (20 * model + 10 * 2) / 30
    effort = (20 * intent + 20 * 2) / 40
    assert cells["m", None, None].visible == round(1_000 * model) == 1_250
    assert cells["m", "coding", None].visible == round(1_000 * intent) == 1_500
    assert cells["m", "coding", "default"].visible == round(1_000 * effort) == 1_750
    assert [one.n for one in cells.values()] == [20, 20, 20]


def test_one_kind_of_request_does_not_make_a_model_verbose():
    """Ten thousand one-word answers to questions are one kind of many: code is still expected to take some length."""
    short = [answer(11, intent="factual_qa")] * 10_000  # 0.05 of the prior
    lengths = learn(short, MODELS).lengths
    assert lengths.cells["m", "factual_qa", "default"].visible < 60
    assert 650 <= cell(lengths.of("m"), "coding", "default").visible <= 700


def test_kinds_agree_on_a_models_verbosity():
    """What is seen in every kind of request is seen of the model, however unevenly they come."""
    kinds = [one for one in OUTPUT_PRIORS if one not in ("coding", "unclassified")]
    twice = [
        answer(2 * OUTPUT_PRIORS[kind].expected(0), intent=kind)
        for number, kind in enumerate(kinds)
        for _ in range(100 + 300 * (number == 0))
    ]
    found = cell(learn(twice, MODELS).lengths.of("m"), "coding", "default")
    assert 1_800 <= found.visible < 2_000


def test_what_nobody_classified_says_nothing_of_verbosity():
    """Requests that name their model are of every kind: short ones say what is asked of it, not how it answers."""
    lengths = learn([answer(4, intent="unclassified")] * 1_000, MODELS).lengths
    assert cell(lengths.of("m"), "unclassified", "default").visible < 50
    assert cell(lengths.of("m"), "coding", "default") is None


def test_many_answers_outweigh_the_prior():
    """A thousand answers of half the length leave next to nothing of it."""
    found = learn([answer(400)] * 1_000, MODELS).lengths.cells["m", "coding", "default"]
    assert 500 <= found.visible <= 511


def test_a_models_verbosity_carries_over_to_what_it_was_never_asked():
    """Talkative about code is a little talkative about law; another model stays at the prior."""
    lengths = learn([answer(2_400)] * 40, MODELS).lengths
    verbose = cell(lengths.of("m"), "domain_expert", "default")
    assert (
        verbose.visible == 1_571
    )  # 40 answers are worth 13 1/3 of their intent, 8 of the model: (20 x 1 + 8 x 3) / 28
    assert lengths.of("n") is None


def test_efforts_are_apart_and_fall_back_on_each_other():
    """Hard thinking takes long, and an effort never seen is taken for the mean of those that were."""
    answers = [answer(800, effort="low", hidden=0)] * 60 + [answer(800, effort="high", hidden=6_000)] * 60
    lengths = learn(answers, MODELS).lengths
    low, high, other = (cell(lengths.of("m"), "coding", effort) for effort in ("low", "high", "medium"))
    assert low.reasoning < 700 < other.reasoning < 3_000
    assert high.reasoning > 4_900


def test_hidden_tokens_are_shrunk_toward_the_registry():
    """4,000 for maths, says the registry: 20 answers with none make a third, then two thirds of that disappear."""
    cells = learn([answer(600, intent="math", hidden=0)] * 20, MODELS).lengths.cells
    assert [cells["m", "math", effort].reasoning for effort in (None, "default")] == [2_667, 1_333]
    assert learn([answer(hidden=5)], MODELS).lengths.cells["m", None, None].reasoning is None


@pytest.mark.parametrize("total", [600, 4_600, 18_400])
def test_tokens_told_together_are_paid_once(total):
    """A file of outcomes counts what was said and thought in one number: expected is that number, not that and more."""
    found = learn([answer(total, intent="math", hidden=None)] * 5_000, MODELS).lengths.cells["m", "math", "default"]
    visible = OUTPUT_PRIORS["math"].expected(0) * found.visible / 1_000
    assert abs(visible + found.reasoning - total) < 0.05 * total + 20
    plain = learn([answer(total, model="n", intent="math", hidden=None)] * 5_000, MODELS).lengths.cells[
        "n", "math", "default"
    ]
    assert plain.reasoning == 0


def test_the_high_figure_is_what_nine_of_ten_stay_under():
    """Of 100 answers ten are long: the ninetieth counts, in shares of the prior's own high figure."""
    answers = [answer(4_000)] * 90 + [answer(40_000)] * 10
    found = learn(answers, MODELS).lengths.cells["m", "coding", "default"].high
    assert found == 1_000
    assert learn([answer(4_000)] * 89 + [answer(40_000)] * 11, MODELS).lengths.cells["m", "coding", None].high > 5_000


def test_size_counts_where_answers_grow_with_it():
    """A translation of 1,000 tokens that took 1,130 is exactly as long as expected."""
    found = learn([answer(1_130, intent="translation", last=1_000)] * 30, MODELS).lengths
    assert found.cells["m", "translation", None].visible == 1_000


def test_choices_are_taken_one_by_one():
    """Four answers in one request are four times as long together."""
    found = learn([answer(3_200, choices=4, hidden=400)] * 30, MODELS).lengths
    assert found.cells["m", "coding", None].visible == 1_000
    assert found.cells["m", "coding", None].reasoning == 100


def test_an_answer_that_was_cut_does_not_teach_its_cap():
    """Sixteen tokens because of `max_tokens: 16`: left out. Cut, but longer than expected: it counts."""
    found = learn([answer(16, cut=True)] * 30 + [answer(1_600, cut=True)], MODELS)
    assert (found.answers, found.left_out) == (1, {"cut": 30})
    assert found.lengths.cells["m", "coding", None].visible > 1_000


def test_what_teaches_nothing_is_counted():
    """Models and intents that nobody knows, the unsure, and answers without text."""
    answers = [
        answer(model="gone"),
        answer(intent="unsure"),
        answer(0),
        answer(choices=0),
        answer(),
    ]
    found = learn(answers, MODELS)
    assert found.left_out == {"unknown_model": 1, "unknown_intent": 1, "empty": 2}
    assert found.answers == 1


def test_one_endless_answer_is_no_length():
    """A loop of a million tokens moves the mean as an answer of fifty times the prior does, and no more."""
    cells = learn([answer(1_000_000)], MODELS).lengths.cells
    n0 = PRIOR_ANSWERS
    weight = 1 / (1 + 2 / n0)
    assert cells["m", None, None].visible == round(1_000 * (n0 + weight * 50) / (n0 + weight))


@settings(max_examples=60, deadline=None)
@given(
    answers=st.lists(
        st.builds(
            answer,
            st.integers(1, 50_000),
            model=st.sampled_from(["m", "n"]),
            intent=st.sampled_from(["coding", "translation", "math"]),
            effort=st.sampled_from(["default", "high"]),
            hidden=st.none() | st.integers(0, 20_000),
            last=st.integers(0, 5_000),
            choices=st.integers(1, 4),
        ),
        max_size=40,
    ),
    seed=st.integers(0, 1_000),
)
def test_the_order_of_answers_does_not_matter(answers, seed):
    """Same answers, same table; and a cell is never outside of what it was made of and its parent."""
    shuffled = random.Random(seed).sample(answers, len(answers))
    assert learn(answers, MODELS).lengths.version == learn(shuffled, MODELS).lengths.version


def test_planted_lengths_are_found_again():
    """Heavy-tailed answers around planted means: 300 of them give the mean to a tenth."""
    draw = random.Random(5)
    planted = {("m", "coding"): 2.0, ("m", "math"): 0.5, ("n", "coding"): 0.8}
    answers = [
        answer(
            max(1, round(OUTPUT_PRIORS[intent].expected(0) * share * draw.expovariate(1.0))), model=model, intent=intent
        )
        for (model, intent), share in planted.items()
        for _ in range(300)
    ]
    cells = learn(answers, MODELS).lengths.cells
    for (model, intent), share in planted.items():
        assert abs(cells[model, intent, "default"].visible / 1_000 - share) < 0.15 * share
