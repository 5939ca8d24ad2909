"""Who is able and who is out of a kind, in the order of the registry; prices that are those of the instant asked for."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from scenery import NOW, a_model

from service.domain.catalog import Selector
from service.domain.money import Multiplier, Rates
from service.domain.prices import PriceBook, PriceVersion, Window
from service.routing.capable import Demands, Kind, too_large
from service.routing.shortlist import Shortlist

KIND = Kind(frozenset(), frozenset({"text"}), NOW.date())


def shortlist(*models, kind=KIND):
    """Of all hosts of some models."""
    hosts = tuple(one for model in models for one in model.deployments)
    return Shortlist(hosts, {model.name: model for model in models}, kind)


def test_everybody_is_able_or_out_in_order():
    """Each with its place, the out with their reasons."""
    models = (
        a_model("gone", retires=date(2026, 1, 1)),
        a_model("both", at=("p", "q")),
        a_model("off", inactive_reason="no price"),
        a_model("last"),
    )
    found = shortlist(*models)
    assert [one.id for one, _ in found.able] == ["p/both", "q/both", "p/last"]
    assert found.reasons == (("p/gone", "retired: gone since 2026-01-01"), ("p/off", "disabled: no price"))
    assert sorted([*found.places, *found.out_places]) == [0, 1, 2, 3, 4]
    more = found.with_out([(0, "cost: x", True), (2, "context: y", False)])
    assert [(one.id, why, fits) for one, _, why, fits in more] == [
        ("p/gone", "retired: gone since 2026-01-01", False),
        ("p/both", "cost: x", True),
        ("p/off", "disabled: no price", False),
        ("p/last", "context: y", False),
    ]


def test_a_kind_tells_one_shortlist_from_another():
    """The day, the key's models and every list: what differs in one of them is of another kind."""
    model = a_model("m", retires=date(2026, 11, 22))
    kinds = {
        KIND: 1,
        KIND._replace(today=date(2026, 11, 22)): 0,
        KIND._replace(models=frozenset({"n"})): 0,
        KIND._replace(deny=(Selector(models=frozenset({"m"})),)): 0,
        KIND._replace(allow=(Selector(tags=frozenset({"t"})),)): 0,
        KIND._replace(needs=frozenset({"tools"})): 0,
        KIND._replace(modalities=frozenset({"text", "image"})): 0,
    }
    assert len(kinds) == 7
    assert [len(shortlist(model, kind=kind).able) for kind in kinds] == list(kinds.values())


def test_what_all_hold_nobody_finds_too_large():
    """The quick look and the one at each deployment agree, on both sides of every edge."""
    models = (a_model("a", context_tokens=500), a_model("b", context_tokens=None), a_model("c", output_tokens_max=90))
    found = shortlist(*models)
    for sizes in ((410, 90), (411, 90), (410, 91), (0, 90), (10**30, 1), (1, 10**30)):
        demands = Demands(KIND, *sizes)
        each = [too_large(one, model, demands) is None for one, model in found.able]
        assert found.holds(demands) == all(each)
        if max(sizes) < 2**60:
            assert found.columns.holds(demands).tolist() == each


def test_prices_are_those_of_the_instant():
    """Whatever instant was asked for before: forth and back over windows and changes of price."""
    peak = Window(UTC, ((time(11), time(13)), (time(20), time(21))), frozenset({6, 7}), Multiplier(2))
    odd = Window(UTC, ((time(11, 0, 1), time(13)),), frozenset({6, 7}), Multiplier(2))
    rates = Rates(1, 2)
    start = datetime(2026, 11, 1, tzinfo=UTC)
    later = PriceVersion(NOW + timedelta(minutes=90, seconds=7), Rates(5, 6), windows=(peak,))
    models = []
    for name, windows in (("a", ()), ("b", (peak,)), ("c", ()), ("d", (odd,))):
        versions = (PriceVersion(start, rates, windows=windows), *([later] if name != "c" else []))
        model = a_model(name)
        models.append(replace(model, deployments=(replace(model.deployments[0], prices=PriceBook(name, versions)),)))
    draw = random.Random(3)
    for found in (shortlist(*models), shortlist(*models[:3])):
        for _ in range(400):
            at = NOW + timedelta(seconds=draw.choice([draw.uniform(-40_000, 40_000), draw.uniform(-70, 70), 5_407, -1]))
            assert found.quotes(at).each == tuple(one.prices.quote(at) for one, _ in found.able)
    assert found.quotes(NOW) is found.quotes(NOW + timedelta(seconds=20))
