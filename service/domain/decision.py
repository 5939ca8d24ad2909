"""What was decided and what came of it: intents, candidates, decisions, attempts, ledger rows. Frozen values only.

Where on the path: `classifiers` and `routing` fill these, `pipeline` carries them, `ledger` writes them down. Its rows
are named tuples: as frozen as the rest, and built in a quarter of the time by every request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, overload

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import Deployment, Model
from service.domain.experience import NOTHING, Experience
from service.domain.features import RequestFeatures
from service.domain.frozen import built_open
from service.domain.imagined import PLAIN, Worst
from service.domain.money import PriceQuote
from service.domain.rivals import Rival
from service.domain.what_if import WhatIf

INTENTS = (
    "chitchat",
    "advice_ideas",
    "rewriting",
    "translation",
    "summarization",
    "extraction",
    "factual_qa",
    "writing",
    "roleplay",
    "coding",
    "math",
    "logic",
    "domain_expert",
    "tool_use",
    "compound",
)
"""The taxonomy: what a person may want. Flags (long, images, tools) are read from the request, not classified."""

COMPOUND = "compound"
"""The intent of a request that asks for several things."""

UNCLASSIFIED = "unclassified"
"""The label of requests that name their model: nobody needed to know what they are about."""

UNSURE = "unsure"
"""What headers and the ledger say of a request whose classifier abstained: its likeliest label is only a guess."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a request is about.

    `posterior` maps every intent to its probability (sums to 1). `abstained` means that there was too little evidence:
    `label` is then only the likeliest guess and must not be trusted alone. `terms` are the strongest pieces of evidence
    for the label with their weights in logits. `artefact` names the classifier and its version. `difficulty` runs from
    1 (any model) to 5 (experts), `None` when nobody judged it. `flags` are names out of code, math, tools, personal,
    harness. `parts` are the intents of the steps of a compound request, in order. `doubt` names why it abstained.
    """

    label: str
    confidence: float
    posterior: Mapping[str, float]
    language: str
    abstained: bool = False
    terms: tuple[tuple[str, float], ...] = ()
    artefact: str = ""
    difficulty: float | None = None
    flags: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    doubt: str = ""

    @property
    def told(self) -> str:
        """The label as it may be shown alone: `unsure` when it is only a guess."""
        return UNSURE if self.abstained and self.label != UNCLASSIFIED else self.label


NOT_CLASSIFIED = Intent(UNCLASSIFIED, 0.0, {}, "und", abstained=True)
"""The intent of a request whose model is pinned."""


QUALITY_STEPS = 10_000
"""Quality is compared in steps of 0.0001, as whole numbers: what is behind the fourth decimal is noise."""

FLOORS_KEPT = 256
"""Floors whose steps are remembered: policies name a few, and callers hardly more."""

_NOISE = 1e-6
"""Of a step: what binary floats add to a decimal such as 0.57 (5699.999999999999 steps)."""


def quality_steps(quality: float) -> int:
    """The nearest whole number of steps, 0 to `QUALITY_STEPS`. What is no number counts as 0: a fault wins nothing."""
    if not quality > 0:
        return 0
    return QUALITY_STEPS if quality >= 1 else round(quality * QUALITY_STEPS)


@lru_cache(maxsize=FLOORS_KEPT)
def floor_steps(least: float) -> int:
    """The fewest steps that are at least the quality asked for: a floor is never lowered. Raises ValueError for NaN."""
    steps = math.ceil(least * QUALITY_STEPS - _NOISE)
    return steps if steps / QUALITY_STEPS >= least else steps + 1


class ReasonCode(StrEnum):
    """Why the chosen candidate was chosen."""

    PINNED = "pinned"
    CHEAPEST_CAPABLE = "cheapest_capable"
    BEST_WITHIN_COST = "best_within_cost"
    BEST_VALUE = "best_value"
    FLOOR_UNREACHABLE = "floor_unreachable"
    ONLY_CANDIDATE = "only_candidate"
    EXPLORED = "explored"


class Draw(NamedTuple):
    """The draw that a choice was left to: `among[0]` is the policy's own, with `share` one of the others comes first.

    `seed` is the number drawn, `place` where it fell in `among`. Deployments are named by their ids.
    """

    seed: int
    share: float
    among: tuple[str, ...]
    place: int

    @property
    def propensity(self) -> float:
        """How likely it was to fall there: each of the others is as likely as the next."""
        return self.share / (len(self.among) - 1) if self.place else 1.0 - self.share


@built_open
@dataclass(frozen=True, slots=True)
class Candidate:
    """One deployment as this request sees it.

    Costs are pico-USD, `None` when unknown. `quality` is P(acceptable) to four decimals. `rejected` is the reason it
    can't serve this request (hard filter), `below` the policy bound it misses; both empty means eligible. `reason` says
    in words why it stands where it stands. `wanted_tokens` is what a cost limit must leave room for: so many tokens of
    one choice 90 % of answers stay under, hidden ones included.
    Of `input_tokens`, `cached_tokens` are priced as read from the vendor's cache and `cache_write_tokens` as written to
    it; `warm_tokens` were known to be warm there. `worst` is what may make the bill dearer than its tokens,
    `learned_quality` what a quality artefact makes of the text, `None` without one.
    """

    deployment: Deployment
    quality: float
    expected_cost_pusd: int | None
    reserved_pusd: int | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    quote: PriceQuote | None
    rejected: str | None = None
    below: str | None = None
    reason: str = ""
    output_tokens_cap: int = 0
    wanted_tokens: int = 0
    warm_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    learned_quality: float | None = None
    worst: Worst = PLAIN

    @property
    def eligible(self) -> bool:
        """Whether the policy may choose it."""
        return self.rejected is None and self.below is None


class Candidates(Sequence[Candidate]):
    """Candidates that are built when somebody looks at them, each once: a decision ranks a hundred and tells eight.

    `build` is pure: which of them were looked at, and when, changes nothing. Equal to any sequence of equal candidates.
    """

    __slots__ = ("_build", "_built")

    def __init__(self, size: int, build: Callable[[int], Candidate]) -> None:
        """`build(place)` makes the candidate at a place, 0 to `size` - 1."""
        self._build = build
        self._built: list[Candidate | None] = [None] * size

    @overload
    def __getitem__(self, place: int) -> Candidate: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, place: int | slice) -> Candidate | tuple[Candidate, ...]:
        """One of them, or a tuple of those in a slice."""
        if isinstance(place, slice):
            return tuple(self[one] for one in range(*place.indices(len(self._built))))
        found = self._built[place]
        if found is None:
            found = self._built[place] = self._build(place if place >= 0 else place + len(self._built))
        return found

    def __len__(self) -> int:
        """How many there are."""
        return len(self._built)

    def __eq__(self, other: object) -> bool:
        """Whether the other one holds equal candidates in the same order."""
        return isinstance(other, Candidates | tuple) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment] # holds mappings, as a decision does

    def __repr__(self) -> str:
        """The candidates."""
        return repr(tuple(self))


class Ranked(Candidates):
    """Candidates in their order, with the figures that made it, without building any.

    `able` are those who can serve, in the order of the registry, `qualities` (steps) and `costs` (pico-USD) are theirs;
    `order` holds places in them, the first `eligible` of which meet the floor.
    """

    __slots__ = ("able", "costs", "eligible", "order", "qualities")

    def __init__(
        self,
        order: Sequence[int],
        eligible: int,
        qualities: Sequence[int],
        costs: Sequence[int | None],
        able: Sequence[tuple[Deployment, Model]],
        build: Callable[[int], Candidate],
    ) -> None:
        """`build(rank)` makes the candidate at a rank, 0 for the choice."""
        self.able = able
        self._build = build
        self._built = [None] * len(order)
        self.order = order
        self.eligible = eligible
        self.qualities = qualities
        self.costs = costs

    def deployment(self, rank: int) -> Deployment:
        """Who stands at a rank, without building its candidate."""
        return self.able[self.order[rank]][0]


class Rejected(Candidates):
    """Candidates that can't serve. `reasons` pairs the id of each deployment with its reason, without building any."""

    __slots__ = ("reasons",)

    def __init__(self, reasons: Sequence[tuple[str, str]], build: Callable[[int], Candidate]) -> None:
        """`build(place)` makes the candidate that `reasons[place]` is about."""
        self._build = build
        self._built = [None] * len(reasons)
        self.reasons = reasons


@built_open
@dataclass(frozen=True, slots=True)
class Decision:
    """A ranked list of candidates and why. `ranked[0]` is the choice, the rest is the fallback order.

    `rejected` are the candidates that can't serve, each with its reason. `margin` says in words how the choice beat the
    runner-up. `features`, `intent`, `at`, `caller`, `budgeted` and `experience` are all that was decided upon,
    `versions` names what it was held against. `judged_by` are the intents that quality is judged by. `ceiling_pusd` is
    what all attempts may cost together, `max_latency_ms` how long policy and route let them take; `None` is no limit.
    `degraded` names what was given up to answer at all: `quality_floor`, `plan`, `allow`, `classifier`. `propensity` is
    how likely this choice was, `draw` what it was left to, `None` without one. `what_if` tells what would change it,
    `rivals` whom it is compared with when it has been paid for.
    """

    id: str
    requested: str
    policy: str
    intent: Intent
    ranked: Ranked
    rejected: Rejected
    reason_code: ReasonCode
    margin: str
    features: RequestFeatures
    at: datetime
    versions: Mapping[str, str]
    caller: Caller = ANONYMOUS
    experience: Experience = NOTHING
    judged_by: tuple[str, ...] = ()
    baseline_pusd: int | None = None
    baseline_model: str | None = None
    route: str | None = None
    plan: str = "single"
    notes: tuple[str, ...] = ()
    ceiling_pusd: int | None = None
    budgeted: bool = False
    max_latency_ms: int | None = None
    degraded: tuple[str, ...] = ()
    draw: Draw | None = None
    what_if: Callable[[], WhatIf] = field(default=WhatIf, repr=False, compare=False)
    rivals: Callable[[], tuple[Rival, ...]] = field(default=tuple, repr=False, compare=False)

    @property
    def chosen(self) -> Candidate:
        """The first candidate to try."""
        return self.ranked[0]

    @property
    def propensity(self) -> float:
        """How likely this choice was, 0 to 1."""
        return 1.0 if self.draw is None else self.draw.propensity

    @property
    def created_ms(self) -> int:
        """When it was decided, in Unix milliseconds."""
        return int(self.at.timestamp() * 1000)


class EntryState(StrEnum):
    """Where an attempt stands in the ledger. All but `OPEN` are terminal."""

    OPEN = "open"
    SETTLED = "settled"
    ESTIMATED = "estimated"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class OpenEntry(NamedTuple):
    """The intent to spend, durable before the first upstream byte. Times are Unix milliseconds, money pico-USD.

    The last four say what the length of the answer depends on: the effort asked for, the number of choices, the lowest
    cap on one of them (`None`: none), and the size of the newest user message.
    """

    attempt_id: str
    request_id: str
    decision_id: str
    attempt_number: int
    at_ms: int
    key_id: str | None
    requested_model: str
    model: str
    provider: str
    wire_name: str
    intent: str
    language: str
    policy: str
    price_version: str | None
    reserved_pusd: int | None
    tags: tuple[str, ...] = ()
    streaming: bool = False
    simulated: bool = False
    kind: str = "answer"
    effort: str = "default"
    choices: int = 1
    output_tokens_cap: int | None = None
    last_user_tokens: int | None = None


class TerminalEntry(NamedTuple):
    """How an attempt ended: exactly one for every `OpenEntry`.

    `usage` holds disjoint buckets, `price` what `Cost.as_dict` gives. `cost_pusd` is `None` for an unknown price alone.
    `baseline_pusd` is what the same request would have cost at the configured baseline; so are the others of `rivals`,
    with what of it is for an assumed length, by the rule `compared_by`. `ended` is why the attempt ended (`complete`,
    `client_left`, an upstream error code, `crash`). Durations are milliseconds on a monotonic clock.
    """

    attempt_id: str
    state: EntryState
    at_ms: int
    ended: str
    usage: Mapping[str, int] = MappingProxyType({})
    usage_source: str = "unknown"
    usage_flags: tuple[str, ...] = ()
    cost_pusd: int | None = None
    price: Mapping[str, object] = MappingProxyType({})
    baseline_pusd: int | None = None
    baseline_model: str | None = None
    served_model: str | None = None
    upstream_status: int | None = None
    upstream_id: str | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    overhead_ms: float | None = None
    final: bool = True
    baseline_assumed_pusd: int | None = None
    strongest_pusd: int | None = None
    strongest_assumed_pusd: int | None = None
    cheapest_pusd: int | None = None
    cheapest_assumed_pusd: int | None = None
    random_pusd: int | None = None
    random_assumed_pusd: int | None = None
    compared_by: int | None = None
