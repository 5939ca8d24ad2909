"""One request held against one registry: the rules that apply, who is able, in which order. Pure.

Where on the path: `router.decide` tells what comes out of this as a decision; `what_if` does it again with one thing
changed, so that what it says comes from the code that decides.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from service.domain.access import Caller
from service.domain.catalog import Catalog, Deployment
from service.domain.decision import Intent
from service.domain.experience import NOTHING, Experience
from service.domain.features import RequestFeatures
from service.domain.ports import Policy, Ranking, Standing
from service.errors import CallerError, Forbidden, NoCandidate
from service.routing.capable import demands_of, emptied_by
from service.routing.entrants import Entrants, Measure, enter
from service.routing.estimate import forecast
from service.routing.lengths import Lengths
from service.routing.load import under_load
from service.routing.policies import POLICIES
from service.routing.prepared import prepared
from service.routing.rules import Rules, rules_for


class Circumstances(NamedTuple):
    """What surrounds a request: who asks, when, under which ids, and what is known of it beside its features.

    `at` is an aware UTC instant. `lengths` is the learned table of answer lengths, `None` without one. `budgeted`: a
    hard budget applies, of the key or of the registry. `draw` is a number under `exploring.DRAWS`, for a policy that
    explores; `None` leaves nothing to chance. All of it is in the decision record, the table by its version, the number
    where something was left to it.
    """

    decision_id: str
    at: datetime
    caller: Caller
    experience: Experience = NOTHING
    lengths: Lengths | None = None
    budgeted: bool = False
    draw: int | None = None


class Weighed(NamedTuple):
    """What was held against what, and the order that came of it. `meant` are the deployments that were looked at."""

    asked: RequestFeatures
    intent: Intent
    catalog: Catalog
    around: Circumstances
    rules: Rules
    meant: tuple[Deployment, ...]
    entrants: Entrants
    ranking: Ranking

    @property
    def policy(self) -> Policy:
        """The objective that ranked."""
        return POLICIES[self.rules.spec.objective]

    def standing(self, rank: int) -> Standing:
        """The candidate at a rank as texts name it."""
        place = self.ranking.order[rank]
        entrants = self.entrants
        return Standing(entrants.able[place][0].id, entrants.qualities[place], entrants.costs[place])


def weigh(asked: RequestFeatures, intent: Intent, catalog: Catalog, around: Circumstances) -> Weighed:
    """Weigh the deployments for a request.

    Raises NotFound for unknown names, Forbidden for a policy the key may not use, NoCandidate when nothing can serve.
    """
    rules = rules_for(asked, intent, catalog, around.caller)
    expected = forecast(asked, intent, around.lengths, unknown_ground=around.experience.unknown_ground)
    demands = demands_of(
        asked,
        today=around.at.date(),
        allow=rules.allow,
        deny=rules.deny,
        caller=around.caller,
        language=intent.language,
        input_tokens=expected.input_tokens,
    )
    ready, address = prepared(catalog), rules.address
    meant = ready.everybody if address.deployments is None else address.deployments
    measure = Measure(asked, demands, expected, around.at, rules.ceiling_pusd, around.experience, around.budgeted)
    entrants = enter(ready.shortlist(address.meant, meant, catalog, demands.kind), measure)
    if not entrants.able and rules.spec.on_unavailable == "any" and rules.spec.allow:
        allow = tuple([one for one in rules.allow if one is not rules.spec.allow])
        note = f"policy {rules.spec.name} had nobody; any capable model allowed"
        rules = rules._replace(allow=allow, notes=(*rules.notes, note), degraded=(*rules.degraded, "allow"))
        demands = demands._replace(kind=demands.kind._replace(allow=allow))
        shortlist = ready.shortlist(address.meant, meant, catalog, demands.kind)
        entrants = enter(shortlist, measure._replace(demands=demands))
    if not entrants.able:
        raise _nobody(asked, [reason for _, _, reason, _ in entrants.out], rules, catalog)
    entrants = under_load(entrants, ready.engines)
    ranking = entrants.ranked(POLICIES[rules.spec.objective], rules.spec)
    return Weighed(asked, intent, catalog, around, rules, meant, entrants, ranking)


def _nobody(asked: RequestFeatures, reasons: list[str], rules: Rules, catalog: Catalog) -> CallerError:
    """The error when nothing can serve: a key that may not use the named model is told so, all else is a constraint."""
    if rules.address.pinned and rules.route is None and reasons and all(one.startswith("key:") for one in reasons):
        return Forbidden(f"this key may not use the model {asked.model!r}", param="model", code="model_not_allowed")
    return NoCandidate(f"no model can serve this request: {emptied_by(reasons, catalog)}")
