"""Row by row and in columns come out as the functions for a single deployment say, to the last step and pico-USD."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, date, datetime, time

import numpy as np
import pytest
from scenery import NOW, a_chat, a_model, an_intent

from service.domain.access import ANONYMOUS
from service.domain.catalog import Model, Provider
from service.domain.chat import Sizes
from service.domain.decision import INTENTS, NOT_CLASSIFIED, QUALITY_STEPS, Intent
from service.domain.experience import NOTHING, Experience
from service.domain.features import features_of
from service.domain.money import Fx, Multiplier, Rates, Tier
from service.domain.prices import PriceBook, PriceVersion, Window
from service.routing import entrants
from service.routing.capable import demands_of, too_large
from service.routing.entrants import Measure
from service.routing.estimate import (
    answer_of,
    candidate,
    forecast,
    over_ceiling,
    unaccountable,
    wanted_of,
    worst_cost,
)
from service.routing.lengths import Length, Lengths
from service.routing.policies.wording import shown
from service.routing.quality import judged
from service.routing.shortlist import Shortlist

HALF = Window(UTC, ((time(0), time(23)),), frozenset(range(1, 8)), Multiplier(1, 2))
SEVENTHS = Window(UTC, ((time(0), time(23)),), frozenset(range(1, 8)), Multiplier(3, 7))
HOSTS = tuple(
    Provider(f"h{number}", f"https://h{number}.example/v1", quirks=quirks)
    for number, quirks in enumerate(({}, {"cache_marked": ""}, {"cache_write_marked": ""}))
)
FX = {"CNY": Fx("CNY", 140_600_000, date(2026, 11, 21)), "EUR": Fx("EUR", 1_080_100_000)}
LENGTHS = Lengths(
    {
        ("m0", None, None): Length(500, 700, 300, 900, 40),
        ("m0", "coding", None): Length(1_500, 1_700, 800, 2_000, 30),
        ("m2", "coding", "high"): Length(2_500, 2_700, None, None, 21),
        ("m3", "math", None): Length(333, 777, 0, 0, 5),
        ("m1", None, None): Length(50_000, 1, None, None, 9),
    }
)


def a_book(draw, *, huge):
    """A price of any kind; where it may be `huge`, also one that no column holds."""

    def rates():
        fresh = draw.choice([0, 1, draw.randrange(60_000_000)])
        return Rates(
            fresh,
            draw.randrange(90_000_000) if not huge else 2**61,
            cache_read=draw.choice([None, fresh // 10]),
            cache_write_5m=draw.choice([None, fresh // 2, fresh * 5 // 4]),
            cache_write_1h=draw.choice([None, fresh * 2]),
            reasoning=draw.choice([None, draw.randrange(200_000_000)]),
            requests=draw.choice([0, 0, 5_000_000_001, None]),
        )

    bounds = sorted(draw.sample([20, 300, 1_000, 1_023, 1_500, 9_000], draw.randint(0, 2)))
    version = PriceVersion(
        datetime(2026, 1, 1, tzinfo=UTC),
        rates(),
        draw.choice(["USD", "USD", "CNY", "EUR", "SEK"]),
        tuple(Tier(bound, replace(rates(), **draw.choice([{}, {}, {}, {"output": None}]))) for bound in bounds),
        draw.choice([(), (), (HALF,), (SEVENTHS,)]),
        draw.choice([{}, {"priority": Multiplier(2), "flex": Multiplier(1, 2)}]),
    )
    return PriceBook("b", (version,), FX)


def some_models(draw, count, *, huge=False):
    """Models with priors of every kind, the ends of the scale among them."""
    models = []
    for number in range(count):
        names = draw.sample(("default", *INTENTS), draw.choice([0, 1, 3, 9]))
        model = a_model(
            f"m{number}",
            at=tuple(draw.sample(HOSTS, draw.randint(1, 3))),
            quality={one: draw.choice([0, 1, 0.0, 1.0, 0.5, draw.random(), round(draw.random(), 2)]) for one in names},
            context_tokens=draw.choice([None, 400, 3_000, 100_000]),
            output_tokens_max=draw.choice([None, 200, 4_096]),
            reasoning_tokens=draw.choice([{}, {}, {"default": draw.randrange(3_000), "coding": 7}]),
        )
        hosts = [replace(one, prices=a_book(draw, huge=huge and draw.random() < 0.1)) for one in model.deployments]
        models.append(replace(model, deployments=tuple(hosts)))
    return models


def a_reading(draw):
    """Any reading of a classifier: shares that sum to 1 or not, any difficulty, parts."""
    label = draw.choice(INTENTS)
    masses = {name: draw.random() ** draw.choice([1, 9]) for name in INTENTS}
    posterior = draw.choice(
        [masses, {label: 1.0}, {name: mass / sum(masses.values()) for name, mass in masses.items()}]
    )
    return Intent(
        label,
        0.5,
        posterior,
        "en",
        abstained=draw.random() < 0.3,
        difficulty=draw.choice([None, draw.uniform(0, 6), math.inf]),
        parts=tuple(draw.sample(INTENTS, draw.randint(0, 3))),
    )


def a_measure(draw, models):
    """A request of any size, with limits or without, and what is known beside it."""
    body = {"text": "word " * draw.choice([1, 30, 400, 900, 3_500])}
    if draw.random() < 0.3:
        body["max_tokens"] = draw.choice([1, 150, 5_000])
    if draw.random() < 0.3:
        body["n"] = draw.randint(2, 4)
    if draw.random() < 0.3:
        body["reasoning_effort"] = draw.choice(["high", "low"])
    if draw.random() < 0.2:
        body["service_tier"] = draw.choice(["flex", "priority"])
    if draw.random() < 0.4:
        body["coe"] = {"min_quality": draw.choice([0, 0.5, 0.97, 1])}
    if draw.random() < 0.1:
        body["messages"] = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]
    ids = [one.id for model in models for one in model.deployments]
    known = Experience(
        {model.name: draw.randint(0, QUALITY_STEPS) for model in models if draw.random() < 0.5},
        draw.random() < 0.2,
        {name: draw.randrange(6_000) for name in draw.sample(ids, min(3, len(ids)))},
        draw.random() < 0.5,
    )
    known = draw.choice([NOTHING, known, replace(known, qualities={})])
    asked, intent = features_of(a_chat(**body)), draw.choice([a_reading(draw), a_reading(draw), NOT_CLASSIFIED])
    demands = demands_of(asked, today=NOW.date(), allow=(), deny=(), caller=ANONYMOUS)
    expected = forecast(asked, intent, draw.choice([None, LENGTHS]), unknown_ground=known.unknown_ground)
    ceiling = draw.choice([None, None, 0, 10**9, 10**10, 10**24])
    return Measure(asked, demands, expected, NOW, ceiling, known, draw.random() < 0.3)


def told(deployment, model, measure):
    """(quality, cost, reason, whether it fits in size) of one deployment: what every figure and every reason means."""
    asked, demands, expected, at, ceiling, known, budgeted = measure
    one = candidate(deployment, model, expected, at, known=known)
    quality, cost = judged(model, expected.by, known), one.expected_cost_pusd
    reason = too_large(deployment, model, demands)
    if reason is not None:
        return quality, cost, reason, False
    if quality < measure.least:
        reason = f"quality: {shown(quality)} is under the {shown(measure.least)} asked for"
    elif ceiling is not None:
        wanted = wanted_of(answer_of(model, expected), deployment, model) * expected.choices
        reason = over_ceiling(cost, worst_cost(one.quote, expected.input_tokens, wanted, one.worst), asked, ceiling)
    if reason is None and budgeted:
        reason = unaccountable(one.quote, asked)
    return quality, cost, reason, True


def check(found, models, measure):
    """That entrants are what the functions say, in the order of the registry, in whole Python numbers."""
    every = [(one, model, *told(one, model, measure)) for model in models for one in model.deployments]
    able = [one for one in every if one[4] is None]
    assert [pair[0].id for pair in found.able] == [one[0].id for one in able]
    assert list(found.qualities) == [one[2] for one in able]
    assert list(found.costs) == [one[3] for one in able]
    assert [(one.id, model.name, why, fits) for one, model, why, fits in found.out] == [
        (one.id, model.name, why, fits) for one, model, _, _, why, fits in every if why is not None
    ]
    assert {type(one) for one in (*found.qualities, *found.costs)} <= {int, type(None)}
    assert list(found.rejected().reasons) == [(one[0].id, one[4]) for one in every if one[4] is not None]


def shortlist_of(models):
    """All of them are able, whoever asks."""
    hosts = tuple(one for model in models for one in model.deployments)
    demands = demands_of(features_of(a_chat()), today=NOW.date(), allow=(), deny=(), caller=ANONYMOUS)
    return Shortlist(hosts, {model.name: model for model in models}, demands.kind)


@pytest.mark.parametrize("seed", range(30))
def test_both_ways_give_what_the_functions_give(seed):
    """Any prices, priors, lengths, sizes and limits; one shortlist serves request after request."""
    draw = random.Random(seed)
    reckoned = 0
    for count in (1, 3, 9, 25):
        models = some_models(draw, count)
        shortlist = shortlist_of(models)
        for _ in range(12):
            measure = a_measure(draw, models)
            check(entrants._row_by_row(shortlist, measure), models, measure)
            found = entrants._in_columns(shortlist, measure)
            if found is not None:
                reckoned += 1
                check(found, models, measure)
    assert reckoned > 30


def test_what_no_column_holds_is_left_to_the_rows():
    """A rate near the end of 64 bits, a prior that is no share, tokens without end: no answer, never a wrong one."""
    draw = random.Random(5)
    for _ in range(40):
        models = some_models(draw, 6, huge=True)
        shortlist, measure = shortlist_of(models), a_measure(draw, models)
        found = entrants._in_columns(shortlist, measure)
        if found is not None:
            check(found, models, measure)
        check(entrants._row_by_row(shortlist, measure), models, measure)


def odd(**fields):
    """A plain model with something odd about it."""
    return [a_model("m", **fields)]


@pytest.mark.parametrize(
    ("models", "changes"),
    [
        (odd(quality={"default": 1.5}), {}),
        (odd(quality={"default": math.nan}), {}),
        (odd(reasoning_tokens={"default": 10**12}), {}),
        (odd(), {"output_tokens_max": 10**12}),
        (odd(), {"sizes": Sizes(characters=10**30)}),
        (odd(listed=(500_000, 500_000)), {}),
        (odd(listed=(10**9, 10**9)), {"n": 100, "output_tokens_max": 2**30}),
    ],
)
def test_oddities_go_row_by_row(models, changes):
    """In columns they are refused, and the rows say what the functions say."""
    asked = replace(features_of(a_chat()), **changes)
    demands = demands_of(asked, today=NOW.date(), allow=(), deny=(), caller=ANONYMOUS)
    measure = Measure(asked, demands, forecast(asked, an_intent("coding", difficulty=4.0)), NOW, 10**30)
    shortlist = shortlist_of(models)
    assert entrants._in_columns(shortlist, measure) is None
    check(entrants._row_by_row(shortlist, measure), models, measure)


def test_columns_that_are_kept_are_read_only():
    """They serve every later request."""
    shortlist = shortlist_of(some_models(random.Random(1), 9))
    columns = shortlist.columns
    for column in (columns._of_intent("coding"), columns._prior("coding"), shortlist.quotes(NOW).sheet(10).fresh):
        assert isinstance(column, np.ndarray)
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_names_that_no_taxonomy_has_are_not_kept_without_end():
    """A record that somebody changed may name any intent."""
    model: Model = a_model("m")
    columns = shortlist_of([model]).columns
    for number in range(1_000):
        columns._of_intent(f"intent {number}")
        columns._prior(f"intent {number}")
    assert len(columns._steps) <= 128
    assert len(columns._priors) <= 128
