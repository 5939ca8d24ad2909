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


def test_alternatives_are_for_wire_names_only(example, load_text, wrong):
    """`a|b` narrows a quirk to models; a quirk whose value is a field's name takes one."""
    narrowed = load_text(example.replace("max_tokens]", "no_sampling:deepseek-v4|deepseek-r1]", 1))
    assert narrowed.providers["deepseek"].quirks["no_sampling"] == "deepseek-v4|deepseek-r1"
    (problem,) = wrong(example.replace("prompt_cache_hit_tokens", "cached_tokens|prompt_cache_hit_tokens", 1))
    assert problem.startswith("providers.yaml:14:14: several values for the quirk 'cached_tokens'")


@pytest.mark.parametrize("value", ["", ":", ":0", ":soon", ":-5", ":1.5", ":604801"])
def test_a_time_to_live_is_a_number_of_seconds(example, load_text, wrong, value):
    """Up to a week; anything else would silently be the default."""
    good = load_text(example.replace("max_tokens]", "max_tokens, cache_ttl_s:604800]", 1))
    assert good.providers["deepseek"].quirks["cache_ttl_s"] == "604800"
    (problem,) = wrong(example.replace("max_tokens]", f'max_tokens, "cache_ttl_s{value}"]', 1))
    assert "'cache_ttl_s' wants a whole number" in problem or "quirk" in problem


@pytest.mark.parametrize("value", ["|", "a|", "|a", "a||b"])
def test_no_beginning_may_be_empty(example, wrong, value):
    """Every name begins with nothing: an empty alternative would concern the whole provider."""
    (problem,) = wrong(example.replace("max_tokens]", f"'no_sampling:{value}']", 1))
    assert problem.startswith("providers.yaml:14:53: not a quirk")


def test_the_unchanged_example_has_no_problem(example, load_text):
    """The control: what the cases above change is what they are reported for."""
    assert load_text(example).baseline == "deepseek-flash"


def test_exploring_needs_a_ceiling(example, load_text, wrong):
    """A draw must not go to just anybody; nor may it be most of the traffic."""
    policy = "  private: {objective: min_cost, "
    good = load_text(example.replace(policy, policy + "explore: 0.02, max_cost_usd: 0.05, "))
    assert good.policies["private"].explore == 0.02
    (problem,) = wrong(example.replace(policy, policy + "explore: 0.02, "))
    assert "explore needs max_cost_usd: the most that one request may cost" in problem
    (problem,) = wrong(example.replace(policy, policy + "explore: 0.3, max_cost_usd: 0.05, "))
    assert "0.2" in problem
    assert load_text(example.replace(policy, policy + "explore: 0, ")).policies["private"].explore == 0
