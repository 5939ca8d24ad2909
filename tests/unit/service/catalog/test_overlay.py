"""A file of policies over a registry: what it changes, what it leaves, and what is wrong with it, with its place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from service.catalog.load import load
from service.catalog.overlay import is_overlay, overlaid
from service.errors import RegistryError

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def over(tmp_path, example):
    """Lay a text over the example."""
    below = tmp_path / "providers.yaml"
    below.write_text(example)
    catalog = load(below, {}, now=NOW)

    def laid(text):
        file = tmp_path / "new.yaml"
        file.write_text(text)
        assert is_overlay(file)
        return catalog, overlaid(catalog, below, file, {}, now=NOW)

    return laid


def refused(over, text):
    """Every problem of a text."""
    with pytest.raises(RegistryError) as refusal:
        over(text)
    return [one.rpartition("new.yaml:")[2] for one in refusal.value.problems]


def test_policies_are_added_and_replaced(over):
    """By name; the rest of the registry stays as it is."""
    before, after = over("policies:\n  cheap: {min_quality: 0.1}\n  mine: {objective: max_quality}\n")
    assert after.policies["cheap"].min_quality == 0.1
    assert after.policies["mine"].objective == "max_quality"
    assert before.policies.keys() | {"mine"} == after.policies.keys()
    assert (after.models, after.providers, after.routes) == (before.models, before.providers, before.routes)
    assert after.default_policy == before.default_policy
    assert after.version != before.version
    assert after.offer != before.offer


def test_routes_replace_all_of_them(over):
    """They are a table; the first match wins."""
    before, after = over("routes:\n  - {name: zh, when: {languages: [zh]}, policy: cheap}\n")
    assert [one.name for one in after.routes] == ["zh"]
    assert before.routes != after.routes
    assert over("routes: []\n")[1].routes == ()
    assert over("version: 1\ndefault_policy: cheap\n")[1].default_policy == "cheap"


def test_the_same_again_is_the_same(over):
    """What says nothing else changes no policy: the offer differs in nothing but what is written."""
    before, after = over("default_policy: balanced\n")
    assert after.policies == before.policies
    assert after.offer == before.offer


def test_what_is_wrong_is_told_with_its_place(over):
    """Names that the registry does not have, fields that do not belong here, values that can't be."""
    assert refused(over, "policies:\n  x:\n    deny: {models: [nobody]}\n")[0].startswith(
        "3:21: unknown model 'nobody'"
    )
    assert refused(over, "default_policy: chep\n")[0].startswith("1:17: unknown policy 'chep'; did you mean 'cheap'?")
    assert "does not belong into a file of policies" in refused(over, "budgets: []\npolicies: {}\n")[0]
    assert refused(over, "policies:\n  x: {min_quality: 7}\n")[0].startswith("2:20:")
    assert refused(over, "routes:\n  - {name: r, policy: none}\n")[0].startswith("2:23: unknown policy 'none'")


def test_a_whole_registry_is_none(tmp_path, example):
    """It is read as one."""
    file = tmp_path / "whole.yaml"
    file.write_text(example)
    assert not is_overlay(file)
    with pytest.raises(RegistryError):
        is_overlay(tmp_path / "missing.yaml")
