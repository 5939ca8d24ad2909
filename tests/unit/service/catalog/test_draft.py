"""One bad entry hides no other: the draft keeps what is good and reports each mistake at its place."""

from __future__ import annotations

from service.catalog.draft import draft
from service.catalog.positions import read
from service.catalog.problems import Problems


def drafted(text: str):
    """The draft of a text, and the problems it met."""
    problems = Problems("providers.yaml")
    document = read(text.encode(), problems)
    assert document is not None
    problems.locate_with(document)
    return draft(document, problems), problems


def test_good_entries_survive_bad_neighbours(example):
    """A provider with an unknown field is left out and named; the others and all models are there."""
    made, problems = drafted(example.replace("    region: cn\n    tags: [public-cloud]", "    regoin: cn", 1))
    assert problems
    assert "deepseek" not in made.providers
    assert {"bailian", "local"} <= set(made.providers)
    assert "deepseek" in made.names["providers"], "references to it must raise no second alarm"
    assert made.models


def test_an_untouched_text_is_drafted_whole(example):
    """The control."""
    made, problems = drafted(example)
    assert not problems
    assert set(made.providers) == {"deepseek", "bailian", "local"}


def test_a_file_that_is_no_mapping():
    """One problem that says what is expected."""
    made, problems = drafted("- a\n- b\n")
    assert problems
    assert not made.providers
