"""What an operator should know about a catalogue that loaded: inactive, unpriced, retired, out of reach, about to end.

Where on the path: start-up prints it, `coe check` is it, readiness takes its unpriced deployments. Pure.

Invariants
1. Nothing here is an error of the file: those were raised by `load`.
2. A deployment is *active* when its provider can be called, nothing switched it or its model off, and its model is not
   retired today.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.catalog import Catalog, Deployment, Model, PolicySpec, Selector
from service.domain.prices import Calendar

WARN_DAYS = 60
"""How long before a retirement or the end of a calendar the report speaks of it."""

STALE_RATE_DAYS = 31
"""Age from which an exchange rate is reported; in a month the yuan moves by about one percent."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what it is about, and what to know. `active` is whether requests can meet it today."""

    subject: str
    detail: str
    active: bool = True


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is, and how much of it can be used now. A provider is active when one of its deployments is."""

    providers: int = 0
    providers_active: int = 0
    models: int = 0
    models_active: int = 0
    deployments: int = 0
    deployments_active: int = 0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything `check` found, each list in the order of the file.

    `unpriced` names every deployment that is switched on and has no complete price today, also of providers without a
    key (`Finding.active` tells). Models without an active deployment are `waiting` when all they lack is a key, else
    `unreachable`. `serving` names the active providers.
    """

    version: str
    counts: Counts
    serving: tuple[str, ...] = ()
    inactive_providers: tuple[Finding, ...] = ()
    unpriced: tuple[Finding, ...] = ()
    retired: tuple[Finding, ...] = ()
    retiring: tuple[Finding, ...] = ()
    unreachable: tuple[Finding, ...] = ()
    waiting: tuple[Finding, ...] = ()
    calendars: tuple[Finding, ...] = ()
    exchange_rates: tuple[Finding, ...] = ()
    baseline: Finding | None = None
    policies: tuple[Finding, ...] = ()
    budgets: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def usable(self) -> bool:
        """Whether any request can be answered at all."""
        return self.counts.deployments_active > 0


def check(catalog: Catalog, *, now: datetime) -> CheckReport:
    """The report on a catalogue at an aware instant. Raises ValueError when `now` has no time zone."""
    if now.tzinfo is None:
        raise ValueError("check needs an aware instant; pass datetime.now(UTC)")
    everything = [(model, one) for model in catalog.models.values() for one in model.deployments]
    active = [one for model, one in everything if _obstacle(one, model, now) is None]
    active_models = {one.model for one in active}
    called = {one.provider.name for one in active}
    serving = tuple(name for name in catalog.providers if name in called)
    unreachable, waiting = _out_of_reach(catalog, active_models, now)
    return CheckReport(
        version=catalog.version,
        counts=Counts(
            providers=len(catalog.providers),
            providers_active=len(serving),
            models=len(catalog.models),
            models_active=len(active_models),
            deployments=len(everything),
            deployments_active=len(active),
        ),
        serving=serving,
        inactive_providers=tuple(
            Finding(name, provider.inactive_reason, active=False)
            for name, provider in catalog.providers.items()
            if provider.inactive_reason is not None
        ),
        unpriced=tuple(_unpriced(catalog, now)),
        retired=tuple(
            Finding(name, f"retired on {model.retires}; remove it or name its successor", active=False)
            for name, model in catalog.models.items()
            if model.retired(now.date())
        ),
        retiring=tuple(_retiring(catalog, now)),
        unreachable=unreachable,
        waiting=waiting,
        calendars=tuple(_calendars(catalog, now)),
        exchange_rates=tuple(_exchange_rates(catalog, now)),
        baseline=_baseline(catalog, now),
        policies=tuple(_policies(catalog, active, now)),
        budgets=tuple(
            Finding(one.name, f"{one.limits.words()}; {'every request' if one.tag is None else f'tag {one.tag}'}")
            for one in catalog.budgets
        ),
        notes=catalog.notes,
    )


def _obstacle(one: Deployment, model: Model, now: datetime) -> str | None:
    """Why a deployment can't be called, or `None` when it is active."""
    if model.inactive_reason is not None:
        return model.inactive_reason
    if one.inactive_reason is not None:
        return one.inactive_reason
    if model.retired(now.date()):
        return f"retired on {model.retires}"
    return one.provider.inactive_reason


def price_gap(one: Deployment, now: datetime) -> str | None:
    """Why a deployment has no complete price at an instant, or `None` when it has one."""
    book = one.prices
    if book.self_hosted is None and not book.versions:
        return "no price in the file"
    quote = book.quote(now)
    if quote is not None:
        return None if quote.known else "a tier without input or output price"
    version = book.version_at(now)
    if version is not None:
        return f"its price from {version.start.date()} is unknown (null)"
    if book.versions[0].start > now:
        return f"its first price begins on {book.versions[0].start.date()}"
    ended = [version.end.date() for version in book.versions if version.end is not None and version.end <= now]
    return f"its last price ended on {max(ended)}"


def _unpriced(catalog: Catalog, now: datetime) -> Iterator[Finding]:
    for model in catalog.models.values():
        if model.inactive_reason is not None or model.retired(now.date()):
            continue
        for one in model.deployments:
            gap = price_gap(one, now)
            if one.inactive_reason is None and gap is not None:
                yield Finding(one.id, f"{gap}; not eligible under a budget", active=one.provider.active)


def _retiring(catalog: Catalog, now: datetime) -> Iterator[Finding]:
    today = now.date()
    for name, model in catalog.models.items():
        if model.retires is not None and today < model.retires <= today + timedelta(days=WARN_DAYS):
            days = (model.retires - today).days
            yield Finding(name, f"retires on {model.retires}, in {days} days", active=model.inactive_reason is None)


def _out_of_reach(
    catalog: Catalog, active_models: set[str], now: datetime
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Models without an active deployment: those that can't have one as the file stands, and those that wait."""
    unreachable: list[Finding] = []
    waiting: list[Finding] = []
    for name, model in catalog.models.items():
        if name in active_models:
            continue
        obstacles = {one.provider.name: _obstacle(one, model, now) for one in model.deployments}
        if model.inactive_reason is not None:
            reason = model.inactive_reason
        elif not obstacles:
            reason = "no deployment; add one"
        else:
            reason = "; ".join(f"{provider}: {obstacle}" for provider, obstacle in obstacles.items())
        keyless = (catalog.providers[provider] for provider in obstacles if catalog.providers[provider].awaits_key)
        waits = any(obstacles[provider.name] == provider.inactive_reason for provider in keyless)
        (waiting if waits else unreachable).append(Finding(name, reason, active=False))
    return tuple(unreachable), tuple(waiting)


def _calendars(catalog: Catalog, now: datetime) -> Iterator[Finding]:
    used: dict[str, Calendar] = {}
    for one in catalog.deployments():
        for version in one.prices.versions:
            if version.end is not None and version.end <= now:
                continue
            for window in version.windows:
                if window.except_on is not None:
                    used.setdefault(window.except_on.name, window.except_on)
    for name, calendar in used.items():
        if calendar.until > now.date() + timedelta(days=WARN_DAYS):
            continue
        said = "ended" if calendar.until < now.date() else "ends"
        yield Finding(
            name,
            f"{said} on {calendar.until}; after it no day is excepted and windows apply on holidays too: "
            f"write calendars.{name} with the new days",
        )


def _exchange_rates(catalog: Catalog, now: datetime) -> Iterator[Finding]:
    seen = {name: fx for one in catalog.deployments() for name, fx in one.prices.fx.items()}
    for name, fx in seen.items():
        if fx.as_of is not None and (now.date() - fx.as_of).days >= STALE_RATE_DAYS:
            yield Finding(name, f"{fx.as_text()} USD, read on {fx.as_of}: {(now.date() - fx.as_of).days} days old")


def _baseline(catalog: Catalog, now: datetime) -> Finding | None:
    """What is wrong with the baseline, if anything: savings can't be counted against an unknown price."""
    if catalog.baseline is None:
        return Finding("baseline", "none; savings are not counted")
    model = catalog.models[catalog.baseline]
    gaps = [gap for one in model.deployments if (gap := price_gap(one, now)) is not None]
    if len(gaps) < len(model.deployments):
        return None
    reason = gaps[0] if gaps else "no deployment"
    return Finding(catalog.baseline, f"the baseline has no price ({reason}); savings are not counted")


def _policies(catalog: Catalog, active: list[Deployment], now: datetime) -> Iterator[Finding]:
    for name, policy in catalog.policies.items():
        gap = _policy_gap(catalog, policy, active, now)
        if gap is not None:
            yield Finding(name, gap, active=name == catalog.default_policy)


def _policy_gap(catalog: Catalog, policy: PolicySpec, active: list[Deployment], now: datetime) -> str | None:
    """Why no active deployment can ever meet a policy, or `None` when one can."""
    left = [one for one in active if _matches(policy, one, catalog.models[one.model])]
    if not left:
        return "no active deployment" if not active else "no active deployment is allowed by it"
    budgeted = any(one.tag is None and one.limits.hard_money for one in catalog.budgets)
    if policy.max_cost_pusd is not None or budgeted:
        left = [one for one in left if price_gap(one, now) is None]
        if not left:
            why = "it limits cost" if policy.max_cost_pusd is not None else "every request is under a hard budget"
            return f"{why}, and no deployment that it allows has a price"
    best, model = max((_best_quality(catalog.models[one.model]), one.model) for one in left)
    if best < policy.min_quality:
        return f"min_quality is {policy.min_quality:g}, and the best prior is {best:g} ({model})"
    for intent, least in policy.min_quality_for.items():
        best, model = max((catalog.models[one.model].quality_for(intent), one.model) for one in left)
        if best < least:
            return f"min_quality_for {intent} is {least:g}, and the best prior is {best:g} ({model})"
    return None


def _best_quality(model: Model) -> float:
    """The highest prior over all intents."""
    return max((model.quality_for("default"), *model.quality.values()))


def _matches(policy: PolicySpec, one: Deployment, model: Model) -> bool:
    """Whether a policy's allow and deny let a deployment through: every allow field holds, no deny field does."""
    return all(_in(one, model, policy.allow)) and not any(_in(one, model, policy.deny))


def _in(one: Deployment, model: Model, selector: Selector) -> Iterator[bool]:
    """For each field of a selector that names something, whether the deployment is among the named."""
    own = {
        "model": frozenset({model.name, one.id}),
        "provider": frozenset({one.provider.name}),
        "region": frozenset({one.provider.region}),
        "tag": one.provider.tags | model.tags,
    }
    for noun, names in selector.fields():
        yield bool(own[noun] & names)
