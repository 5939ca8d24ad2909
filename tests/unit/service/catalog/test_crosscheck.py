"""Names across entries: each reference that means nothing is one problem at its own place, with the nearest name."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("baseline: deepseek-flash", "baseline: deepseek-flsh"), ("deepseek-flsh", "deepseek-flash")),
        (("default_policy: balanced", "default_policy: balancd"), ("balancd", "balanced")),
        (("- provider: deepseek\n", "- provider: deepsek\n"), ("deepsek", "deepseek")),
    ],
    ids=["baseline", "policy", "provider"],
)
def test_a_name_that_means_nothing(example, wrong, change, words):
    """Reported once, with what was probably meant."""
    assert change[0] in example
    problems = wrong(example.replace(*change, 1))
    assert len(problems) == 1, problems
    assert all(word in problems[0] for word in words)


def test_unknown_quirks_are_known_to_the_caller_only(example, load_text, wrong):
    """Without a table any quirk loads; with one, a name that is not in it is an error with a suggestion."""
    load_text(example, known_quirks=None)
    problems = wrong(example, known_quirks={"max_token": "almost", "cached_tokens": "yes"})
    assert len(problems) == 1
    assert "'max_tokens'" in problems[0]
    assert "max_token" in problems[0]


def test_the_unchanged_example_has_no_problem(example, load_text):
    """The control: what the cases above change is what they are reported for."""
    assert load_text(example).baseline == "deepseek-flash"
