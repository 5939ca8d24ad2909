"""A share of requests left to a draw: who may be drawn, how often, by which number, and when nothing is drawn at all."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import orjson
import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import PolicySpec, RouteCondition, RouteSpec
from service.domain.decision import ReasonCode
from service.domain.features import features_of
from service.domain.what_if import WhatIf
from service.routing.explain import record
from service.routing.exploring import AMONG_MOST, DRAWS, moved
from service.routing.replay import NotReplayable, differences, replay
from service.routing.router import DRAWN, decide
from service.routing.weighing import Circumstances

CENT = 10**10
OWN = PolicySpec("balanced", min_quality=0.8, max_cost_pusd=CENT, explore=0.1)
CATALOG = a_catalog(
    a_model("a", (1, 2), quality=0.85, at=("p", "q")),
    a_model("b", (2, 4), quality=0.9),
    a_model("c", (3, 6), quality=0.95),
    a_model("poor", (0.1, 0.1), quality=0.5),
    a_model("dear", (900, 9_000), quality=0.99),
    a_model("unknown", None, quality=0.99),
    policies={"balanced": OWN, "plain": PolicySpec("plain", min_quality=0.8)},
)
"""Three that are good enough and within the ceiling; a fourth is poor, a fifth too dear, nobody knows the price of the sixth."""


def decided(draw, catalog=CATALOG, caller=ANONYMOUS, **body):
    """A decision with a number."""
    around = Circumstances("dec_1", NOW, caller, draw=draw)
    return decide(features_of(a_chat(**body)), an_intent(), catalog, around)


def chosen(draw, catalog=CATALOG, **body):
    """Whom it chooses."""
    return decided(draw, catalog, **body).chosen.deployment.id


def test_off_by_default():
    """No policy draws that does not say so, whatever number there is."""
    found = decided(0, model="auto:plain")
    assert (found.draw, found.propensity, found.reason_code) == (None, 1.0, ReasonCode.CHEAPEST_CAPABLE)
    assert "draw" not in record(found)
    assert PolicySpec("x").explore == 0


def test_shares():
    """The policy's own with the rest, the others evenly, one host of each model; nobody else ever."""
    numbers, found = random.Random(7), Counter()
    told = {}
    for _ in range(20_000):
        decision = decided(numbers.randrange(DRAWS))
        found[decision.chosen.deployment.id] += 1
        told[decision.chosen.deployment.id] = decision.propensity
    assert told == pytest.approx({"p/a": 0.9, "p/b": 0.05, "p/c": 0.05})
    for name, share in told.items():
        assert found[name] / 20_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)


def test_ceilings_hold():
    """Whoever may cost more is never drawn; under a higher one it is."""
    wide = replace(CATALOG, policies={"balanced": replace(OWN, max_cost_pusd=10**15)})
    assert decided(0).draw.among == ("p/a", "p/b", "p/c")
    assert decided(0, wide).draw.among == ("p/a", "p/b", "p/c", "p/dear")
    assert decided(0, wide, coe={"max_cost_usd": 0.01}).draw.among == ("p/a", "p/b", "p/c")


def test_the_number_decides():
    """Its ends, to the last one; no number, no draw."""
    bound = round(0.1 * DRAWS)
    numbers = (0, bound // 2 - 1, bound // 2 + 1, bound - 1, bound, DRAWS - 1)
    assert [chosen(one) for one in numbers] == ["p/b", "p/b", "p/c", "p/c", "p/a", "p/a"]
    assert (chosen(None), decided(None).draw) == ("p/a", None)


def test_what_is_told():
    """Who was drawn and among whom; the others keep their reasons, and the policy's choice comes next."""
    found = decided(0)
    assert (found.reason_code, found.margin, found.what_if()) == (ReasonCode.EXPLORED, DRAWN, WhatIf())
    assert [one.deployment.id for one in found.ranked] == ["p/b", "p/a", "q/a", "p/c", "p/poor"]
    assert found.chosen.reason.startswith(
        "drawn to learn from; by the policy p/a comes first: costs 2.00 times as much"
    )
    assert found.ranked[1].reason.startswith("cheapest of 4")
    assert found.ranked[4].below == "quality 0.50 is under the floor 0.80"
    told = record(found)
    assert told["draw"] == {"share": 0.1, "among": ["p/a", "p/b", "p/c"]}
    assert (told["seed"], told["propensity"], told["chosen"], told["runner_up"]) == (0, 0.05, "p/b", "p/a")
    own = decided(DRAWS - 1)
    assert (own.reason_code, own.propensity) == (ReasonCode.CHEAPEST_CAPABLE, 0.9)
    assert own.ranked == decided(None).ranked


def test_it_replays_bit_for_bit():
    """From the record alone; with another number the difference shows."""
    for number in (0, 1, round(0.1 * DRAWS) - 1, DRAWS - 1):
        told = orjson.loads(orjson.dumps(record(decided(number))))
        assert differences(told, replay(told, CATALOG)) == ()
    told = orjson.loads(orjson.dumps(record(decided(0))))
    assert {"chosen", "propensity"} <= set(differences(told, replay({**told, "seed": DRAWS - 1}, CATALOG)))
    for wrong in (-1, DRAWS, 0.5, "1", True):
        with pytest.raises(NotReplayable, match="damaged"):
            replay({**told, "seed": wrong}, CATALOG)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "a"},
        {"model": "p/a"},
        {"model": "a", "coe": {"policy": "balanced"}},
        {
            "messages": [
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": "and now?"},
            ]
        },
        {"coe": {"allow": ["a"]}},
    ],
)
def test_when_nothing_is_drawn(body):
    """A named model, a conversation that goes on, nobody else within the caller's own limits."""
    found = decided(0, **body)
    assert (found.draw, found.chosen.deployment.model) == (None, "a")


def test_tool_loops_and_floors_that_nobody_reaches():
    """They are no place for trying."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    loop = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    able = replace(
        CATALOG, models={name: replace(one, capabilities=frozenset({"tools"})) for name, one in CATALOG.models.items()}
    )
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert decided(0, able, messages=loop, tools=tools).draw is None
    high = replace(CATALOG, policies={"balanced": replace(OWN, min_quality=0.98)})
    found = decided(0, high)
    assert (found.reason_code, found.draw) == (ReasonCode.FLOOR_UNREACHABLE, None)


def test_a_binding_route_may_forbid_it():
    """The smaller share counts."""
    route = RouteSpec("strict", RouteCondition(key_tags=frozenset({"hr"})), policy="plain")
    catalog = replace(CATALOG, routes=(route,))
    hr = Caller("key_1", "hr", tags=frozenset({"hr"}))
    assert decided(0, catalog, model="auto:balanced").draw is not None
    assert decided(0, catalog, caller=hr, model="auto:balanced").draw is None


def test_at_most_a_few_are_drawn_among():
    """The first in the policy's order."""
    many = a_catalog(*[a_model(f"m{place:02}", (1 + place, 2)) for place in range(20)], policies={"balanced": OWN})
    found = decided(0, many)
    assert found.draw is not None
    assert found.draw.among == tuple(f"p/m{place:02}" for place in range(AMONG_MOST))
    assert chosen(round(0.1 * DRAWS) - 1, many) == f"p/m{AMONG_MOST - 1:02}"


def test_in_columns_it_is_the_same():
    """A long list is ranked otherwise and drawn from alike."""
    many = a_catalog(*[a_model(f"m{place:02}", (1 + place, 2)) for place in range(60)], policies={"balanced": OWN})
    told = orjson.loads(orjson.dumps(record(decided(0, many))))
    assert told["chosen"] == "p/m01"
    assert differences(told, replay(told, many)) == ()


def test_a_share_without_a_ceiling_is_refused():
    """In code; the file says it with its place."""
    with pytest.raises(ValueError, match="explore needs max_cost_pusd"):
        PolicySpec("x", explore=0.1)


def test_putting_one_in_front():
    """Nobody is lost."""
    assert [moved(rank, 2) for rank in range(5)] == [2, 0, 1, 3, 4]
    assert [moved(rank, 0) for rank in range(3)] == [0, 1, 2]
