"""Checked entries and the environment -> the frozen catalogue.

Where on the path: last step of `catalog.load`.

Invariants
1. A provider whose key is not in the environment is there, inactive, and names the variable to set.
2. Secrets go from the environment into `Provider.api_keys` and `Provider.headers`, and nowhere else.
3. Everything that the file switches off keeps its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import urlsplit

from service.catalog.calendars import CALENDARS
from service.catalog.draft import DeploymentDraft, Draft, ModelDraft
from service.catalog.fields import ENV_REFERENCE
from service.catalog.price_book import Pricing, book_of, calendar_of
from service.catalog.problems import Problems
from service.catalog.schema import (
    BudgetEntry,
    CacheEntry,
    LimitsEntry,
    PolicyEntry,
    ProviderEntry,
    RouteEntry,
    SelectorEntry,
    TimeoutsEntry,
)
from service.catalog.words import BUILTIN_POLICIES
from service.domain.catalog import (
    CacheSpec,
    Catalog,
    Deployment,
    Model,
    PolicySpec,
    Provider,
    ProviderLimits,
    RouteCondition,
    RouteSpec,
    Selector,
    Timeouts,
)
from service.domain.hosts import is_loopback
from service.domain.limits import Budget, Limits
from service.domain.money import FX_SCALE, Fx, pusd_from_usd
from service.domain.prices import Calendar


@dataclass(frozen=True, slots=True)
class Setting:
    """What a build needs beside the entries: the environment, the instant, notes so far, the version's name."""

    environ: Mapping[str, str] = field(repr=False)
    now: datetime
    notes: Sequence[str]
    version: str


def build(draft: Draft, setting: Setting, problems: Problems) -> Catalog:
    """The catalogue of a draft. When `problems` holds anything afterwards, the answer must not be used."""
    head = draft.head
    pricing = _pricing(draft, problems)
    providers = {name: _provider(name, found.entry, setting.environ) for name, found in draft.providers.items()}
    made = (_model(name, found, providers, pricing, problems) for name, found in draft.models.items())
    models = {model.name: model for model in made if model is not None}
    policies = dict(BUILTIN_POLICIES)
    policies.update({name: _policy(name, found.entry) for name, found in draft.policies.items()})
    remarks = [*setting.notes, *_remarks(draft), *_unapplied(models, setting.now)]
    return Catalog(
        providers=providers,
        models=models,
        policies=policies,
        routes=tuple(_route(found.entry) for found in draft.routes),
        default_policy="balanced" if head is None else head.default_policy,
        baseline=None if head is None else head.baseline,
        budgets=tuple(_budget(found.entry) for found in draft.budgets),
        cache=None if head is None else _cache(head.cache),
        version=setting.version,
        notes=tuple(remarks),
        by_id={one.id: one for model in models.values() for one in model.deployments},
    )


def _pricing(draft: Draft, problems: Problems) -> Pricing:
    fx = None
    if draft.head is not None:
        currency = draft.head.currency
        fx = {name: Fx(name, int(rate * FX_SCALE), currency.as_of) for name, rate in currency.rates.items()}
        fx["USD"] = Fx()
    # A calendar that failed stays known by name: the catalogue won't be used, and the window is not to blame.
    calendars = {name: Calendar(name, UTC, frozenset(), date.max) for name in draft.names.get("calendars", ())}
    calendars = CALENDARS | calendars
    for name, found in draft.calendars.items():
        made = calendar_of(name, found, problems)
        if made is not None:
            calendars[name] = made
    regions = {name: found.entry.price_region for name, found in draft.providers.items() if found.entry.price_region}
    return Pricing(fx, calendars, regions)


def _provider(name: str, entry: ProviderEntry, environ: Mapping[str, str]) -> Provider:
    keys, reason = _secrets(entry.api_key or (), environ)
    headers: dict[str, str] = {}
    for header, value in entry.headers.items():
        reference = ENV_REFERENCE.match(value)
        if reference is None:
            headers[header] = value
            continue
        found, missing = _secrets((value,), environ)
        if missing is None:
            headers[header] = found[0]
        reason = reason or missing
    awaits_key = entry.enabled and reason is not None
    if not entry.enabled:
        reason = entry.disabled_reason or "disabled"
    quirks = (quirk.partition(":") for quirk in entry.quirks)
    return Provider(
        name=name,
        base_url=entry.base_url.rstrip("/"),
        protocol=entry.protocol,
        api_keys=keys,
        region=entry.region,
        tags=frozenset(entry.tags),
        timeouts=_timeouts(entry.timeouts),
        limits=_limits(entry.limits),
        quirks={word: value for word, _, value in quirks},
        headers=headers,
        inactive_reason=reason,
        title=entry.title or "",
        awaits_key=awaits_key,
    )


def _secrets(references: Sequence[str], environ: Mapping[str, str]) -> tuple[tuple[str, ...], str | None]:
    """The values of `${env:NAME}` references that are set, and why there is none when none is."""
    names = [match[1] for reference in references if (match := ENV_REFERENCE.match(reference))]
    values: list[str] = []
    for name in names:
        value = environ.get(name, "").strip()
        if not value:
            continue
        if not (value.isascii() and value.isprintable()):
            return (), f"the value of {name} holds characters that no header can carry; set it again"
        values.append(value)
    if names and not values:
        return (), f"set {' or '.join(names)} to use it"
    return tuple(dict.fromkeys(values)), None


def _timeouts(entry: TimeoutsEntry | None) -> Timeouts:
    default = Timeouts()
    if entry is None:
        return default
    return Timeouts(
        connect_s=_seconds(entry.connect_s, default.connect_s),
        first_token_s=_seconds(entry.first_token_s, default.first_token_s),
        idle_s=_seconds(entry.idle_s, default.idle_s),
        total_s=_seconds(entry.total_s, default.total_s),
    )


def _seconds(value: Decimal | None, default: float) -> float:
    return default if value is None else float(value)


def _limits(entry: LimitsEntry | None) -> ProviderLimits:
    if entry is None:
        return ProviderLimits()
    return ProviderLimits(entry.concurrency, entry.requests_per_minute, entry.tokens_per_minute)


def _model(
    name: str, draft: ModelDraft, providers: Mapping[str, Provider], pricing: Pricing, problems: Problems
) -> Model | None:
    """A model; `None` when its entry failed, after the prices below it were looked at."""
    entry = draft.entry
    reason = None if entry is None or entry.enabled else entry.disabled_reason or "disabled"
    made = [_deployment(name, one, providers, pricing, problems, reason) for one in draft.deployments]
    if entry is None:
        return None
    return Model(
        name=name,
        deployments=tuple(one for one in made if one is not None),
        context_tokens=entry.context_tokens,
        output_tokens_max=entry.output_tokens_max,
        modalities=frozenset(entry.modalities),
        capabilities=frozenset(entry.capabilities),
        languages=frozenset(entry.languages),
        quality={intent: float(share) for intent, share in entry.quality.items()},
        quality_source=entry.quality_source or "",
        reasoning_tokens=dict(entry.reasoning_tokens),
        tags=frozenset(entry.tags),
        retires=entry.retires,
        inactive_reason=reason,
    )


def _deployment(
    model: str,
    draft: DeploymentDraft,
    providers: Mapping[str, Provider],
    pricing: Pricing,
    problems: Problems,
    model_reason: str | None,
) -> Deployment | None:
    entry = draft.entry
    prices = book_of(f"{draft.provider}/{model}", draft, pricing, problems)
    provider = providers.get(draft.provider)
    if entry is None or provider is None:
        return None
    return Deployment(
        provider=provider,
        model=model,
        wire_name=entry.name,
        prices=prices,
        context_tokens=entry.context_tokens,
        output_tokens_max=entry.output_tokens_max,
        capabilities=None if entry.capabilities is None else frozenset(entry.capabilities),
        inactive_reason=model_reason if entry.enabled else entry.disabled_reason or "disabled",
    )


def _policy(name: str, entry: PolicyEntry) -> PolicySpec:
    ceiling = None if entry.max_cost_usd is None else pusd_from_usd(entry.max_cost_usd)
    return PolicySpec(
        name=name,
        objective=entry.objective,
        min_quality=float(entry.min_quality or 0),
        relative_to_best=float(entry.relative_to_best or 0),
        max_cost_pusd=ceiling,
        max_latency_ms=entry.max_latency_ms,
        allow=_selector(entry.allow),
        deny=_selector(entry.deny),
        on_unavailable=entry.on_unavailable,
        min_quality_for={intent: float(share) for intent, share in entry.min_quality_for.items()},
        pusd_per_quality=None if entry.usd_per_quality is None else pusd_from_usd(entry.usd_per_quality),
        explore=0.0 if ceiling is None else float(entry.explore or 0),  # without one it is told as a problem
    )


def _selector(entry: SelectorEntry | None) -> Selector:
    if entry is None:
        return Selector()
    return Selector(
        frozenset(entry.models), frozenset(entry.providers), frozenset(entry.regions), frozenset(entry.tags)
    )


def _route(entry: RouteEntry) -> RouteSpec:
    when = entry.when
    condition = RouteCondition(
        key_tags=frozenset(when.key_tag or ()),
        intents=frozenset(when.intent or ()),
        languages=frozenset(when.languages or ()),
        models=frozenset(when.model or ()),
    )
    return RouteSpec(entry.name, condition, entry.policy, entry.plan, entry.model)


def _budget(entry: BudgetEntry) -> Budget:
    limits = Limits(
        day_pusd=None if entry.usd_per_day is None else pusd_from_usd(entry.usd_per_day),
        month_pusd=None if entry.usd_per_month is None else pusd_from_usd(entry.usd_per_month),
        requests_per_minute=entry.requests_per_minute,
        tokens_per_minute=entry.tokens_per_minute,
        concurrency=entry.concurrency,
        soft=entry.soft,
    )
    return Budget(entry.name, limits, entry.tag, entry.stop)


def _cache(entry: CacheEntry | None) -> CacheSpec | None:
    if entry is None:
        return None
    return CacheSpec(entry.ttl_s, entry.answer_bytes_max, entry.memory_bytes, entry.sampled)


def _remarks(draft: Draft) -> list[str]:
    """What is odd but may be meant: keys over plain http, tiers that leave cached input at its full price."""
    remarks: list[str] = []
    for name, provider in draft.providers.items():
        url = provider.entry.base_url
        if url.lower().startswith("http:") and provider.entry.api_key and not is_loopback(urlsplit(url).hostname or ""):
            remarks.append(f"providers.{name}: the key travels over plain http; use https outside your own network")
    for model, found in draft.models.items():
        for one in found.deployments:
            for price in one.prices or ():
                if price.entry.cache_read is not None and any(tier.cache_read is None for tier in price.entry.tiers):
                    day: date = price.entry.from_day
                    remarks.append(
                        f"{one.provider}/{model} from {day}: a tier states no cache_read; "
                        "cached input counts at the tier's input price"
                    )
    return remarks


def _unapplied(models: Mapping[str, Model], now: datetime) -> Iterator[str]:
    """Deployments whose listed prices don't speak about today."""
    for model in models.values():
        for one in model.deployments:
            if one.prices.versions and one.prices.version_at(now) is None:
                yield f"{one.id}: none of its prices applies on {now.date()}; its price is unknown"
