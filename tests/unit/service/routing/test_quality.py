"""By what a model is judged: expectation when sure, the worst when not, every part, difficulty within bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import a_model, an_intent

from service.domain.decision import INTENTS, NOT_CLASSIFIED, Intent
from service.domain.experience import NOTHING, Experience
from service.routing.quality import (
    DIFFICULTY_LOGITS,
    INTENTS_KEPT,
    LIFT_MAX_STEPS,
    PARTS_MAX,
    TYPICAL_DIFFICULTY,
    Priors,
    Standards,
    judged,
    odds_of,
    plausible_intents,
    quality_of,
    standards,
)

CORPUS = Path(__file__).resolve().parents[4] / "classifiers" / "corpus"
FLAT = dict.fromkeys(INTENTS, 1 / len(INTENTS))
MODEL = a_model("m", quality={"default": 0.8, "coding": 0.4, "math": 0.3, "chitchat": 0.9})


def of(intent, model=MODEL, *, needs=frozenset(), known=NOTHING):
    """P(acceptable) in steps."""
    return judged(model, standards(intent, needs, unknown_ground=known.unknown_ground), known)


def sure(label="factual_qa", *, difficulty=None, parts=(), **posterior):
    """A classifier that commits itself, with this much for other intents."""
    rest = 1 - sum(posterior.values())
    whole = {name: posterior.get(name, rest if name == label else 0.0) for name in INTENTS}
    return Intent(label, whole[label], whole, "en", difficulty=difficulty, parts=parts)


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
    unsure = an_intent("chitchat", abstained=True, posterior=FLAT)
    assert {"coding", "math", "logic"} <= set(plausible_intents(unsure))
    assert of(unsure) == 3_000


def test_an_unread_request_goes_by_the_default():
    """A pinned model is not classified: its default prior counts."""
    assert plausible_intents(NOT_CLASSIFIED) == ("unclassified",)
    assert of(NOT_CLASSIFIED) == 8_000


def test_sure_means_the_expectation_over_what_is_likely():
    """0.7 a question and 0.3 code: neither the one nor the other; below 0.05 is noise."""
    assert of(sure()) == 8_000
    assert of(sure(coding=0.3)) == round(10_000 * (0.7 * 0.8 + 0.3 * 0.4))
    assert of(sure(coding=0.04)) == 8_000


def test_on_unknown_ground_the_worst_of_the_likely_counts():
    """The same posterior, and an artefact that has seen nothing like the text."""
    likely = sure(coding=0.3)
    assert of(likely, known=Experience(unknown_ground=True)) == 4_000
    assert standards(likely, unknown_ground=True).intents == ("factual_qa", "coding")


def test_a_compound_request_needs_every_part():
    """The worst of its parts bounds it, whatever it is on the whole; floors see all of them."""
    both = sure("compound", parts=("chitchat", "coding", "chitchat"))
    assert of(both) == 4_000
    assert standards(both).intents == ("compound", "chitchat", "coding")
    assert of(sure("compound", parts=("chitchat",))) == 8_000
    assert of(sure("compound")) == 8_000
    many = ("chitchat",) * PARTS_MAX + ("coding",)
    assert of(sure("compound", parts=many)) == 8_000


def test_parts_of_something_else_are_no_parts():
    """Only of a compound request, and only when the classifier is sure that it is one."""
    assert of(sure("factual_qa", parts=("coding",))) == 8_000
    unsure = an_intent("compound", 0.9, abstained=True, parts=("coding",))
    assert of(unsure) == 8_000


def test_tools_must_be_served_well_too():
    """Whatever the request is about."""
    clumsy = a_model("c", quality={"default": 0.9, "tool_use": 0.2})
    assert of(sure(), clumsy, needs=frozenset({"tools"})) == 2_000
    assert standards(sure("coding"), frozenset({"tools"})).intents == ("coding", "tool_use")


def test_an_artefacts_figure_stands_in_for_the_prior():
    """For models that it knows; parts and tools still bound it, and one that abstains is not asked."""
    known = Experience({"m": 9_500})
    assert of(sure(coding=0.3), known=known) == 9_500
    assert of(sure(), a_model("other", quality=0.7), known=known) == 7_000
    assert of(sure("compound", parts=("coding",)), known=known) == 4_000
    assert of(an_intent("factual_qa", abstained=True, posterior=FLAT), known=known) == 3_000


def test_harder_than_typical_costs_quality_by_hand():
    """One step harder is a quarter logit down; 0.8 becomes 0.757."""
    typical = TYPICAL_DIFFICULTY["factual_qa"]
    harder = 1 / (1 + math.exp(-(math.log(0.8 / 0.2) - DIFFICULTY_LOGITS)))
    assert of(sure(difficulty=typical + 1)) == round(10_000 * harder) == 7_570
    assert of(sure(difficulty=typical)) == 8_000


@settings(max_examples=300, deadline=None)
@given(
    prior=st.floats(0, 1),
    label=st.sampled_from(INTENTS),
    easy=st.floats(1, 5),
    hard=st.floats(1, 5),
)
def test_difficulty_is_monotone_and_lifts_within_its_bound(prior, label, easy, hard):
    """Harder is never better; and no request makes a model look better than its prior by more than the bound."""
    easy, hard = sorted((easy, hard))
    model = a_model("m", quality=prior)
    first, second = (of(sure(label, difficulty=value), model) for value in (easy, hard))
    assert first >= second
    own = of(sure(label), model)
    assert first <= own + LIFT_MAX_STEPS
    assert 0 <= second <= first <= 10_000


@settings(max_examples=300, deadline=None)
@given(
    worse=st.lists(st.floats(0, 1), min_size=15, max_size=15),
    more=st.lists(st.floats(0, 0.3), min_size=15, max_size=15),
    weights=st.lists(st.floats(0, 1), min_size=15, max_size=15),
    difficulty=st.none() | st.floats(1, 5),
    abstained=st.booleans(),
)
def test_better_at_everything_is_never_worse(worse, more, weights, difficulty, abstained):
    """Whatever the classifier said."""
    mass = sum(weights) or 1.0
    posterior = {name: weight / mass for name, weight in zip(INTENTS, weights, strict=True)}
    label = max(posterior, key=posterior.get)
    intent = Intent(label, posterior[label], posterior, "en", abstained=abstained, difficulty=difficulty)
    low = a_model("low", quality=dict(zip(INTENTS, worse, strict=True)))
    high = a_model("high", quality={name: min(1.0, p + d) for name, p, d in zip(INTENTS, worse, more, strict=True)})
    assert of(intent, high) >= of(intent, low)


@pytest.mark.parametrize("said", [None, math.nan, math.inf])
def test_a_difficulty_that_is_no_number_changes_nothing(said):
    """A fault wins nothing and loses nothing."""
    assert odds_of(sure(difficulty=said)) == 1.0
    assert of(sure(difficulty=said)) == 8_000


def test_difficulty_beyond_its_scale_is_its_end():
    """Whoever says 1,000 means 5."""
    assert odds_of(sure(difficulty=1_000.0)) == odds_of(sure(difficulty=5.0))


def test_nobody_judges_difficulty_of_what_is_unsure():
    """The safe default is safe enough."""
    unsure = an_intent("coding", abstained=True, posterior=FLAT, difficulty=5.0)
    assert standards(unsure) == Standards(plausible_intents(unsure))


def test_every_intent_has_a_typical_difficulty():
    """One without would never be moved."""
    assert set(TYPICAL_DIFFICULTY) == set(INTENTS)
    assert all(1 <= value <= 5 for value in TYPICAL_DIFFICULTY.values())


def test_typical_difficulty_is_that_of_the_corpus():
    """A corpus that has grown since would leave every request of an intent a little too hard, or too easy."""
    seen: dict[str, list[float]] = {name: [] for name in INTENTS}
    for path in sorted(CORPUS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("intent") in seen and row.get("difficulty") is not None:
                seen[row["intent"]].append(row["difficulty"])
    off = {name: fmean(values) - TYPICAL_DIFFICULTY[name] for name, values in seen.items()}
    assert all(abs(one) < 0.06 for one in off.values()), off


def test_the_order_of_a_posterior_does_not_matter():
    """It may have been read from a record."""
    posterior = {"factual_qa": 0.61, "coding": 0.17, "math": 0.13, "chitchat": 0.09}
    intents = [
        Intent("factual_qa", 0.61, given_order, "en") for given_order in (posterior, dict(reversed(posterior.items())))
    ]
    assert standards(intents[0]) == standards(intents[1])


def test_the_worst_prior_counts():
    """Over the intents that must be served."""
    assert quality_of(MODEL, ("chitchat", "math")) == 3_000
    assert quality_of(MODEL, ("nothing we know",)) == 8_000
    assert quality_of(a_model("silent", quality={}), ("math",)) == 5_000


@settings(max_examples=300)
@given(
    priors=st.lists(
        st.dictionaries(st.sampled_from([*INTENTS, "default"]), st.sampled_from([0, 1, 0.5, 0.985]) | st.floats(0, 1)),
        min_size=1,
        max_size=6,
    ),
    posterior=st.dictionaries(st.sampled_from(INTENTS), st.floats(0, 1)),
    label=st.sampled_from(INTENTS),
    difficulty=st.none() | st.floats(0, 6),
    abstained=st.booleans(),
    tools=st.booleans(),
    learned=st.dictionaries(st.sampled_from(["m0", "m3"]), st.integers(0, 10_000)),
)
def test_the_priors_of_several_models_are_judged_as_of_each(
    priors, posterior, label, difficulty, abstained, tools, learned
):
    """The same steps, whatever is known: the ends of the scale, odds on both sides of 1, bounds, an artefact."""
    models = [a_model(f"m{number}", quality=one) for number, one in enumerate(priors)]
    intent = Intent(label, 0.5, posterior, "en", abstained=abstained, difficulty=difficulty, parts=("math", "coding"))
    by, known = standards(intent, frozenset({"tools"} if tools else ())), Experience(learned)
    assert list(Priors(models).judged(by, known)) == [judged(model, by, known) for model in models]


def test_priors_that_are_no_shares_are_judged_one_by_one():
    """No registry has them; they are still worth what they are worth alone."""
    models = [a_model("m", quality=one) for one in (math.nan, 1.5, -0.5)]
    for intent in (an_intent("coding", difficulty=4.0), an_intent(abstained=True), sure(coding=0.3)):
        by = standards(intent)
        assert list(Priors(models).judged(by, NOTHING)) == [judged(model, by, NOTHING) for model in models]


def test_priors_are_kept_for_so_many_intents():
    """A record that somebody changed may name any."""
    priors = Priors([MODEL])
    for number in range(500):
        priors.steps(f"intent {number}")
    assert max(len(priors._steps), len(priors._by_intent)) <= INTENTS_KEPT
