"""Callers and their limits."""

from __future__ import annotations

import pytest

from service.domain.access import ANONYMOUS, Caller
from service.domain.limits import NO_LIMITS, Budget, Limits


def test_a_key_without_limits_may_use_everything():
    """Empty sets are no limit."""
    caller = Caller("key_1", "alice")
    assert caller.may_use("gpt-6")
    assert caller.may_follow("best")
    assert not caller.anonymous


def test_limits_are_matched_exactly():
    """Neither case, nor a prefix, nor a provider in front, nor a selector gets around a limit."""
    caller = Caller("key_1", "alice", models=frozenset({"gpt-6"}), policies=frozenset({"cheap"}))
    assert caller.may_use("gpt-6")
    for other in ("GPT-6", "gpt-6-mini", "gpt", "openai/gpt-6", "auto", "", "gpt-6 "):
        assert not caller.may_use(other)
    assert caller.may_follow("cheap")
    assert not caller.may_follow("best")


def test_the_limits_are_independent():
    """A limit on models says nothing about policies, and the other way round."""
    assert Caller("k", "n", models=frozenset({"a"})).may_follow("best")
    assert Caller("k", "n", policies=frozenset({"cheap"})).may_use("b")


def test_the_anonymous_caller_has_no_key_and_can_not_be_changed():
    """`ANONYMOUS` is one shared value, so it must be frozen."""
    assert ANONYMOUS.key_id is None
    assert ANONYMOUS.anonymous
    with pytest.raises(AttributeError):
        ANONYMOUS.key_id = "key_1"  # type: ignore[misc]  # the assignment is the test


def test_a_key_without_limits_has_none():
    """Anybody may spend, unless the key says otherwise."""
    assert Caller("key_1", "alice").limits == ANONYMOUS.limits == NO_LIMITS


HARD, SOFT = Limits(day_pusd=5), Limits(day_pusd=5, soft=True)


@pytest.mark.parametrize(
    ("limits", "budgets", "said", "budgeted"),
    [
        (NO_LIMITS, (), (), False),
        (HARD, (), (), True),
        (Limits(month_pusd=0), (), (), True),
        (SOFT, (), (), False),
        (Limits(requests_per_minute=1, concurrency=1), (), (), False),
        (NO_LIMITS, (Budget("all", HARD),), (), True),
        (NO_LIMITS, (Budget("all", SOFT), Budget("all-rates", Limits(tokens_per_minute=1))), (), False),
        (NO_LIMITS, (Budget("hr", HARD, tag="hr"),), (), True),
        (NO_LIMITS, (Budget("lab", HARD, tag="lab"),), (), False),
        (NO_LIMITS, (Budget("lab", HARD, tag="lab"),), ("x", "lab"), True),
        (SOFT, (Budget("hr", SOFT, tag="hr"), Budget("lab", HARD, tag="lab")), ("lab",), True),
    ],
)
def test_a_hard_budget_of_the_key_or_of_the_registry_is_one(limits, budgets, said, budgeted):
    """Of the tags of the key and of those that the request says; soft ones and rates are none."""
    assert Caller("key_1", "alice", tags=frozenset({"hr"}), limits=limits).budgeted(budgets, said) is budgeted
