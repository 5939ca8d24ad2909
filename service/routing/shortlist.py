"""Who can serve requests of a kind, however small they are, and at which prices: worked out once for all of them.

Where on the path: `prepared` remembers shortlists, `entrants` measures a request by the one of its kind.

Invariants
1. Able and out together are all that were meant, each once, in the order of the registry.
2. `quotes` are those that the price books give for the instant, whatever instant was asked for before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from typing import Final

from service.domain.catalog import Deployment, Model
from service.routing.capable import Demands, Kind, context_of, lasting_obstacle, output_limit
from service.routing.columns import Columns
from service.routing.quality import Priors
from service.routing.quotes import Quotes

Out = tuple[Deployment, Model, str, bool]
"""A deployment that can't serve, its model, the reason, and whether only a limit of this request stood against it."""

NO_LIMIT: Final = 2**62
"""Tokens that nothing exceeds, where the registry knows no limit."""


class Shortlist:
    """The able and the others, as far as that is the same for every request of a kind.

    `places` and `out_places` say where each of them stands among all that were meant, `limits` how many output tokens
    each able one may give, `limit_least` the fewest. `thinks`: the registry gives some model hidden tokens.
    """

    def __init__(self, meant: tuple[Deployment, ...], models: Mapping[str, Model], kind: Kind) -> None:
        able: list[tuple[Deployment, Model]] = []
        out: list[Out] = []
        self.places: list[int] = []
        self.out_places: list[int] = []
        for place, deployment in enumerate(meant):
            model = models[deployment.model]
            reason = lasting_obstacle(deployment, model, kind)
            if reason is None:
                able.append((deployment, model))
                self.places.append(place)
            else:
                out.append((deployment, model, reason, False))
                self.out_places.append(place)
        self.able = tuple(able)
        self.out = tuple(out)
        self.reasons = reasons_of(self.out)
        contexts = [context_of(deployment, model) for deployment, model in able]
        limits = [output_limit(deployment, model) for deployment, model in able]
        self.limits = tuple([NO_LIMIT if one is None else one for one in limits])
        self._context_least = min([one for one in contexts if one is not None], default=NO_LIMIT)
        self.limit_least = min(self.limits, default=NO_LIMIT)
        self.priors = Priors([model for _, model in able])
        self.thinks = any(model.reasoning_tokens for _, model in able)
        self._quotes: Quotes | None = None

    def holds(self, demands: Demands) -> bool:
        """Whether a request is too large for none of the able."""
        output = demands.output_tokens
        return demands.input_tokens + output <= self._context_least and output <= self.limit_least

    def quotes(self, at: datetime) -> Quotes:
        """The prices at an aware instant."""
        held = self._quotes
        if held is None or not held.since <= at < held.until:
            held = self._quotes = Quotes(self.able, at)
        return held

    def with_out(self, more: Sequence[tuple[int, str, bool]]) -> tuple[Out, ...]:
        """Those who are out, and more of them: (row among the able, reason, whether only a limit stood against it)."""
        places, able = self.places, self.able
        added = [(places[row], (*able[row], reason, measured)) for row, reason, measured in more]
        if self.out:
            added = sorted([*zip(self.out_places, self.out, strict=True), *added], key=itemgetter(0))
        return tuple([one for _, one in added])

    @cached_property
    def columns(self) -> Columns:
        """The able as columns of numbers."""
        return Columns(self.able, self.priors)


def reasons_of(out: Sequence[Out]) -> tuple[tuple[str, str], ...]:
    """The id of each deployment that is out, with its reason."""
    return tuple([(deployment.id, reason) for deployment, _, reason, _ in out])
