"""What would have to change for another deployment to win: computed on the figures of the decision, never guessed.

Where on the path: beside it. A full explanation asks; a request that nobody explains never comes here.

Each change is the least one that does it alone, all else as it was. Shares and qualities are told in steps of 0.0001,
which is how they are compared, money in pico-USD. A change with both bounds holds between them: with a still lower
floor, say, somebody cheaper yet would win.

Invariants
1. With the change applied, the deployment wins; with one step less of it, it does not.
2. Nothing is told of a lever that can't do it alone.
3. The order is that of `bounds.rank`: floors and keys are asked for there and from the policy, not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from service.domain.decision import QUALITY_STEPS
from service.domain.what_if import Alternative, Change, WhatIf
from service.errors import CallerError
from service.routing.entrants import Entrants, Measure, enter
from service.routing.policies.bounds import NEAR_BEST_PERCENT, NO_COST, quality_floor
from service.routing.rules import PINNED
from service.routing.weighing import Weighed, weigh

MIN_QUALITY = "min_quality"
"""The absolute floor that applied, of the policy or of its intent."""

RELATIVE = "relative_to_best"
PRICE = "expected_cost_usd"
"""What this deployment is expected to cost for this request."""

QUALITY = "quality"
"""P(acceptable) of this deployment's model for this request."""

CEILING = "max_cost_usd"
OWN_MIN_QUALITY = "coe.min_quality"
"""The caller's own floor: who is under it can't serve."""

RUNNER_UP, BASELINE, CHEAPER = "runner_up", "baseline", "cheaper"


_Key = tuple[tuple[int, ...], int]
"""What the order among those who meet the floor goes by: the policy's key, then the place in the registry."""


@dataclass(frozen=True, slots=True)
class _Field:
    """Everybody who can serve, as figures, with the rule that orders them; `relative` is that floor in steps."""

    weighed: Weighed
    qualities: Sequence[int]
    costs: Sequence[int]
    keys: Sequence[_Key]
    relative: int

    def key(self, place: int, quality: int, cost: int) -> _Key:
        """The key of a place with another quality or cost than its own."""
        return self.weighed.policy.key(quality, cost, self.weighed.rules.spec), place

    def leads(self, place: int, among: Sequence[int], qualities: Sequence[int], keys: Sequence[_Key]) -> bool:
        """Whether a place comes first among some, with these qualities and keys."""
        best = max([qualities[one] for one in among])
        floor = quality_floor(best, self.weighed.ranking.asked, self.weighed.rules.spec.relative_to_best)
        own = keys[place]
        return qualities[place] >= floor and all(own <= keys[one] for one in among if qualities[one] >= floor)


def what_if(weighed: Weighed) -> WhatIf:
    """The alternatives that people ask about, and what each other policy would choose."""
    entrants, spec = weighed.entrants, weighed.rules.spec
    costs = [NO_COST if cost is None else cost for cost in entrants.costs]
    key = weighed.policy.key
    keys = [(key(entrants.qualities[place], cost, spec), place) for place, cost in enumerate(costs)]
    relative = quality_floor(max(entrants.qualities), 0, spec.relative_to_best)
    field = _Field(weighed, entrants.qualities, costs, keys, relative)
    named: dict[int, list[str]] = {}
    for place, told_as in _alternatives(field):
        named.setdefault(place, []).append(told_as)
    found = [
        Alternative(entrants.able[place][0].id, tuple(told_as), tuple(_changes(field, place)))
        for place, told_as in named.items()
    ]
    return WhatIf((*found, *_unable_baseline(weighed)), _policies(weighed))


def _alternatives(field: _Field) -> Iterator[tuple[int, str]]:
    """Who is looked at: the runner-up, the baseline's best-placed deployment, the best of those that are cheaper."""
    weighed = field.weighed
    order, able = weighed.ranking.order, weighed.entrants.able
    if len(order) > 1:
        yield order[1], RUNNER_UP
    baseline = next((place for place in order if able[place][1].name == weighed.catalog.baseline), None)
    if baseline is not None and baseline != order[0]:
        yield baseline, BASELINE
    cheaper = next((place for place in order[1:] if field.costs[place] < field.costs[order[0]]), None)
    if cheaper is not None:
        yield cheaper, CHEAPER


def _changes(field: _Field, place: int) -> Iterator[Change]:
    """Every lever that does it alone."""
    pinned = field.weighed.rules.spec is PINNED
    for lever in (_price, _ceiling) if pinned else (_min_quality, _relative, _price, _quality, _ceiling):
        change = lever(field, place)
        if change is not None:
            yield change


def _room(field: _Field, place: int) -> int | None:
    """The most that a floor may be without helping: the best of those ahead of a place. `None`: no floor would do.

    The place wins when the floor that is applied lies above this and not above its own quality.
    """
    own = field.keys[place]
    ahead = [quality for quality, key in zip(field.qualities, field.keys, strict=True) if key < own]
    most = max(ahead, default=-1)
    return most if most < field.qualities[place] else None


def _min_quality(field: _Field, place: int) -> Change | None:
    """The absolute floor, up or down, while the relative one lets it."""
    least, own = _room(field, place), field.qualities[place]
    if least is None or field.relative > own:
        return None
    best = max(field.qualities)
    # A floor that nobody reaches gives way to who is near the best: then there is no upper end for the best one.
    near = quality_floor(best, best + 1, field.weighed.rules.spec.relative_to_best)
    return Change(
        MIN_QUALITY,
        field.weighed.ranking.asked / QUALITY_STEPS,
        at_most=None if own == best and near > least else own / QUALITY_STEPS,
        at_least=(least + 1) / QUALITY_STEPS if field.relative <= least else None,
    )


def _relative(field: _Field, place: int) -> Change | None:
    """The relative floor, up or down, while the absolute one lets it."""
    least, own, ranking = _room(field, place), field.qualities[place], field.weighed.ranking
    best = max(field.qualities)
    other = ranking.asked if ranking.kept else best * NEAR_BEST_PERCENT // 100
    if least is None or other > own or not best:
        return None
    most = _last(lambda step: quality_floor(best, 0, step / QUALITY_STEPS) <= own, QUALITY_STEPS)
    under = _last(lambda step: quality_floor(best, 0, step / QUALITY_STEPS) <= least, QUALITY_STEPS)
    lower = None if other > least else (under + 1) / QUALITY_STEPS
    if lower is not None and under >= most:
        return None
    return Change(RELATIVE, field.weighed.rules.spec.relative_to_best, most / QUALITY_STEPS, lower)


def _price(field: _Field, place: int) -> Change | None:
    """Its own expected cost, when its quality suffices as it is, and when it is that by which it was ranked."""
    if field.qualities[place] < field.weighed.ranking.floor or place in field.weighed.entrants.loads:
        return None
    first, quality = field.keys[field.weighed.ranking.order[0]], field.qualities[place]
    most = _last(lambda cost: field.key(place, quality, cost) < first, field.costs[place])
    return None if most < 0 else Change(PRICE, field.weighed.entrants.costs[place], at_most=most)


def _quality(field: _Field, place: int) -> Change | None:
    """The quality of its model, at every host of it."""
    able, own = field.weighed.entrants.able, field.qualities[place]
    model = able[place][1].name
    hosts = [one for one, (_, host) in enumerate(able) if host.name == model]
    qualities, keys, everybody = list(field.qualities), list(field.keys), range(len(able))

    def loses(more: int) -> bool:
        for one in hosts:
            qualities[one] = own + more
            keys[one] = field.key(one, own + more, field.costs[one])
        return not field.leads(place, everybody, qualities, keys)

    short = _last(loses, QUALITY_STEPS - own)
    if short == QUALITY_STEPS - own:
        return None
    return Change(QUALITY, own / QUALITY_STEPS, at_least=(own + short + 1) / QUALITY_STEPS)


def _ceiling(field: _Field, place: int) -> Change | None:
    """A lower cost limit, which puts out who may cost more."""
    weighed = field.weighed
    if weighed.asked.sizes.unmeasured:
        return None
    needed = [weighed.entrants.needed_pusd(one) for one in range(len(field.qualities))]
    own = needed[place]
    if own is None:
        return None
    priced = [one for one, pusd in enumerate(needed) if pusd is not None]
    if len(priced) < len(needed) and field.leads(place, priced, field.qualities, field.keys):
        return None  # any limit at all puts out who has no price, and that suffices
    most: int | None = None
    least = own
    for limit in sorted({one for one in needed if one is not None and one > own}, reverse=True):
        left = [one for one, pusd in enumerate(needed) if pusd is not None and pusd < limit]
        if field.leads(place, left, field.qualities, field.keys):
            most = limit - 1 if most is None else most
        elif most is not None:
            least = limit
            break
    return None if most is None else Change(CEILING, weighed.rules.ceiling_pusd, most, least)


def _unable_baseline(weighed: Weighed) -> Iterator[Alternative]:
    """The baseline, when none of its deployments can serve: why not, and the limit that would have to give."""
    name = weighed.catalog.baseline
    if any(model.name == name for _, model in weighed.entrants.able):
        return
    for place, (deployment, model, reason, measured) in enumerate(weighed.entrants.out):
        if model.name == name:
            change = _admission(weighed, place) if measured else None
            yield Alternative(deployment.id, (BASELINE,), () if change is None else (change,), reason)
            return


def _admission(weighed: Weighed, place: int) -> Change | None:
    """What would let in one whom only a limit keeps out, if it would win then."""
    entrants, rules = weighed.entrants, weighed.rules
    deployment, model, reason, _ = entrants.out[place]
    kind = reason.partition(":")[0]
    if kind == "cost":
        least = entrants.needed_of(deployment, model)
        if least is None:
            return None
        opened = _entered(weighed, entrants.measure._replace(ceiling_pusd=least))
        if _leads(opened, weighed, deployment.id):
            return Change(CEILING, rules.ceiling_pusd, at_least=least)
    if kind == "quality":
        quality = entrants.rejected()[place].quality
        steering = replace(weighed.asked.steering, min_quality=quality)
        asked = replace(weighed.asked, steering=steering)
        opened = _entered(weighed, entrants.measure._replace(asked=asked))
        if _leads(opened, weighed, deployment.id):
            return Change(OWN_MIN_QUALITY, weighed.asked.steering.min_quality, at_most=quality)
    return None


def _entered(weighed: Weighed, measure: Measure) -> Entrants:
    return enter(weighed.entrants.shortlist, measure)


def _leads(entrants: Entrants, weighed: Weighed, deployment: str) -> bool:
    """Whether a deployment comes first among entrants."""
    if not entrants.able:
        return False
    order = entrants.ranked(weighed.policy, weighed.rules.spec).order
    return entrants.able[order[0]][0].id == deployment


def _policies(weighed: Weighed) -> dict[str, str]:
    """Whom each other policy would choose that this caller could have asked for."""
    if weighed.rules.address.pinned:
        return {}
    found: dict[str, str] = {}
    for name in weighed.catalog.policies:
        if name == weighed.rules.spec.name:
            continue
        asked = replace(weighed.asked, steering=replace(weighed.asked.steering, policy=name))
        try:
            found[name] = weigh(asked, weighed.intent, weighed.catalog, weighed.around).standing(0).id
        except CallerError:
            continue  # nobody can serve under that policy, or the key may not follow it
    return found


def _last(holds: Callable[[int], bool], most: int) -> int:
    """The largest number from 0 to `most` for which something holds that holds up to it; -1 when it never does."""
    low, high = -1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
