"""A decision told: complete for the caller, without content for the journal, readable on a screen."""

from __future__ import annotations

import orjson
from scenery import a_catalog, a_chat, a_model, an_intent, decided

from service.domain.catalog import Provider
from service.routing.explain import RANKED_KEPT, record, screen

MODELS = [a_model(f"m{number:02}", (number + 1, number + 2), quality=0.9 - number / 100) for number in range(12)]
OFF = a_model("off", at=(Provider("q", "https://q.example", inactive_reason="set Q_KEY"),))
CATALOG = a_catalog(*MODELS, OFF, baseline="m11")
PROMPT = "confidential merger with Umbrella"
SURE = an_intent("coding", terms=(("confidential", 2.123456), ("Umbrella", -1.0)))


def test_the_stored_record_holds_no_content():
    """No term, no word of the prompt: it goes to the journal for ever."""
    told = record(decided(a_chat(PROMPT, user="u-1"), CATALOG, intent=SURE))
    text = orjson.dumps(told).decode()
    for word in ("confidential", "merger", "Umbrella", "u-1", "terms"):
        assert word not in text


def test_the_full_record_adds_the_evidence_and_everybody():
    """Terms with weights, every candidate, every rejected one with its own reason."""
    decision = decided(a_chat(PROMPT), CATALOG, intent=SURE)
    told, stored = record(decision, full=True), record(decision)
    assert told["intent"]["terms"] == [{"term": "confidential", "weight": 2.123}, {"term": "Umbrella", "weight": -1.0}]
    assert len(told["candidates"]) == 12
    assert len(stored["candidates"]) == RANKED_KEPT
    assert told["rejected"][0]["reason"] == "inactive: set Q_KEY"
    assert stored["rejected"] == {"inactive": ["q/off"]}
    assert len(told["intent"]["posterior"]) == 15
    assert len(stored["intent"]["posterior"]) == 5


def test_what_a_record_says():
    """Chosen, runner-up, margin, versions, limits: what a reader and a replay need."""
    decision = decided(a_chat("hi", coe={"max_cost_usd": 0.5}), CATALOG)
    told = record(decision)
    assert (told["chosen"], told["runner_up"]) == ("p/m00", "p/m01")
    assert told["versions"] == {"registry": "v1", "classifier": "test-1"}
    assert told["ceiling_usd"] == "0.5"
    assert told["degraded"] == []
    assert told["propensity"] == 1.0
    assert told["baseline"]["model"] == "m11"
    first = told["candidates"][0]
    assert first["price_version"] == "p/m00@2026-01-01"
    assert first["expected_cost_usd"].startswith("0.000")
    assert first["reason"]
    assert orjson.loads(orjson.dumps(told)) == told


def test_one_candidate_has_no_runner_up():
    """`None`, not itself."""
    assert record(decided(a_chat(), a_catalog(a_model("m"))))["runner_up"] is None


def test_the_screen_tells_the_same_in_words():
    """What was understood, who was chosen and why, what the baseline would cost, who could not serve."""
    text = screen(decided(a_chat(PROMPT), CATALOG, intent=SURE), 1_234)
    assert text.startswith("→ p/m00")
    for part in (
        "coding · language en · sure enough",
        "'confidential' +2.12",
        "about 1,234 input tokens",
        "balanced",
        "m11 would be expected at",
        "… and 4 more",
        "can't serve (1): inactive   q/off",
    ):
        assert part in text, text


def test_the_screen_of_an_unsure_and_of_an_unread_request():
    """Abstention and pinning are said in words."""
    unsure = an_intent("coding", abstained=True)
    assert "good at every plausible intent" in screen(decided(a_chat(), CATALOG, intent=unsure), 1)
    pinned = decided(a_chat(model="m01"), CATALOG, intent=an_intent(posterior={}))
    assert "the request names its model" in screen(pinned, 1)
    assert "unknown" in screen(decided(a_chat(), a_catalog(a_model("m", None))), 1)
