"""Routes that can never be reached, and ties."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.catalog.draft import Located
from service.catalog.problems import Problems
from service.catalog.route_order import check_order
from service.catalog.schema import RouteEntry
from service.domain.catalog import Catalog
from service.errors import RegistryError

Wrong = Callable[..., list[str]]
LoadText = Callable[..., Catalog]


def registry(*routes: str) -> str:
    """A registry that is nothing but routes, the first on line 3."""
    return "version: 1\nroutes:\n" + "".join(f"  - {{{route}, policy: cheap}}\n" for route in routes)


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        (
            ("name: a, when: {intent: math}", "name: b, when: {intent: math}"),
            "4:5: route 'b' ties with 'a' on line 3: keep one of them",
        ),
        (
            ("name: a, when: {intent: [math, logic]}", "name: b, when: {intent: [logic, math]}"),
            "4:5: route 'b' ties with 'a' on line 3: keep one of them",
        ),
        (
            ("name: a", "name: b, when: {intent: math}"),
            "4:5: route 'b' is never reached: 'a' on line 3 takes all of it; move it up",
        ),
        (("name: a", "name: b"), "4:5: route 'b' ties with 'a' on line 3: keep one of them"),
        (
            ("name: a, when: {intent: [math, logic]}", "name: b, when: {intent: math, languages: zh}"),
            "4:5: route 'b' is never reached: 'a' on line 3 takes all of it; move it up",
        ),
        (
            (
                "name: a, when: {intent: math}",
                "name: b, when: {intent: logic}",
                "name: c, when: {intent: [math, logic], key_tag: x}",
            ),
            "5:5: route 'c' is never reached: the routes above take all of it; move it up or remove it",
        ),
    ],
)
def test_what_is_never_reached(wrong: Wrong, routes: tuple[str, ...], problem: str) -> None:
    """A tie, a shadow, a catch-all in the middle, a union of earlier routes."""
    assert wrong(registry(*routes)) == [f"providers.yaml:{problem}"]


@pytest.mark.parametrize(
    "routes",
    [
        ("name: a, when: {intent: math}", "name: b, when: {intent: logic}", "name: c"),
        ("name: a, when: {intent: math, languages: zh}", "name: b, when: {intent: math}"),
        ("name: a, when: {intent: math}", "name: b, when: {intent: [math, logic]}"),
        ("name: a, when: {key_tag: x}", "name: b, when: {intent: math}"),
        ("name: a, when: {languages: [zh, en]}", "name: b, when: {intent: math}"),
    ],
)
def test_what_can_be_reached(load_text: LoadText, routes: tuple[str, ...]) -> None:
    """Narrow before wide, and routes that merely overlap, are fine."""
    assert len(load_text(registry(*routes)).routes) == len(routes)


INTENTS = ("math", "logic", "coding")
LANGUAGES = ("zh", "en", "fr")
VALUES = {"intent": INTENTS[:2], "languages": LANGUAGES[:2]}
CONDITION = st.fixed_dictionaries(
    {},
    optional={
        field: st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)
        for field, values in VALUES.items()
    },
)


def holds(condition: dict[str, list[str]], intent: str, language: str) -> bool:
    """Whether a condition holds for a request, straight from its meaning."""
    return intent in condition.get("intent", INTENTS) and language in condition.get("languages", LANGUAGES)


@settings(max_examples=300, deadline=None)
@given(st.lists(CONDITION, min_size=1, max_size=5))
def test_reached_exactly_when_some_request_reaches_it(conditions: list[dict[str, list[str]]]) -> None:
    """Against the plain definition: try every request; a value that no condition names stands for all others."""
    expected = [
        index
        for index, condition in enumerate(conditions)
        if not any(
            holds(condition, *request) and not any(holds(earlier, *request) for earlier in conditions[:index])
            for request in product(INTENTS, LANGUAGES)
        )
    ]
    problems = Problems("f")
    routes = [
        Located(
            ("routes", index), RouteEntry.model_validate({"name": f"r{index}", "when": condition, "plan": "single"})
        )
        for index, condition in enumerate(conditions)
    ]
    check_order(routes, problems)
    found: list[int] = []
    if problems:
        with pytest.raises(RegistryError) as caught:
            problems.fail()
        found = [int(line.split("route 'r", 1)[1].split("'")[0]) for line in caught.value.problems]
    assert sorted(found) == expected
