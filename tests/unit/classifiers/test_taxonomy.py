"""The list of intents is one list, wherever it is written."""

from pathlib import Path

import yaml

import classifiers
from classifiers.taxonomy import COMPOUND, INDEX, INTENTS
from service.domain.decision import INTENTS as SERVICE_INTENTS


def test_the_service_and_the_classifier_agree():
    """Same names, same order: a posterior is read by position in some places."""
    assert INTENTS == SERVICE_INTENTS


def test_the_words_for_people_agree():
    """intents.yaml describes exactly these, each with a wish, a tier and a Chinese gloss."""
    listed = yaml.safe_load((Path(classifiers.__file__).parent / "intents.yaml").read_text(encoding="utf-8"))["intents"]
    assert tuple(entry["name"] for entry in listed) == INTENTS
    for entry in listed:
        assert set(entry) == {"name", "tier", "zh", "wants"}
        assert all(entry.values())


def test_index_inverts_the_order():
    """INDEX and INTENTS are inverse to each other."""
    assert [INTENTS[place] for place in INDEX.values()] == list(INDEX)


def test_compound_stands_last():
    """The steps of a compound request are judged by the intents before it."""
    assert INTENTS[-1] == COMPOUND
