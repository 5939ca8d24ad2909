"""The closed vocabularies agree with the tables that act on them."""

from __future__ import annotations

from service.catalog import words
from service.domain.decision import INTENTS
from service.routing.addressing import PLANS_AVAILABLE
from service.routing.policies import POLICIES
from service.upstream.protocols import PROTOCOLS


def test_a_file_can_name_exactly_the_objectives_there_are():
    """An objective that loads but has no policy would fail at the first request."""
    assert set(words.OBJECTIVES) == set(POLICIES)


def test_what_is_spoken_and_planned_can_be_written():
    """Every protocol and plan that runs has its word; there may be words for later."""
    assert set(PROTOCOLS) <= set(words.PROTOCOLS)
    assert set(words.PLANS) >= PLANS_AVAILABLE


def test_quality_may_be_given_for_every_intent():
    """And for the default."""
    assert set(words.QUALITY_KEYS) == {"default", *INTENTS}


def test_every_word_says_what_it_means():
    """Errors and the JSON schema show these."""
    for table in (words.PROTOCOLS, words.MODALITIES, words.CAPABILITIES, words.OBJECTIVES, words.PLANS):
        assert all(isinstance(text, str) and text for text in table.values())
