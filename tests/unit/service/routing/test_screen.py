"""A decision in a screenful of text: it says what the record says, and never grows over it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from classifiers.scorer import DOUBTS
from service.domain.catalog import PolicySpec, Provider
from service.domain.decision import NOT_CLASSIFIED
from service.routing.screen import SCREEN_LINES, screen

MODELS = [a_model(f"m{number:02}", (number + 1, number + 2), quality=0.9 - number / 100) for number in range(12)]
OFF = a_model("off", at=(Provider("q", "https://q.example", inactive_reason="set Q_KEY"),))
CATALOG = a_catalog(*MODELS, OFF, baseline="m11")
SURE = an_intent("coding", terms=(("confidential", 2.123456), ("Umbrella", -1.0)))


def test_the_screen_tells_the_same_in_words():
    """What was understood, who was chosen and why, what the baseline would cost, who could not serve."""
    text = screen(decided(a_chat("x" * 4_000), CATALOG, intent=replace(SURE, difficulty=2.5, flags=("code",))))
    assert text.startswith("→ p/m00   expected 0.")
    for part in (
        " = input 0.00100700 + output ",
        "coding · language en · difficulty 2.5 of 5 · sure enough",
        "'confidential' +2.12",
        "noted     flags code",
        "about 1,007 input tokens",
        "balanced",
        "m11 would be expected at",
        "p/m01 (runner-up) would win if it cost ≤ 0.",
        "(now 0.",
        "p/m11 (baseline) would win if",
        "policies  with cheap, best: p/m00",
        "… and 6 more",
        "can't serve (1): inactive   q/off",
    ):
        assert part in text, text


def test_the_screen_of_an_unsure_and_of_an_unread_request():
    """Abstention and pinning are said in words."""
    unsure = an_intent("coding", posterior={"coding": 0.5, "math": 0.4, "logic": 0.1}, abstained=True)
    text = screen(decided(a_chat(), CATALOG, intent=unsure))
    assert "unsure, so the model must be good at every plausible intent" in text
    assert "judged by coding, math" in text
    pinned = screen(decided(a_chat(model="m01"), CATALOG, intent=NOT_CLASSIFIED))
    assert "the request names its model" in pinned
    assert "policies" not in pinned
    assert "expected unknown" in screen(decided(a_chat(), a_catalog(a_model("m", None))))


@pytest.mark.parametrize("doubt", DOUBTS)
def test_why_it_is_unsure_is_said(doubt):
    """In words for each reason that the classifier has, not in its name for it."""
    text = screen(decided(a_chat(), CATALOG, intent=replace(SURE, abstained=True, doubt=doubt)))
    assert "unsure (" in text
    assert doubt not in text


def test_a_baseline_that_can_not_serve_is_said():
    """With its reason, and with what would let it win where a limit is all that is against it."""
    catalog = a_catalog(a_model("m", (1, 1)), a_model("best", (90, 90), quality=0.99), baseline="best")
    assert "p/best (baseline) can't serve: deny" in screen(decided(a_chat(coe={"deny": ["best"]}), catalog))
    dear = replace(catalog, policies={"balanced": PolicySpec("balanced", "max_quality")})
    text = screen(decided(a_chat(coe={"max_cost_usd": 0.01}), dear))
    assert "p/best (baseline) would win if max_cost_usd were ≥ " in text
    assert "(now 0.01000000 USD)" in text


@pytest.mark.parametrize("kinds", [0, 3, 9])
def test_it_is_a_screenful(kinds):
    """Whatever there is to say: notes, parts, kinds of rejection, levers."""
    others = [
        a_model("vision", modalities=frozenset({"image"})),
        a_model("deaf", languages=frozenset({"zh"})),
        a_model("short", context_tokens=5),
        a_model("gone", retires=NOW.date()),
        a_model("dear", (900, 900)),
        a_model("unpriced", None),
        a_model("denied"),
        a_model("poor", quality=0.1),
        OFF,
    ][:kinds]
    intent = replace(SURE, abstained=True, flags=("code",), parts=("coding", "math"), difficulty=3.0)
    chat = a_chat(coe={"deny": ["denied"], "max_cost_usd": 0.05, "min_quality": 0.2} if kinds == 9 else {})
    decision = decided(chat, a_catalog(*MODELS, *others, baseline="m11"), intent=intent)
    text = screen(replace(decision, notes=tuple(f"note {number}" for number in range(9))))
    assert text.count("\n") + 1 <= SCREEN_LINES, text
    assert "would win if" in text
    if kinds == 9:
        assert "for other reasons" in text
