"""The registry as the router sees it: providers, models, deployments, policies, routes. Built once, then only read.

Where on the path: `catalog.load` builds a `Catalog` from providers.yaml; `routing` chooses among its deployments.

Invariants
1. Everything here is frozen; a reload builds a new `Catalog` and swaps it whole.
2. A deployment's id is `provider/model` with the registry's model name; ids are unique.
3. What may not be offered (disabled, retired, without a key) stays in the catalogue with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from service.domain.fingerprint import fingerprint
from service.domain.limits import Budget
from service.domain.prices import PriceBook

DEFAULT_QUALITY = 0.5
"""P(acceptable) of a model about which the registry says nothing: a coin, so that silence meets no quality floor."""

NUMBERED_QUIRKS = frozenset({"cache_ttl_s"})
"""Quirks whose value is a whole number from 1 to `QUIRK_NUMBER_MAX`."""

QUIRK_NUMBER_MAX = 7 * 86_400
"""A week, in seconds: no vendor keeps a prefix for longer."""

NARROWED_QUIRKS = frozenset({"no_sampling", "tools_effort_none", "no_forced_tool_choice"})
"""Quirks that a value narrows to some wire names of the provider: those that `Deployment.concerned_by` is asked for."""


CACHE_TTL_S_MAX = 30 * 86_400
"""A month, in seconds: an answer that is older is no answer to a question of today."""

NOT_OFFERED = frozenset(
    {
        "base_url",
        "timeouts",
        "limits",
        "title",
        "awaits_key",
        "simulated",
        "source",
        "checked",
        "quality_source",
        "notes",
        "version",
        "by_id",
        "budgets",
        "cache",
    }
)
"""Fields of the registry that no decision looks at: where and how a deployment is called, and what is said of it.

Nor does one look at budgets: whether some hard one applied to a request is said to it, and recorded. What is kept of an
answer comes after the decision.
"""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one attempt, in seconds."""

    connect_s: float = 5.0
    first_token_s: float = 30.0
    idle_s: float = 30.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What the vendor's account allows; `None` is no limit known."""

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return (self.concurrency, self.requests_per_minute, self.tokens_per_minute) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Provider:
    """A vendor account: where to call, with which keys, and what is odd about it.

    `api_keys` are secrets: they never appear in `repr`. `active` says whether calls can be made, `inactive_reason` why
    not.
    `awaits_key`: nothing but a secret of its own is missing, so the simulator may stand in for it; a provider that the
    registry disables keeps its reason and stays out.
    """

    name: str
    base_url: str
    protocol: str = "openai_chat"
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    region: str = "unknown"
    tags: frozenset[str] = frozenset()
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: ProviderLimits = field(default_factory=ProviderLimits)
    quirks: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    inactive_reason: str | None = None
    simulated: bool = False
    title: str = ""
    awaits_key: bool = False

    @property
    def active(self) -> bool:
        """Whether this provider can be called at all."""
        return self.inactive_reason is None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider: the unit the router chooses. `wire_name` is what the vendor calls it.

    `context_tokens` and `output_tokens_max` override the model's when this host allows less (or more).
    """

    provider: Provider
    model: str
    wire_name: str
    prices: PriceBook
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    capabilities: frozenset[str] | None = None
    inactive_reason: str | None = None
    id: str = field(init=False, repr=False, compare=False)
    """`provider/model`, unique in the catalogue."""

    def __post_init__(self) -> None:
        """Put the id together once: every decision names a hundred."""
        object.__setattr__(self, "id", f"{self.provider.name}/{self.model}")

    def concerned_by(self, quirk: str) -> bool:
        """Whether a quirk of the provider concerns this deployment.

        A value narrows: how the wire names begin, several ways separated by `|`. Without a value all are concerned.
        """
        value = self.provider.quirks.get(quirk)
        return value is not None and self.wire_name.startswith(tuple(value.split("|")))


@dataclass(frozen=True, slots=True)
class Model:
    """A vendor-free model and where it can be had.

    `quality` maps an intent (or `default`) to a prior P(acceptable) in [0, 1]. `reasoning_tokens` maps an intent (or
    `default`) to the hidden tokens this model is expected to spend before it answers, when it thinks at all.
    `context_tokens` is the whole window unless the vendor limits input and output apart.
    """

    name: str
    deployments: tuple[Deployment, ...]
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    modalities: frozenset[str] = frozenset({"text"})
    capabilities: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    quality: Mapping[str, float] = field(default_factory=dict)
    quality_source: str = ""
    reasoning_tokens: Mapping[str, int] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    retires: date | None = None
    inactive_reason: str | None = None

    def quality_for(self, intent: str) -> float:
        """The prior for an intent: its own, else the model's default, else `DEFAULT_QUALITY`."""
        return self.quality.get(intent, self.quality.get("default", DEFAULT_QUALITY))

    def reasoning_for(self, intent: str) -> int:
        """Expected hidden tokens for an intent: its own figure, else the model's default, else none."""
        return self.reasoning_tokens.get(intent, self.reasoning_tokens.get("default", 0))

    def retired(self, on: date) -> bool:
        """Whether the model is gone on a day: its retirement date is the first day without it."""
        return self.retires is not None and on >= self.retires


@dataclass(frozen=True, slots=True)
class Selector:
    """A set of deployments by any of their names; empty means no opinion. The names in one field are alternatives.

    `any_of` is a flat list as callers write it: bare names or `kind:name`, alternatives of any kind. `routing.rules`
    turns it into `models` before anybody is compared.
    """

    models: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    any_of: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is named."""
        return bool(self.models or self.providers or self.regions or self.tags or self.any_of)

    def fields(self) -> Iterator[tuple[str, frozenset[str]]]:
        """The fields that name something, as (singular noun, names)."""
        for noun, names in (
            ("model", self.models),
            ("provider", self.providers),
            ("region", self.regions),
            ("tag", self.tags),
        ):
            if names:
                yield noun, names


NO_SELECTOR = Selector()
"""No opinion. Shared, so that one look tells that nothing was said."""


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A named policy of the registry: an objective and its bounds.

    `objective` names an entry of `routing.policies.POLICIES`. `min_quality` in [0, 1]; `relative_to_best` is the share
    of the best candidate's quality that suffices; `max_cost_pusd` bounds the expected cost of one request (pico-USD);
    `allow` must hold and `deny` must not. `on_unavailable`: `reject`, or `any` to fall back to every capable candidate.
    `min_quality_for` holds the least quality of intents that have their own; the others have `min_quality`.
    `pusd_per_quality` is what one whole point of quality is worth on one request, for the objective `utility` alone.
    `explore` is the share of requests that are left to a draw among those that meet the floor (`routing.exploring`);
    `max_cost_pusd` must bound what a drawn one may cost. `version` names what is in it.
    Raises ValueError for a share outside [0, 1], for a worth that is not positive, and for exploring without a bound.
    """

    name: str
    objective: str = "min_cost"
    min_quality: float = 0.0
    relative_to_best: float = 0.0
    max_cost_pusd: int | None = None
    max_latency_ms: int | None = None
    allow: Selector = NO_SELECTOR
    deny: Selector = NO_SELECTOR
    on_unavailable: str = "reject"
    min_quality_for: Mapping[str, float] = field(default_factory=dict)
    pusd_per_quality: int | None = None
    explore: float = 0.0
    version: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hold the bounds for policies that were not made by the loader: with NaN every comparison would be false."""
        shares = {"min_quality": self.min_quality, "relative_to_best": self.relative_to_best, **self.min_quality_for}
        shares["explore"] = self.explore
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"policy {self.name}: {name} must be from 0 to 1, got {share}")
        if self.pusd_per_quality is not None and self.pusd_per_quality <= 0:
            raise ValueError(f"policy {self.name}: pusd_per_quality must be above 0, got {self.pusd_per_quality}")
        if self.explore and self.max_cost_pusd is None:
            raise ValueError(f"policy {self.name}: explore needs max_cost_pusd, or a draw may cost anything")
        object.__setattr__(self, "version", fingerprint(self))

    def least_quality(self, intents: Iterable[str]) -> float:
        """The absolute floor of a request that may be any of `intents`: the highest of theirs."""
        own = self.min_quality_for
        if not own:
            return self.min_quality
        return max((own.get(one, self.min_quality) for one in intents), default=self.min_quality)


@dataclass(frozen=True, slots=True)
class RouteCondition:
    """When a route applies: every field that is given must hold. An empty condition always holds."""

    key_tags: frozenset[str] = frozenset()
    intents: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One line of the routing table; the first whose condition holds wins. Exactly one of `policy`, `plan`, `model`."""

    name: str
    when: RouteCondition
    policy: str | None = None
    plan: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """How answers are kept for those who ask the same again.

    `ttl_s` is how long one is kept at most, `answer_bytes_max` how large one may be, `memory_bytes` what a process may
    hold of them. `sampled`: also those of requests that let their vendor draw the answer, and don't ask for it.
    """

    ttl_s: int
    answer_bytes_max: int = 256 * 1024
    memory_bytes: int = 64 * 1024 * 1024
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class Catalog:
    """The whole registry, frozen. `version` is a short hash of the file it was built from.

    `budgets` are what requests may spend and ask for together, beside the limits of each key. `cache` is `None` where
    no answers are kept.
    `offer` names what the file became here: two routers with one file and other keys have other deployments to offer.
    `prepared` is where `routing` keeps what it has worked out from this registry for every request alike: it is nobody
    else's, it says nothing that the rest does not, and it goes when the registry goes.
    """

    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    policies: Mapping[str, PolicySpec]
    routes: tuple[RouteSpec, ...] = ()
    default_policy: str = "balanced"
    baseline: str | None = None
    version: str = ""
    notes: tuple[str, ...] = ()
    by_id: Mapping[str, Deployment] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    cache: CacheSpec | None = None
    _offer: str = field(init=False, repr=False, compare=False, default="")
    prepared: Any = field(init=False, repr=False, compare=False, default=None)

    @property
    def offer(self) -> str:
        """The name of all that a decision may depend on; worked out once, for a registry is never changed."""
        if not self._offer:
            object.__setattr__(self, "_offer", fingerprint(self, NOT_OFFERED))
        return self._offer

    def deployments(self) -> Iterator[Deployment]:
        """Every deployment, in the order of the file."""
        for model in self.models.values():
            yield from model.deployments
